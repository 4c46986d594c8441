"""Multipart uploads, streamed to disk under caps.

Every file lands under a number of ours; the name the client gave is kept in memory only, to tell the
client which of its files a refusal is about. Nothing of a client's name reaches the disk or a log.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from spinepaint.app.admission import Admission, Busy, Turn, admission_of
from spinepaint.app.arriving import DEFAULT_PATIENCE, Patience, arriving, declared_bytes, require_uncompressed
from spinepaint.app.scratch import scratch_folder
from spinepaint.app.upload_form import Form, Preamble, Upload
from spinepaint.imaging.caps import Caps
from spinepaint.imaging.errors import Refusal

DRAIN_BYTES = 32 * 1024 * 1024
DRAIN_S = 2.0


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

    Raises Refusal as `received` does, and Busy (429) where too many uploads are under way, or too much of them: before any of
    the body wherever that can be known then. What is left of such a body is not read here.
    """
    admission = admission_of(request)
    declared = declared_bytes(request)
    with admission.turn() as turn:
        async with scratch_folder(parent, "upload-") as folder:
            upload = Upload(folder)
            form = make_form(upload)
            try:
                caps.enforce("upload_bytes", declared)
                admission.expect(turn, declared)
                await _receive(request, boundary, form, caps, patience, admission, turn)
            except Busy:
                raise
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


async def _receive(
    request: Request, boundary: bytes, form: Form, caps: Caps, patience: Patience, admission: Admission, turn: Turn
) -> None:
    preamble = Preamble(boundary)
    try:
        parser = MultipartParser(boundary, form.callbacks())
        async for chunk in arriving(request, patience):
            admission.came(turn, len(chunk))
            caps.enforce("upload_bytes", turn.size)
            parser.write(preamble.rest(chunk))
            await run_in_threadpool(form.flush)
        parser.finalize()
    except (FormParserError, ClientDisconnect):
        raise Refusal("malformed-upload", "The multipart body is malformed.", status=400) from None
    if not form.ended:
        raise Refusal("malformed-upload", "The multipart body ends too early.", status=400)


async def drain(request: Request, within_s: float = DRAIN_S, idle_s: float = DRAIN_S) -> None:
    """Read a little more of a refused body: a client that is still sending would not see the answer.

    No longer than `within_s`, nor once nothing has come for `idle_s`.
    """
    left = DRAIN_BYTES
    stream = request.stream()
    with suppress(Exception):
        async with asyncio.timeout(within_s):
            while left >= 0:
                async with asyncio.timeout(idle_s):
                    chunk = await anext(stream, None)
                if chunk is None:
                    return
                left -= len(chunk)
