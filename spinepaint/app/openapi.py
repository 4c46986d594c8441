"""What the OpenAPI document cannot read off the code: problem documents, and forms that are streamed."""

from typing import Any

from spinepaint.app.problems import MEDIA_TYPE
from spinepaint.app.schemas import InpaintSpec

_TEXT = {"type": "string"}
_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": _TEXT,
        "status": {"type": "integer"},
        "detail": _TEXT,
        "instances": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"file": _TEXT, "sop_instance_uid": {"type": ["string", "null"]}, "reason": _TEXT},
            },
        },
        "jobs": {"type": "array", "items": {"type": "string", "format": "uuid"}},
        "errors": {"type": "array", "items": {"type": "object", "properties": {"at": _TEXT, "reason": _TEXT}}},
    },
}


def _problem(description: str) -> dict[str, Any]:
    return {"description": description, "content": {MEDIA_TYPE: {"schema": _PROBLEM}}}


PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": _problem("Refused: a problem document (RFC 9457)"),
    422: _problem("The request or the input cannot be used"),
    "5XX": _problem("The service failed"),
}


def multipart(**fields: dict[str, Any]) -> dict[str, Any]:
    """`openapi_extra` of a route that streams `files`, with its text fields' schemas beside them."""
    files = {"type": "array", "items": {"type": "string", "format": "binary"}, "description": "DICOM files, or one zip"}
    schema = {"type": "object", "required": ["files"], "properties": {"files": files, **fields}}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


SERIES_UID = {"type": "string", "description": "Which series, where the upload holds several"}
SPEC = InpaintSpec.model_json_schema()
