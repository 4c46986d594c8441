"""Multipart uploads, streamed to disk under caps.

Every file lands under a number of ours; the name the client gave is kept in memory only, to tell the
client which of its files a refusal is about. Nothing of a client's name reaches the disk or a log.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from spinepaint.app.admission import Busy, Turn, admission_of, waits_to_send
from spinepaint.app.arriving import DEFAULT_PATIENCE, Patience, arriving, declared_bytes, require_uncompressed
from spinepaint.imaging.caps import Caps
from spinepaint.imaging.errors import Refusal

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_FIELD_BYTES = 64 * 1024
DRAIN_BYTES = 32 * 1024 * 1024
DRAIN_S = 2.0
BUSY_DRAIN_S = 30.0
"""For one that is refused because others are under way: then its client is as slow as everything."""


@dataclass
class Upload:
    """A received upload.

    Attributes
    ----------
    folder: where the numbered files lie.
    names: the client's name of each numbered file, for answers to that client only.
    fields: the text fields of the form.
    """

    folder: Path
    names: dict[str, str] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)

    @property
    def source(self) -> Path:
        """The one file (a zip or a multi-frame instance), or the folder of many."""
        return self.folder / next(iter(self.names)) if len(self.names) == 1 else self.folder

    def named(self, refusal: Refusal) -> Refusal:
        """The refusal with the client's own file names in place of our numbers."""
        instances = [replace(i, file=self.names.get(Path(i.file).name, i.file)) for i in refusal.instances]
        return replace(refusal, instances=instances)


@asynccontextmanager
async def received(
    request: Request, parent: Path, caps: Caps, fields: frozenset[str] = frozenset(), patience: Patience = DEFAULT_PATIENCE
) -> AsyncIterator[Upload]:
    """Stream the request's `files` into a fresh folder in `parent`, and remove it at the end.

    `fields` names the text fields that the form may have beside `files`.

    Raises Refusal: 413 beyond a limit, 415 for another content type, 400 for a malformed or cut body,
    408 when it arrives too slowly, 422 for a field that is not known.
    """
    boundary = boundary_of(request, b"multipart/form-data", "The files go in `files`.")
    async with streamed(request, parent, caps, boundary, lambda upload: Form(upload, caps, fields), patience) as upload:
        if not upload.names:
            raise Refusal("no-files", "The form has no files.", "Send DICOM files, or one zip, as `files`.")
        yield upload


@asynccontextmanager
async def streamed(
    request: Request,
    parent: Path,
    caps: Caps,
    boundary: bytes,
    make_form: Callable[[Upload], "Form"],
    patience: Patience = DEFAULT_PATIENCE,
) -> AsyncIterator[Upload]:
    """Stream a multipart body of whatever kind through the form that `make_form` makes.

    Raises Refusal as `received` does, and Busy (429) before any of the body where too many uploads are under way.
    """
    admission = admission_of(request)
    parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            turn = stack.enter_context(admission.turn())
        except Busy:
            if not waits_to_send(request):
                async with admission.draining:
                    await drain(request, BUSY_DRAIN_S)
            raise
        upload = Upload(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="upload-", dir=parent))))
        form = make_form(upload)
        try:
            caps.enforce("upload_bytes", declared_bytes(request))
            await _receive(request, boundary, form, caps, patience, turn)
        except Refusal:
            await drain(request)
            raise
        finally:
            form.close()
        admission.received(turn)
        yield upload


def boundary_of(request: Request, media_type: bytes, advice: str) -> bytes:
    """The boundary of a multipart body. Raises Refusal 415 for a body of another kind than `media_type`."""
    kind, options = parse_options_header(request.headers.get("content-type"))
    require_uncompressed(request, "Send a zip instead.")
    if kind != media_type or not options.get(b"boundary"):
        raise Refusal("unsupported-media-type", f"Send {media_type.decode()}.", advice, status=415)
    return options[b"boundary"]


async def _receive(request: Request, boundary: bytes, form: "Form", caps: Caps, patience: Patience, turn: Turn) -> None:
    preamble = _Preamble(boundary)
    try:
        parser = MultipartParser(boundary, form.callbacks())
        async for chunk in arriving(request, patience):
            turn.size += len(chunk)
            caps.enforce("upload_bytes", turn.size)
            parser.write(preamble.rest(chunk))
            await run_in_threadpool(form.flush)
        parser.finalize()
    except (FormParserError, ClientDisconnect):
        raise Refusal("malformed-upload", "The multipart body is malformed.", status=400) from None
    if not form.ended:
        raise Refusal("malformed-upload", "The multipart body ends too early.", status=400)


class _Preamble:
    """Passes over what stands before the first delimiter of a multipart body, which says nothing (RFC 2046 5.1.1)."""

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"\n--" + boundary
        self._held: bytearray | None = bytearray(b"\n")  # the delimiter may be the first line

    def rest(self, chunk: bytes) -> bytes:
        """What of the next bytes of the body the preamble leaves: from the delimiter on, all."""
        if self._held is None:
            return chunk
        self._held += chunk
        at = 0
        while (at := self._held.find(self._delimiter, at)) >= 0:
            end = at + len(self._delimiter)
            if end == len(self._held):
                break  # what follows will say whether it is one
            if self._held[end] in b"\r\n\t -":  # a delimiter, be it a malformed one, which is the parser's to refuse
                found = bytes(self._held[at + 1 :])
                self._held = None
                return found
            at = end
        del self._held[: at if at >= 0 else max(0, len(self._held) - len(self._delimiter) + 1)]
        return b""


async def drain(request: Request, within_s: float = DRAIN_S) -> None:
    """Read a little more of a refused body: a client that is still sending would not see the answer."""
    left = DRAIN_BYTES
    with suppress(Exception):
        async with asyncio.timeout(within_s):
            async for chunk in request.stream():
                left -= len(chunk)
                if left < 0:
                    return


class Form:
    """The parser's callbacks: collects what a chunk holds, for `flush` to write off the event loop."""

    def __init__(self, upload: Upload, caps: Caps, fields: frozenset[str]) -> None:
        self.ended = False
        self._known = fields
        self._upload = upload
        self._caps = caps
        self._header: tuple[bytearray, bytearray] = (bytearray(), bytearray())
        self._headers: dict[bytes, bytes] = {}
        self._field: str | None = None
        self._value = bytearray()
        self._file: IO[bytes] | None = None
        self._pending: list[tuple[IO[bytes], bytes]] = []

    def callbacks(self) -> "MultipartCallbacks":
        """What the parser calls."""
        return {
            "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_end,
            "on_part_data": self._part_data,
            "on_part_end": self._part_end,
            "on_end": self._end,
        }

    def flush(self) -> None:
        """Write what the last chunk held; a file left by the parser is closed after its last bytes."""
        for file, data in self._pending:
            if data:
                file.write(data)
            else:
                file.close()
        self._pending.clear()

    def close(self) -> None:
        """Let go of every file, however the upload ended."""
        for file, _data in self._pending:
            file.close()
        if self._file is not None:
            self._file.close()

    def _header_end(self) -> None:
        name, value = self._header
        self._headers[bytes(name).lower()] = bytes(value)
        self._header = (bytearray(), bytearray())

    def _headers_end(self) -> None:
        headers, self._headers = self._headers, {}
        self.part_begin(headers)

    def part_begin(self, headers: Mapping[bytes, bytes]) -> None:
        """A part of these headers (names in small letters) begins: a file or a field. Raises Refusal for any other."""
        _kind, options = parse_options_header(headers.get(b"content-disposition"))
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if name == "files":
            self.open_file(options.get(b"filename", b"").decode("utf-8", "replace"))
        elif name in self._known and name not in self._upload.fields:
            self._field = name
        else:
            known = ", ".join(sorted({"files"} | self._known))
            raise Refusal("invalid-request", "The form has an unknown or repeated field.", f"Known are: {known}.")

    def open_file(self, client_name: str) -> None:
        """Have the part that begins written to the next numbered file. Raises Refusal beyond the cap."""
        number = f"{len(self._upload.names) + 1:06d}"
        self._caps.enforce("upload_files", len(self._upload.names) + 1)
        printable = "".join(c for c in client_name if c.isprintable())
        self._upload.names[number] = printable.replace("\\", "/").rsplit("/", 1)[-1][:200] or number
        self._file = (self._upload.folder / number).open("xb")

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._pending.append((self._file, data[start:end]))
            return
        self._value += data[start:end]
        if len(self._value) > MAX_FIELD_BYTES:
            detail = f"The cap is {MAX_FIELD_BYTES} bytes per field."
            raise Refusal("field-too-long", "A form field is too long.", detail, status=413)

    def _part_end(self) -> None:
        if self._file is not None:
            self._pending.append((self._file, b""))
        elif self._field is not None:
            self._upload.fields[self._field] = self._value.decode("utf-8", "replace")
        self._file, self._field, self._value = None, None, bytearray()

    def _end(self) -> None:
        self.ended = True
