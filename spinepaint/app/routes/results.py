"""What jobs deliver: the series, the report, the preview."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header
from starlette.responses import Response, StreamingResponse

from spinepaint.app.deps import ArtifactsDep, LedgerDep
from spinepaint.app.results import DICOM_PARTS, ZIP, result_response, succeeded
from spinepaint.app.submission import known_job
from spinepaint.imaging.errors import Refusal

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["results"])

_BINARY = {"schema": {"type": "string", "format": "binary"}}


@router.get("/result", response_class=Response, responses={200: {"content": {ZIP: _BINARY, DICOM_PARTS: _BINARY}}})
def get_result(
    job_id: UUID, ledger: LedgerDep, artifacts: ArtifactsDep, accept: Annotated[str, Header()] = "*/*"
) -> StreamingResponse:
    """The output folder as a zip, or its DICOM files as multipart/related; 409 until it is ready."""
    return result_response(known_job(ledger, str(job_id)), artifacts, accept)


@router.get("/report")
def get_report(job_id: UUID, ledger: LedgerDep) -> dict[str, Any]:
    """The report of the first sample."""
    job = known_job(ledger, str(job_id))
    succeeded(job)
    return job.report or {}


@router.get("/preview.png", response_class=Response, responses={200: {"content": {"image/png": _BINARY}}})
def get_preview(job_id: UUID, ledger: LedgerDep, artifacts: ArtifactsDep) -> Response:
    """Before, after and difference at the landmark, of the first sample."""
    prefix = succeeded(known_job(ledger, str(job_id)))
    try:
        return Response(artifacts.get(f"{prefix}sample-01/preview.png"), media_type="image/png")
    except FileNotFoundError:
        raise Refusal("no-preview", "This result has no preview.", status=404) from None
