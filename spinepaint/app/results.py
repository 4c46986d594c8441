"""What a job delivered, streamed: as one zip, or as DICOM parts."""

import secrets
from collections.abc import Iterator
from pathlib import PurePosixPath

from starlette.responses import StreamingResponse
from zipstream import ZipStream

from spinepaint.imaging.errors import Refusal
from spinepaint.store.artifacts import ArtifactStore
from spinepaint.store.models import Job, JobState

ZIP = "application/zip"
DICOM_PARTS = "multipart/related"


def succeeded(job: Job) -> str:
    """The prefix of a job's delivered files. Raises Refusal 409 until it has succeeded, or where it never will."""
    if job.state == JobState.SUCCEEDED and job.result_key is not None:
        return job.result_key
    if job.state in (JobState.FAILED, JobState.CANCELLED):
        raise Refusal("no-result", f"The job ended as {job.state}.", "It has no result.", status=409)
    raise Refusal("not-ready", "The job has not ended yet.", "Follow its events, or ask again later.", status=409)


def chosen_media_type(accept: str) -> str:
    """The zip, or DICOM parts where the Accept header has them and nothing broader first. Raises Refusal 406."""
    for item in accept.split(","):
        match item.partition(";")[0].strip().lower():
            case "application/zip" | "application/*" | "*/*" | "":
                return ZIP
            case "multipart/related" | "multipart/*":
                return DICOM_PARTS
    raise Refusal("not-acceptable", f"Accept {ZIP} or {DICOM_PARTS}.", status=406)


def result_response(job: Job, artifacts: ArtifactStore, accept: str) -> StreamingResponse:
    """The job's files in the form the client accepts."""
    prefix = succeeded(job)
    if chosen_media_type(accept) == ZIP:
        return _zip_response(job, artifacts, prefix)
    boundary = secrets.token_hex(16)
    media_type = f'{DICOM_PARTS}; type="application/dicom"; boundary={boundary}'
    return StreamingResponse(_dicom_parts(artifacts, prefix, boundary), media_type=media_type)


def _zip_response(job: Job, artifacts: ArtifactStore, prefix: str) -> StreamingResponse:
    archive = ZipStream(sized=True)
    for artifact in artifacts.list(prefix):
        archive.add(_lazily(artifacts, artifact.key), artifact.key.removeprefix(prefix), size=artifact.size)
    headers = {"Content-Length": str(len(archive)), "Content-Disposition": f'attachment; filename="{job.id}.zip"'}
    return StreamingResponse(archive, media_type=ZIP, headers=headers)


def _lazily(artifacts: ArtifactStore, key: str) -> Iterator[bytes]:
    # Opened when the archive reaches it: hundreds of files are not held open from the start.
    yield from artifacts.stream(key)


def _dicom_parts(artifacts: ArtifactStore, prefix: str, boundary: str) -> Iterator[bytes]:
    """Each DICOM file as a part (RFC 2387; PS3.18 8.6.1.2.1)."""
    for artifact in artifacts.list(prefix):
        if PurePosixPath(artifact.key).suffix == ".dcm":
            yield f"--{boundary}\r\nContent-Type: application/dicom\r\nContent-Length: {artifact.size}\r\n\r\n".encode()
            yield from artifacts.stream(artifact.key)
            yield b"\r\n"
    yield f"--{boundary}--\r\n".encode()
