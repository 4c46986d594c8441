"""What the OpenAPI document cannot read off the code: which problems an operation answers with, and forms that are streamed."""

import re
from http import HTTPStatus
from typing import Any

from spinepaint.app.problems import MEDIA_TYPE
from spinepaint.app.schemas import InpaintSpec

TEXT = {"type": "string"}
BINARY = {"schema": {"type": "string", "format": "binary"}}
RETRY_AFTER = {"Retry-After": {"description": "Seconds after which to ask again", "schema": {"type": "integer"}}}
LOCATION = {"Location": {"description": "Where it is", "schema": TEXT}}
_RETRIED = (409, 429, 503)

PROBLEM: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": TEXT,
        "status": {"type": "integer"},
        "detail": TEXT,
        "instances": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"file": TEXT, "sop_instance_uid": {"type": ["string", "null"]}, "reason": TEXT},
            },
        },
        "jobs": {"type": "array", "items": {"type": "string", "format": "uuid"}},
        "errors": {"type": "array", "items": {"type": "object", "properties": {"at": TEXT, "reason": TEXT}}},
    },
}
"""A problem document (RFC 9457) with the extension members that there are."""

Answers = dict[int | str, dict[str, Any]]


def answers(*problems: int, **own: dict[str, Any]) -> Answers:
    """The `responses` of a route: a problem document for each of these statuses, and its own, as in `_200`."""
    found: Answers = {int(name.removeprefix("_")): answer for name, answer in own.items()}
    for status in problems:
        headers = {"headers": RETRY_AFTER} if status in _RETRIED else {}
        content = {MEDIA_TYPE: {"schema": PROBLEM}}
        found[status] = {"description": HTTPStatus(status).phrase, "content": content, **headers}
    return found


PROBLEMS = answers(400, 403, 408, 421, 422, 500, 503)
"""What every operation may answer with: of the connection, of who asks from where, of the parameters, of the service."""
OF_KEYS = answers(401, 429)
"""And what those that need a key may answer with besides."""
SENT = (413, 415)
"""And those that are sent something."""

READY: dict[str, Any] = {
    "description": "Requests are served; `degraded` names parts without which jobs only wait",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["status"],
                "properties": {
                    "status": {"enum": ["ready", "degraded"]},
                    "detail": TEXT,
                    "failing": {"type": "array", "items": TEXT},
                },
            }
        }
    },
}


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


def multipart(**fields: dict[str, Any]) -> dict[str, Any]:
    """`openapi_extra` of a route that streams `files`, with its text fields' schemas beside them."""
    files = {"type": "array", "items": {"type": "string", "format": "binary"}, "description": "DICOM files, or one zip"}
    # What is no object is sent as text, so a field that holds JSON says so by its encoding.
    encoding = {name: {"contentType": "application/json"} for name, schema in fields.items() if "properties" in schema}
    required = ["files", *encoding]
    schema = {"type": "object", "required": required, "additionalProperties": False, "properties": {"files": files, **fields}}
    content: dict[str, Any] = {"schema": schema} | ({"encoding": encoding} if encoding else {})
    return {"requestBody": {"required": True, "content": {"multipart/form-data": content}}}


def named_in(path: str, **schemas: dict[str, Any]) -> list[dict[str, Any]]:
    """The parameters of a route that takes what its path names out of the request itself."""
    return [
        {"name": name, "in": "path", "required": True, "schema": schemas.get(name, TEXT)} for name in re.findall(r"{(\w+)}", path)
    ]


SERIES_UID = {"type": "string", "description": "Which series, where the upload holds several"}
SPEC = inlined(InpaintSpec.model_json_schema())
