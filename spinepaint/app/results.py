"""What a job delivered, streamed: as one zip, or as DICOM parts."""

import io
import secrets
import zipfile
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from starlette.responses import StreamingResponse

from spinepaint.app.accept import ranges_as_written
from spinepaint.imaging.errors import Refusal
from spinepaint.store.artifacts import ArtifactStore
from spinepaint.store.models import Job, JobState

ZIP = "application/zip"
DICOM_PARTS = "multipart/related"
_PARTS_ACCEPTED = ("application/dicom", "application/*", "*/*")
_ZIP64_FROM = 2**32 - 2**16


def succeeded(job: Job) -> str:
    """The prefix of a job's delivered files. Raises Refusal 409 until it has succeeded, or where it never will."""
    if job.state == JobState.SUCCEEDED and job.result_key is not None:
        return job.result_key
    if job.state in (JobState.FAILED, JobState.CANCELLED):
        raise Refusal("no-result", f"The job ended as {job.state}.", "It has no result.", status=409)
    raise Refusal("not-ready", "The job has not ended yet.", "Follow its events, or ask again later.", status=409)


def chosen_media_type(accept: str) -> str:
    """The zip or DICOM parts, whichever the Accept header rather has; of two it has alike the one it has first, the zip by `*/*`.

    The most specific range decides about each (RFC 9110 12.5.1). Raises Refusal 406.
    """
    ranges = ranges_as_written(accept) or ranges_as_written("*/*")
    found = []
    for kind, names in ((ZIP, (ZIP, "application/*", "*/*")), (DICOM_PARTS, (DICOM_PARTS, "multipart/*", "*/*"))):
        fitting = [
            (names.index(media.media_type), number, media.quality)
            for number, media in enumerate(ranges)
            if media.media_type in names and (kind == ZIP or media.part in _PARTS_ACCEPTED)
        ]
        if fitting and min(fitting)[2] > 0:
            _specific, number, quality = min(fitting)
            found.append((-quality, number, kind))
    if not found:
        detail = f'There is {ZIP}, and {DICOM_PARTS}; type="application/dicom".'
        raise Refusal("not-acceptable", f"Accept {ZIP} or {DICOM_PARTS}.", detail, status=406)
    return min(found, key=lambda choice: choice[:2])[2]


def result_response(job: Job, artifacts: ArtifactStore, accept: str) -> StreamingResponse:
    """The job's files in the form the client accepts."""
    prefix = succeeded(job)
    if chosen_media_type(accept) == ZIP:
        return _zip_response(job, artifacts, prefix)
    boundary = secrets.token_hex(16)
    media_type = f'{DICOM_PARTS}; type="application/dicom"; boundary={boundary}'
    return StreamingResponse(_dicom_parts(artifacts, prefix, boundary), media_type=media_type)


def _zip_response(job: Job, artifacts: ArtifactStore, prefix: str) -> StreamingResponse:
    headers = {"Content-Disposition": f'attachment; filename="{job.id}.zip"'}
    length = _zipped_length(artifacts, prefix)
    if length < _ZIP64_FROM:
        headers["Content-Length"] = str(length)
    return StreamingResponse(_zipped(artifacts, prefix), media_type=ZIP, headers=headers)


class _Sink(io.RawIOBase):
    """Where `zipfile` writes: an unseekable stream whose bytes are taken away as they come."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: Any) -> int:
        """Keep a copy until it is taken."""
        self._parts.append(bytes(data))
        return len(self._parts[-1])

    def take(self) -> bytes:
        """What was written since the last time."""
        taken, self._parts = b"".join(self._parts), []
        return taken


def _zipped_length(artifacts: ArtifactStore, prefix: str) -> int:
    """Bytes of `_zipped`, so that clients can show progress (APPNOTE 4.3: headers and descriptors with zip64 sizes).

    An entry has a local header of 30 bytes and 20 of zip64 sizes, a descriptor of 24 and a central header of 46, with its name
    twice; the archive ends in 22 bytes. From 4 GiB on there is more, and no length is promised.
    """
    entries = [(len(a.key.removeprefix(prefix).encode()), a.size) for a in artifacts.list(prefix)]
    return sum(120 + 2 * name + size for name, size in entries) + 22


def _zipped(artifacts: ArtifactStore, prefix: str) -> Iterator[bytes]:
    """A stored zip of every file under `prefix`, chunk by chunk: nothing is held whole, and a repeat is the same."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for artifact in artifacts.list(prefix):
            entry = zipfile.ZipInfo(artifact.key.removeprefix(prefix))
            with archive.open(entry, "w", force_zip64=True) as file:
                for chunk in artifacts.stream(artifact.key):
                    file.write(chunk)
                    yield sink.take()
    yield sink.take()


def _dicom_parts(artifacts: ArtifactStore, prefix: str, boundary: str) -> Iterator[bytes]:
    """Each DICOM file as a part (RFC 2387; PS3.18 8.6.1.2.1)."""
    for artifact in artifacts.list(prefix):
        if PurePosixPath(artifact.key).suffix == ".dcm":
            yield f"--{boundary}\r\nContent-Type: application/dicom\r\nContent-Length: {artifact.size}\r\n\r\n".encode()
            yield from artifacts.stream(artifact.key)
            yield b"\r\n"
    yield f"--{boundary}--\r\n".encode()
