"""What a job delivered, streamed: as one zip, or as DICOM parts."""

import secrets
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from starlette.responses import StreamingResponse

from spinepaint.app.accept import ranges_as_written
from spinepaint.app.threads import FILES
from spinepaint.app.zip_stream import ZipStream, zip_length
from spinepaint.imaging.errors import Refusal
from spinepaint.store.artifacts import ArtifactStore
from spinepaint.store.models import Job, JobState

ZIP = "application/zip"
DICOM_PARTS = "multipart/related"
_PARTS_ACCEPTED = ("application/dicom", "application/*", "*/*")


def succeeded(job: Job) -> str:
    """The prefix of a job's delivered files. Raises Refusal 409 until it has succeeded, or where it never will."""
    if job.state == JobState.SUCCEEDED and job.result_key is not None:
        return job.result_key
    if job.state in (JobState.FAILED, JobState.CANCELLED):
        raise Refusal("no-result", f"The job ended as {job.state}.", "It has no result.", status=409)
    raise Refusal("not-ready", "The job has not ended yet.", "Follow its events, or ask again later.", status=409)


def chosen_media_type(accept: str, offered: Sequence[str] = (ZIP, DICOM_PARTS)) -> str:
    """The zip or DICOM parts, whichever the Accept header rather has; of two it has alike the one it has first, the zip by `*/*`.

    The most specific range decides about each (RFC 9110 12.5.1). Raises Refusal 406.
    """
    ranges = ranges_as_written(accept) or ranges_as_written("*/*")
    found = []
    for kind in offered:
        names = (kind, f"{kind.partition('/')[0]}/*", "*/*")
        fitting = [
            (names.index(media.media_type), number, media.quality)
            for number, media in enumerate(ranges)
            if media.media_type in names and (kind == ZIP or media.part in _PARTS_ACCEPTED)
        ]
        if fitting and min(fitting)[2] > 0:
            _specific, number, quality = min(fitting)
            found.append((-quality, number, kind))
    if not found:
        there_is = {ZIP: ZIP, DICOM_PARTS: f'{DICOM_PARTS}; type="application/dicom"'}
        detail = f"There is {', and '.join(there_is[kind] for kind in offered)}."
        raise Refusal("not-acceptable", f"Accept {' or '.join(offered)}.", detail, status=406)
    return min(found, key=lambda choice: choice[:2])[2]


STREAMED = {"X-Accel-Buffering": "no"}
"""For a long answer: a proxy that takes it into its own store, as nginx does, takes no more for minutes once that is full."""


def result_response(job: Job, artifacts: ArtifactStore, accept: str) -> StreamingResponse:
    """The job's files in the form the client accepts."""
    prefix = succeeded(job)
    if chosen_media_type(accept) == ZIP:
        return _zip_response(job, artifacts, prefix)
    boundary = secrets.token_hex(16)
    media_type = f'{DICOM_PARTS}; type="application/dicom"; boundary={boundary}'
    return StreamingResponse(FILES.each(_dicom_parts(artifacts, prefix, boundary)), media_type=media_type, headers=STREAMED)


def _zip_response(job: Job, artifacts: ArtifactStore, prefix: str) -> StreamingResponse:
    headers = STREAMED | {"Content-Disposition": f'attachment; filename="{job.id}.zip"'}
    length = zip_length((artifact.key.removeprefix(prefix), artifact.size) for artifact in artifacts.list(prefix))
    if length is not None:
        headers["Content-Length"] = str(length)
    return StreamingResponse(FILES.each(_zipped(artifacts, prefix)), media_type=ZIP, headers=headers)


def _zipped(artifacts: ArtifactStore, prefix: str) -> Iterator[bytes]:
    """A stored zip of every file under `prefix`, chunk by chunk: nothing is held whole, and a repeat is the same."""
    with ZipStream() as archive:
        for artifact in artifacts.list(prefix):
            yield from archive.entry(artifact.key.removeprefix(prefix), artifacts.stream(artifact.key))
        yield from archive.end()


def _dicom_parts(artifacts: ArtifactStore, prefix: str, boundary: str) -> Iterator[bytes]:
    """Each DICOM file as a part (RFC 2387; PS3.18 8.6.1.2.1)."""
    for artifact in artifacts.list(prefix):
        if PurePosixPath(artifact.key).suffix == ".dcm":
            yield f"--{boundary}\r\nContent-Type: application/dicom\r\nContent-Length: {artifact.size}\r\n\r\n".encode()
            yield from artifacts.stream(artifact.key)
            yield b"\r\n"
    yield f"--{boundary}--\r\n".encode()
