"""STOW-RS: DICOM instances in, streamed to disk, read and judged as any upload is (PS3.18 10.5)."""

import textwrap
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.responses import JSONResponse, Response

from spinepaint.app.arriving import DEFAULT_PATIENCE, Patience
from spinepaint.app.dicom_web.media import DICOM, DICOM_JSON, RELATED
from spinepaint.app.dicom_web.query import UID
from spinepaint.app.dicom_web.results import attribute
from spinepaint.app.intake import Stored
from spinepaint.app.upload_form import Form, Upload
from spinepaint.app.uploads import boundary_of, drain, streamed
from spinepaint.imaging.caps import Caps
from spinepaint.imaging.errors import Refusal

_COMMENT_LETTERS = 64  # of a Long String
_CREATOR = "SPINEPAINT"


class _Parts(Form):
    """The parts of a multipart/related body, each one DICOM file."""

    def part_begin(self, headers: Mapping[bytes, bytes]) -> None:
        """Take a part that is an instance, or does not say what it is. Raises Refusal 415 for any other."""
        kind, _options = parse_options_header(headers.get(b"content-type", DICOM.encode()))
        if kind != DICOM.encode():
            detail = f"Each part is one instance, {DICOM}; metadata with separate bulk data are not taken."
            raise Refusal("unsupported-media-type", "A part is of a media type that is not stored.", detail, status=415)
        self.open_file("")


@asynccontextmanager
async def received_instances(
    request: Request, parent: Path, caps: Caps, patience: Patience = DEFAULT_PATIENCE
) -> AsyncIterator[Upload]:
    """Stream the request's parts into a fresh folder in `parent`, and remove it at the end. Raises Refusal as an upload does."""
    boundary = boundary_of(request, RELATED.encode(), f"Each part is one instance, {DICOM}.")
    _kind, options = parse_options_header(request.headers.get("content-type"))
    if options.get(b"type", b"").lower() != DICOM.encode():
        raise Refusal("unsupported-media-type", f'Send {RELATED}; type="{DICOM}".', status=415)
    async with streamed(request, parent, caps, boundary, lambda upload: _Parts(upload, caps, frozenset()), patience) as upload:
        if not upload.names:
            raise Refusal("no-files", "The request has no instances.", status=400)
        yield upload


async def require_study(request: Request, study: str | None) -> None:
    """Raise Refusal 400 where the study in the path has no UID (PS3.18 10.5.1)."""
    if study is not None and not UID.fullmatch(study):
        await drain(request)
        raise Refusal("invalid-request", "The path has a UID that is none.", status=400)


def store_response(stored: Stored, root: str) -> Response:
    """What became of each instance (PS3.18 10.5.3): 200 all were stored, 202 some, 409 none.

    For each series that is kept, a Link (RFC 8288) says which one of `/v1/series` it is.
    """
    references, links = [], []
    for series, dicom in stored.series:
        links.append(f'</v1/series/{series.id}>; rel="item"; title="{dicom.series_uid}"')
        references += [_stored_item(dicom.study_uid, dicom.series_uid, i.indexed, root) for i in dicom.instances]
    studies = {dicom.study_uid for _, dicom in stored.series}
    body: dict[str, Any] = {}
    if len(studies) == 1:
        body["00081190"] = attribute("UR", f"{root}/studies/{studies.pop()}")
    named = [failure for failure in stored.failures if failure["sop_instance_uid"]]
    nameless = [failure for failure in stored.failures if not failure["sop_instance_uid"]]
    for tag, items in (
        ("00081198", [_failed_item(failure) for failure in named]),
        ("00081199", references),
        ("0008119A", [_failed_item(failure) for failure in nameless]),
    ):
        if items:
            body[tag] = attribute("SQ", *items)
    status = (202 if stored.failures else 200) if references else 409
    headers = {"Link": ", ".join(links)} if links else None
    return JSONResponse(body, status, headers, media_type=DICOM_JSON)


def _stored_item(study_uid: str, series_uid: str, indexed: Mapping[str, Any], root: str) -> dict[str, Any]:
    url = f"{root}/studies/{study_uid}/series/{series_uid}/instances/{indexed['sop_instance_uid']}"
    return _referenced(indexed["sop_class_uid"], indexed["sop_instance_uid"]) | {"00081190": attribute("UR", url)}


def _failed_item(failure: Mapping[str, Any]) -> dict[str, Any]:
    """Failure Reason, and in words Error Comment (0000,0902), which is no part of the module but read by people.

    That holds 64 characters; the whole text is in the private attribute (0009,1001) of SPINEPAINT.
    """
    item = _referenced(failure["sop_class_uid"], failure["sop_instance_uid"])
    item["00000902"] = attribute("LO", shortened(failure["reason"]))
    item["00081197"] = attribute("US", failure["code"])
    item["00090010"] = attribute("LO", _CREATOR)
    item["00091001"] = attribute("UT", failure["reason"])
    return dict(sorted(item.items()))


def shortened(text: str, letters: int = _COMMENT_LETTERS) -> str:
    """The whole sentences at the beginning of a text, or where not even one fits as many words, with an ellipsis."""
    if len(text) <= letters:
        return text
    sentence, stop, _rest = text[: letters + 1].rpartition(". ")
    if stop:
        return sentence + "."
    return textwrap.shorten(text, letters, placeholder="…")


def _referenced(sop_class_uid: str | None, sop_instance_uid: str | None) -> dict[str, Any]:
    values = {"00081150": sop_class_uid, "00081155": sop_instance_uid}
    return {tag: attribute("UI", value) for tag, value in values.items() if value}
