"""WADO-RS: instances, frames, bulk data and metadata out, a piece at a time (PS3.18 10.4)."""

import json
import secrets
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from starlette.responses import StreamingResponse

from spinepaint.app.decoding import Decoder
from spinepaint.app.dicom_web.media import DICOM, DICOM_JSON, EXPLICIT_LITTLE, OCTETS, RELATED, Representation
from spinepaint.app.dicom_web.results import attribute, instance_url
from spinepaint.imaging.errors import Refusal
from spinepaint.store.artifacts import ArtifactStore
from spinepaint.store.dicom_book import Located
from spinepaint.store.ledger import Ledger

PIXEL_DATA = "7FE00010"
CHARACTER_SET = "00080005"
_UTF8 = {CHARACTER_SET: attribute("CS", "ISO_IR 192")}
_METADATA_AT_A_TIME = 50
_CHUNK_BYTES = 1 << 20
Content = Callable[[], Iterator[bytes]]
Part = tuple[str, str, Content]
"""Content-Type, Content-Location, and what yields the bytes."""


class Archive:
    """What retrieval reads from: the artifact store, and a scratch folder for instances that have to be decoded."""

    def __init__(self, artifacts: ArtifactStore, scratch: Path) -> None:
        """`scratch` is made where it is missing."""
        self.artifacts = artifacts
        self._scratch = scratch

    def require(self, at: Located) -> None:
        """Raise Refusal 404 where the file is gone, as when its series was deleted a moment ago."""
        if not self.artifacts.exists(at.instance.artifact_key):
            raise Refusal("not-found", "There is no such instance.", status=404)

    def ranges(self, key: str, ranges: Sequence[Sequence[int]]) -> Iterator[bytes]:
        """Ranges of a file, one after the other, in pieces."""
        for start, length in ranges:
            for at in range(start, start + length, _CHUNK_BYTES):
                yield self.artifacts.get_range(key, at, min(_CHUNK_BYTES, start + length - at))

    @contextmanager
    def decoded(self, at: Located, decoder: Decoder) -> Iterator[tuple[Path, list[list[tuple[int, int]]]]]:
        """An instance as a file of Explicit VR Little Endian, and the ranges of its frames in it."""
        self._scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="retrieve-", dir=self._scratch) as name:
            source = self.artifacts.copy_out(at.instance.artifact_key, Path(name))
            target = Path(name) / "decoded"
            yield target, decoder.decode(source, target)


def instances_response(archive: Archive, found: Sequence[Located], form: Representation, root: str) -> StreamingResponse:
    """Instances in one response, one after the other (PS3.18 10.4.1.1.1)."""
    archive.require(found[0])

    def content(at: Located) -> Iterator[bytes]:
        if form.transfer_syntax in (None, at.instance.transfer_syntax_uid):
            yield from archive.artifacts.stream(at.instance.artifact_key)
            return
        with Decoder() as decoder, archive.decoded(at, decoder) as (path, _frames), path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk

    def parts() -> Iterator[Part]:
        for at in found:
            syntax = form.transfer_syntax or at.instance.transfer_syntax_uid
            yield f"{DICOM}; transfer-syntax={syntax}", instance_url(at, root), partial(content, at)

    if not form.multipart:
        return StreamingResponse(content(found[0]), media_type=DICOM)
    return _related(DICOM, parts())


def frames_response(archive: Archive, at: Located, numbers: Sequence[int], form: Representation, root: str) -> StreamingResponse:
    """Frames of one instance, each a part, or one as the body (PS3.18 10.4.1.1.6). Raises Refusal 404 for a missing one."""
    archive.require(at)
    count = len(at.instance.layout["frames"])
    if not count:
        raise Refusal("not-found", "The frames of this instance cannot be told apart.", "Retrieve it as a whole.", status=404)
    if not all(1 <= number <= count for number in numbers):
        raise Refusal("not-found", "There is no such frame.", f"The instance has {count}.", status=404)
    syntax = form.transfer_syntax or at.instance.transfer_syntax_uid
    described = f"{form.media_type}; transfer-syntax={syntax}"
    url = instance_url(at, root)

    def as_stored(number: int) -> Iterator[bytes]:
        return archive.ranges(at.instance.artifact_key, at.instance.layout["frames"][number - 1])

    def parts() -> Iterator[Part]:
        if form.transfer_syntax is None:
            for number in numbers:
                yield described, f"{url}/frames/{number}", partial(as_stored, number)
            return
        with Decoder() as decoder, archive.decoded(at, decoder) as (path, frames):
            for number in numbers:
                yield described, f"{url}/frames/{number}", partial(_slices, path, frames[number - 1])

    return _related(form.media_type, parts()) if form.multipart else _alone(parts())


def bulk_response(archive: Archive, at: Located, tag: str, form: Representation, root: str) -> StreamingResponse:
    """The value of one attribute, as `metadata` refers to it. Raises Refusal 404."""
    archive.require(at)
    where = at.instance.layout["bulk"].get(tag)
    if where is None:
        raise Refusal("not-found", "There are no such bulk data.", status=404)
    _vr, start, length = where
    url = f"{instance_url(at, root)}/bulkdata/{tag}"
    content = partial(archive.ranges, at.instance.artifact_key, [(start, length)])
    parts = iter([(f"{OCTETS}; transfer-syntax={EXPLICIT_LITTLE}", url, content)])
    return _related(OCTETS, parts) if form.multipart else _alone(parts)


def metadata_response(ledger: Ledger, found: Sequence[Located], root: str) -> StreamingResponse:
    """The attributes of instances, bulk data by reference (PS3.18 10.4.1.1.2)."""

    def rows() -> Iterator[str]:
        opening = "["
        for first in range(0, len(found), _METADATA_AT_A_TIME):
            some = found[first : first + _METADATA_AT_A_TIME]
            attributes = ledger.instance_attributes(some)
            for at in some:
                known = attributes.get((at.instance.series, at.instance.sop_instance_uid))
                if known is not None:
                    yield opening + json.dumps(_with_references(known, at, root), separators=(",", ":"))
                    opening = ","
        yield "]" if opening == "," else "[]"

    return StreamingResponse(rows(), media_type=DICOM_JSON)


def _with_references(attributes: dict[str, Any], at: Located, root: str) -> dict[str, Any]:
    url, layout = instance_url(at, root), at.instance.layout
    references = {tag: (vr, f"{url}/bulkdata/{tag}") for tag, (vr, _start, _length) in layout["bulk"].items()}
    if layout["frames"] and PIXEL_DATA not in references:
        everything = ",".join(str(number + 1) for number in range(len(layout["frames"])))
        references[PIXEL_DATA] = ("OB", f"{url}/frames/{everything}")
    referred = {tag: {"vr": vr, "BulkDataURI": uri} for tag, (vr, uri) in references.items()}
    available = {"00083002": attribute("UI", at.instance.transfer_syntax_uid)}
    return dict(sorted((_in_utf8(attributes) | referred | available | _UTF8).items()))


def _in_utf8(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes, with what items of sequences say of their own encoding as DICOM JSON has it: UTF-8 (PS3.18 F.2)."""
    found: dict[str, Any] = {}
    for tag, element in attributes.items():
        if tag == CHARACTER_SET:
            found |= _UTF8
        elif element.get("vr") == "SQ" and element.get("Value"):
            found[tag] = element | {"Value": [_in_utf8(item) for item in element["Value"]]}
        else:
            found[tag] = element
    return found


def _slices(path: Path, ranges: Sequence[Sequence[int]]) -> Iterator[bytes]:
    with path.open("rb") as file:
        for start, length in ranges:
            file.seek(start)
            yield file.read(length)


def _alone(parts: Iterator[Part]) -> StreamingResponse:
    """The first part as the whole body; what its content comes from is let go of at its end."""
    described, location, content = next(parts)

    def body() -> Iterator[bytes]:
        yield from content()
        yield from (chunk for _described, _location, more in parts for chunk in more())

    return StreamingResponse(body(), media_type=described, headers={"Content-Location": location})


def _related(kind: str, parts: Iterator[Part]) -> StreamingResponse:
    """A multipart/related response (RFC 2387) of parts of one kind."""
    boundary = secrets.token_hex(16)

    def body() -> Iterator[bytes]:
        for described, location, content in parts:
            yield f"--{boundary}\r\nContent-Type: {described}\r\nContent-Location: {location}\r\n\r\n".encode()
            yield from content()
            yield b"\r\n"
        yield f"--{boundary}--\r\n".encode()

    return StreamingResponse(body(), media_type=f'{RELATED}; type="{kind}"; boundary={boundary}')
