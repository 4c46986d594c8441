"""What the OpenAPI document says of batches beyond what it reads off the code."""

from copy import deepcopy
from typing import Any

from spinepaint.app.batch_request import JSON, JSON_LINES, BatchLine, BatchRequest
from spinepaint.app.openapi import BINARY, LOCATION, PROBLEM, RETRY_AFTER, TEXT, inlined
from spinepaint.app.problems import MEDIA_TYPE
from spinepaint.app.results import ZIP


def _with_items() -> dict[str, Any]:
    problem = deepcopy(PROBLEM)
    item = {"index": {"type": "integer"}, "at": TEXT, "type": TEXT, "reason": TEXT}
    problem["properties"]["items"] = {"type": "array", "items": {"type": "object", "properties": item}}
    return {
        "description": "Items that cannot be taken, each with its index and the reason; none was",
        "content": {MEDIA_TYPE: {"schema": problem}},
    }


ITEMS_REFUSED = _with_items()
ACCEPTED = {"description": "Queued", "headers": RETRY_AFTER | LOCATION}
UNTIL_IT_ENDS = {"headers": RETRY_AFTER}
RESULT = {"description": "The zip", "content": {ZIP: BINARY}}
BATCH_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            JSON: {"schema": inlined(BatchRequest.model_json_schema())},
            JSON_LINES: {"schema": inlined(BatchLine.model_json_schema()) | {"description": "One item a line"}},
        },
    }
}
