"""What the OpenAPI document says of DICOMweb: media types, and the answers that are no problem documents."""

from typing import Any

from spinepaint.app.dicom_web.media import COMPRESSED, DICOM, DICOM_JSON, OCTETS, RELATED
from spinepaint.app.dicom_web.query import MAX_RESULTS
from spinepaint.app.openapi import BINARY, SENT, TEXT, answers

_DATASET = {"type": "object", "additionalProperties": {"type": "object", "properties": {"vr": TEXT}}}
_DATASETS = {DICOM_JSON: {"schema": {"type": "array", "items": _DATASET}}}
_STORED = {DICOM_JSON: {"schema": _DATASET}}
_WARNING = {"Warning": {"description": "What was not done as asked (PS3.18 8.3.4)", "schema": TEXT}}
_MEDIA_TYPES = (RELATED, DICOM, OCTETS, *sorted(set(COMPRESSED.values())))

STORED = answers(
    406,
    *SENT,
    _200={"description": "All instances were stored", "content": _STORED},
    _202={"description": "Some were; the others have a reason each", "content": _STORED},
    _409={"description": "None was; each has a reason", "content": _STORED},
)
FOUND = answers(
    406,
    _200={"description": "What was found", "content": _DATASETS, "headers": _WARNING},
    _204={"description": "Nothing was found", "headers": _WARNING},
)
DESCRIBED = answers(404, 406, _200={"description": "The attributes", "content": _DATASETS})
RETRIEVED = answers(404, 406, _200={"description": "What is asked for", "content": dict.fromkeys(_MEDIA_TYPES, BINARY)})

STORE_BODY = {
    "requestBody": {
        "required": True,
        "description": "Each part is one instance; the media type has the parameter `type`",
        "content": {f'{RELATED}; type="{DICOM}"': BINARY},
    }
}


def _asked(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": description}


_WHOLE = {"type": "integer", "minimum": 0, "maximum": 999_999_999}
QUERY = (
    _asked("limit", _WHOLE, f"How many results; {MAX_RESULTS} at most"),
    _asked("offset", _WHOLE, "How many to pass over"),
    _asked("includefield", TEXT, "Attributes to tell of besides, by keyword or tag, separated by commas; `all`"),
    _asked("fuzzymatching", {"type": "boolean"}, "Not done; a Warning says so"),
)
"""Beside these any attribute can be matched that docs/6-dicomweb.md names, by its keyword or tag."""
