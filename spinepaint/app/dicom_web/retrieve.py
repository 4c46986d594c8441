"""WADO-RS: instances, frames, bulk data and metadata out, a piece at a time (PS3.18 10.4)."""

import json
import secrets
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Send

from spinepaint.app.decoding import DECODING, decode_apart
from spinepaint.app.dicom_web.media import DICOM, DICOM_JSON, EXPLICIT_LITTLE, OCTETS, RELATED, Representation
from spinepaint.app.dicom_web.results import attribute, instance_url
from spinepaint.app.results import STREAMED
from spinepaint.app.scratch import scratch_folder
from spinepaint.app.threads import FILES
from spinepaint.imaging.errors import Refusal, disk_full
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

    def __init__(self, artifacts: ArtifactStore, scratch: Path, reserve_bytes: int = 0) -> None:
        """`scratch` is made where it is missing; nothing is decoded once less than `reserve_bytes` of its disk are free."""
        self.artifacts = artifacts
        self._scratch = scratch
        self._reserve_bytes = reserve_bytes

    def require(self, at: Located) -> None:
        """Raise Refusal 404 where the file is gone, as when its series was deleted a moment ago."""
        if not self.artifacts.exists(at.instance.artifact_key):
            raise Refusal("not-found", "There is no such instance.", status=404)

    def whole(self, key: str) -> Iterator[bytes]:
        """A file in pieces; the store is asked for it by whoever takes the first."""
        yield from self.artifacts.stream(key)

    def ranges(self, key: str, ranges: Sequence[Sequence[int]]) -> Iterator[bytes]:
        """Ranges of a file, one after the other, in pieces."""
        for start, length in ranges:
            for at in range(start, start + length, _CHUNK_BYTES):
                yield self.artifacts.get_range(key, at, min(_CHUNK_BYTES, start + length - at))

    @asynccontextmanager
    async def decoded(self, at: Located) -> AsyncIterator[tuple[Path, list[list[tuple[int, int]]]]]:
        """An instance as a file of Explicit VR Little Endian, and the ranges of its frames in it.

        Only so many are decoded at once, and whoever gets one holds a file and no process, however long that takes.
        """
        async with scratch_folder(self._scratch, "retrieve-") as folder:
            yield await DECODING.run(self._decode, at, folder)

    def _decode(self, at: Located, folder: Path) -> tuple[Path, list[list[tuple[int, int]]]]:
        # Each copy stays until its client has taken it, which may be long.
        if shutil.disk_usage(folder).free < self._reserve_bytes:
            raise disk_full()
        source, target = self.artifacts.copy_out(at.instance.artifact_key, folder), folder / "decoded"
        frames = decode_apart(source, target)
        source.unlink()
        return target, frames


def instances_response(archive: Archive, found: Sequence[Located], form: Representation, root: str) -> StreamingResponse:
    """Instances in one response, one after the other (PS3.18 10.4.1.1.1)."""
    archive.require(found[0])

    async def parts() -> AsyncGenerator[Part, None]:
        for at in found:
            syntax = form.transfer_syntax or at.instance.transfer_syntax_uid
            described, url = f"{DICOM}; transfer-syntax={syntax}", instance_url(at, root)
            if form.transfer_syntax in (None, at.instance.transfer_syntax_uid):
                yield described, url, partial(archive.whole, at.instance.artifact_key)
                continue
            async with archive.decoded(at) as (path, _frames):
                yield described, url, partial(_pieces, path)

    return _related(DICOM, parts()) if form.multipart else _Begun(_alone(parts()), media_type=DICOM)


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

    async def parts() -> AsyncGenerator[Part, None]:
        if form.transfer_syntax is None:
            for number in numbers:
                yield described, f"{url}/frames/{number}", partial(as_stored, number)
            return
        async with archive.decoded(at) as (path, frames):
            for number in numbers:
                yield described, f"{url}/frames/{number}", partial(_slices, path, frames[number - 1])

    if form.multipart:
        return _related(form.media_type, parts())
    return _Begun(_alone(parts()), media_type=described, headers={"Content-Location": f"{url}/frames/{numbers[0]}"})


def bulk_response(archive: Archive, at: Located, tag: str, form: Representation, root: str) -> StreamingResponse:
    """The value of one attribute, as `metadata` refers to it. Raises Refusal 404."""
    archive.require(at)
    where = at.instance.layout["bulk"].get(tag)
    if where is None:
        raise Refusal("not-found", "There are no such bulk data.", status=404)
    _vr, start, length = where
    described, url = f"{OCTETS}; transfer-syntax={EXPLICIT_LITTLE}", f"{instance_url(at, root)}/bulkdata/{tag}"

    async def parts() -> AsyncGenerator[Part, None]:
        yield described, url, partial(archive.ranges, at.instance.artifact_key, [(start, length)])

    if form.multipart:
        return _related(OCTETS, parts())
    return _Begun(_alone(parts()), media_type=described, headers={"Content-Location": url})


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


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_CHUNK_BYTES):
            yield piece


def _slices(path: Path, ranges: Sequence[Sequence[int]]) -> Iterator[bytes]:
    with path.open("rb") as file:
        for start, length in ranges:
            file.seek(start)
            yield file.read(length)


class _Begun(StreamingResponse):
    """An answer that begins once there is something to give: what cannot be decoded is an error, and no answer cut short."""

    def __init__(self, pieces: AsyncGenerator[bytes, None], media_type: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(pieces, media_type=media_type, headers={**STREAMED, **(headers or {})})
        self._pieces = pieces

    async def stream_response(self, send: Send) -> None:
        """Send it, and let go of what it comes from however that ends."""
        async with aclosing(self._pieces):
            self.body_iterator = _from(await anext(self._pieces, b""), self._pieces)
            await super().stream_response(send)


async def _from(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece


async def _alone(parts: AsyncGenerator[Part, None]) -> AsyncGenerator[bytes, None]:
    """The contents without what describes them, of what is one part."""
    async with aclosing(parts):
        async for _described, _location, content in parts:
            async for piece in FILES.each(content()):
                yield piece


async def _parts_of(parts: AsyncGenerator[Part, None], boundary: str) -> AsyncGenerator[bytes, None]:
    async with aclosing(parts):
        async for described, location, content in parts:
            yield f"--{boundary}\r\nContent-Type: {described}\r\nContent-Location: {location}\r\n\r\n".encode()
            async for piece in FILES.each(content()):
                yield piece
            yield b"\r\n"
    yield f"--{boundary}--\r\n".encode()


def _related(kind: str, parts: AsyncGenerator[Part, None]) -> StreamingResponse:
    """A multipart/related response (RFC 2387) of parts of one kind."""
    boundary = secrets.token_hex(16)
    return _Begun(_parts_of(parts, boundary), media_type=f'{RELATED}; type="{kind}"; boundary={boundary}')
