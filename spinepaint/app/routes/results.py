"""What jobs deliver: the series, the report, the preview."""

import json
from pathlib import PurePosixPath
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header, Query
from fastapi.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from spinepaint.app.deps import ArtifactsDep, LedgerDep
from spinepaint.app.openapi import BINARY, answers
from spinepaint.app.results import DICOM_PARTS, ZIP, result_response, succeeded
from spinepaint.app.schemas import MAX_SAMPLES
from spinepaint.app.submission import known_job
from spinepaint.app.threads import FILES
from spinepaint.imaging.errors import Refusal
from spinepaint.store.artifacts import ArtifactStore

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["results"])

Sample = Annotated[int, Query(ge=1, le=MAX_SAMPLES, description="Which sample, counted from 1")]


@router.get(
    "/result", response_class=Response, responses=answers(404, 406, 409, _200={"content": {ZIP: BINARY, DICOM_PARTS: BINARY}})
)
async def get_result(
    job_id: UUID, ledger: LedgerDep, artifacts: ArtifactsDep, accept: Annotated[str, Header()] = "*/*"
) -> StreamingResponse:
    """The output folder as a zip, or its DICOM files as multipart/related; 409 until it is ready."""
    job = await run_in_threadpool(known_job, ledger, str(job_id))
    return await FILES.run(result_response, job, artifacts, accept)


@router.get("/report", responses=answers(404, 409))
async def get_report(job_id: UUID, ledger: LedgerDep, artifacts: ArtifactsDep, sample: Sample = 1) -> dict[str, Any]:
    """The report of one sample, the first where none is named; 404 where there are not as many."""
    job = await run_in_threadpool(known_job, ledger, str(job_id))
    prefix = succeeded(job)
    if sample == 1:
        return job.report or {}
    report: dict[str, Any] = json.loads(await FILES.run(_of_sample, artifacts, prefix, sample, "report.json"))
    return report


@router.get("/preview.png", response_class=Response, responses=answers(404, 409, _200={"content": {"image/png": BINARY}}))
async def get_preview(job_id: UUID, ledger: LedgerDep, artifacts: ArtifactsDep, sample: Sample = 1) -> Response:
    """Before, after and difference at the landmark of one sample, the first where none is named."""
    prefix = succeeded(await run_in_threadpool(known_job, ledger, str(job_id)))
    return Response(await FILES.run(_of_sample, artifacts, prefix, sample, "preview.png"), media_type="image/png")


def _of_sample(artifacts: ArtifactStore, prefix: str, sample: int, name: str) -> bytes:
    """A file of one sample of a result. Raises Refusal 404."""
    try:
        return artifacts.get(f"{prefix}sample-{sample:02d}/{name}")
    except FileNotFoundError:
        slug = f"no-{PurePosixPath(name).stem}"
        raise Refusal(slug, f"This result has no {name} of sample {sample}.", status=404) from None
