"""What the OpenAPI document says of batches beyond what it reads off the code."""

from copy import deepcopy
from http import HTTPStatus
from typing import Any

from spinepaint.app.batch_request import JSON, JSON_LINES, BatchLine, BatchRequest
from spinepaint.app.openapi import PROBLEMS
from spinepaint.app.problems import MEDIA_TYPE
from spinepaint.app.results import ZIP

_TEXT = {"type": "string"}
_WHOLE = {"schema": {"type": "integer"}}
_RETRY_AFTER = {"Retry-After": {"description": "Seconds after which to ask again", **_WHOLE}}
_RETRIED = (409, 429, 503)


def answers(*problems: int, **own: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route: a problem document for each of these statuses, and its own, as in `_200`."""
    found: dict[int | str, dict[str, Any]] = {int(name.removeprefix("_")): answer for name, answer in own.items()}
    for status in problems:
        headers = {"headers": _RETRY_AFTER} if status in _RETRIED else {}
        found[status] = {"description": HTTPStatus(status).phrase, "content": PROBLEMS["4XX"]["content"], **headers}
    return found


def inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema with what it refers to by `$defs` in its place: a reference would not be found within a larger document."""
    definitions = schema.get("$defs", {})

    def resolved(value: Any) -> Any:
        if isinstance(value, list):
            return [resolved(each) for each in value]
        if not isinstance(value, dict):
            return value
        rest = {name: resolved(each) for name, each in value.items() if name not in ("$ref", "$defs")}
        target = value.get("$ref")
        return {**resolved(definitions[target.rpartition("/")[2]]), **rest} if target else rest

    whole: dict[str, Any] = resolved(schema)
    return whole


def _with_items() -> dict[str, Any]:
    problem = deepcopy(PROBLEMS["4XX"]["content"][MEDIA_TYPE]["schema"])
    item = {"index": {"type": "integer"}, "at": _TEXT, "type": _TEXT, "reason": _TEXT}
    problem["properties"]["items"] = {"type": "array", "items": {"type": "object", "properties": item}}
    return {
        "description": "Items that cannot be taken, each with its index and the reason; none was",
        "content": {MEDIA_TYPE: {"schema": problem}},
    }


ITEMS_REFUSED = _with_items()
ACCEPTED = {
    "description": "Queued",
    "headers": _RETRY_AFTER | {"Location": {"description": "Where the batch is", "schema": _TEXT}},
}
UNTIL_IT_ENDS = {"headers": _RETRY_AFTER}
RESULT = {"description": "The zip", "content": {ZIP: {"schema": {"type": "string", "format": "binary"}}}}
BATCH_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            JSON: {"schema": inlined(BatchRequest.model_json_schema())},
            JSON_LINES: {"schema": inlined(BatchLine.model_json_schema()) | {"description": "One item a line"}},
        },
    }
}
