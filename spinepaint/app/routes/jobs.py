"""Jobs: submitted, listed, followed, cancelled."""

from functools import partial
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Request
from pydantic import ValidationError
from starlette.responses import Response

from spinepaint.app.arriving import patience_of
from spinepaint.app.deps import ArtifactsDep, IntakeDep, LedgerDep, SettingsDep, StoppingDep, require_json_body
from spinepaint.app.openapi import BINARY, LOCATION, RETRY_AFTER, SENT, SPEC, answers, multipart
from spinepaint.app.problems import validation_response
from spinepaint.app.results import DICOM_PARTS, ZIP
from spinepaint.app.schemas import InpaintSpec, JobPage, JobRequest, JobView, Uid
from spinepaint.app.submission import IdempotencyKey, accepted, answer_when_ready, job_views, known_job, preferred_wait_s, submit
from spinepaint.app.uploads import received
from spinepaint.app.waiting import waiting_headers
from spinepaint.imaging.errors import Refusal
from spinepaint.store.errors import UnknownSeries
from spinepaint.store.models import JobState

router = APIRouter(prefix="/v1", tags=["jobs"])

_ACCEPTED = {"description": "Queued", "headers": RETRY_AFTER | LOCATION}
_AT_ONCE = {"description": "The result, where `Prefer: wait` was long enough", "content": {ZIP: BINARY, DICOM_PARTS: BINARY}}


@router.post(
    "/jobs",
    status_code=202,
    response_model=JobView,
    dependencies=[Depends(require_json_body)],
    responses=answers(404, *SENT, 429, _202=_ACCEPTED),
)
def create_job(body: JobRequest, ledger: LedgerDep, settings: SettingsDep, idempotency_key: IdempotencyKey = None) -> Response:
    """Queue an edit of a series."""
    series = ledger.source_of(body.series_uid) if body.series_uid else ledger.get_series(str(body.series_id))
    if series is None:
        raise UnknownSeries
    return accepted(ledger, settings, submit(ledger, settings, series, body, idempotency_key))


@router.post(
    "/inpaint",
    status_code=202,
    response_model=JobView,
    openapi_extra=multipart(spec=SPEC),
    responses=answers(404, 406, 409, *SENT, 429, _200=_AT_ONCE, _202=_ACCEPTED),
)
async def inpaint(
    request: Request,
    settings: SettingsDep,
    ledger: LedgerDep,
    artifacts: ArtifactsDep,
    intake: IntakeDep,
    stopping: StoppingDep,
    idempotency_key: IdempotencyKey = None,
    prefer: Annotated[str | None, Header()] = None,
    accept: Annotated[str, Header()] = "*/*",
) -> Response:
    """Upload and queue in one call; with `Prefer: wait=N` the result itself, if it is ready in time.

    A key without the scope `read` is given no result: its preference is passed over, and the answer is 202.
    """
    incoming, patience = settings.data_dir / "incoming", patience_of(settings)
    async with received(request, incoming, settings.caps, frozenset({"spec"}), patience) as upload:
        if "spec" not in upload.fields:
            raise Refusal("invalid-request", "The form has no `spec`.", "Send the edit as JSON in `spec`.")
        try:
            spec = InpaintSpec.model_validate_json(upload.fields["spec"])
        except ValidationError as error:
            return validation_response(error.errors(include_url=False))
        queue = partial(submit, ledger, settings, spec=spec, key=idempotency_key)
        job = await intake.admit_for(upload, spec.series_uid, queue, allow_synthetic=spec.allow_synthetic)
    wait_s = preferred_wait_s(prefer) if request.state.caller.may_read else 0.0
    return await answer_when_ready(ledger, artifacts, settings, job, wait_s=wait_s, accept=accept, stopping=stopping)


@router.get("/jobs")
def list_jobs(
    ledger: LedgerDep,
    state: JobState | None = None,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    series_uid: Annotated[Uid | None, Query(description="Jobs that read or made a series of this UID")] = None,
) -> JobPage:
    """Jobs, newest first, a page at a time."""
    page = ledger.list_jobs(state=state, cursor=cursor, limit=limit, series_uid=series_uid)
    return JobPage(jobs=job_views(ledger, page.jobs), next=page.next_cursor)


@router.get("/jobs/{job_id}", responses=answers(404, _200={"headers": RETRY_AFTER}))
def get_job(job_id: UUID, ledger: LedgerDep, settings: SettingsDep, response: Response) -> JobView:
    """A job as it stands; `Retry-After` says when to ask again while it waits."""
    job = known_job(ledger, str(job_id))
    response.headers.update(waiting_headers(ledger, settings, job))
    return job_views(ledger, [job])[0]


@router.delete("/jobs/{job_id}", status_code=204, responses=answers(404, 409))
def delete_job(job_id: UUID, ledger: LedgerDep) -> None:
    """Forget a job that has ended, with its results, its entries in DICOMweb and what is still owed of it; 409 until then.

    Nothing finds them from the answer on; the files go within seconds, also where the service is killed meanwhile.
    """
    ledger.delete_job(str(job_id))


@router.post("/jobs/{job_id}/cancel", responses=answers(404, 409, *SENT))
def cancel_job(job_id: UUID, ledger: LedgerDep) -> JobView:
    """Cancel a job that has not ended; 409 once it has."""
    return job_views(ledger, [ledger.cancel(str(job_id))])[0]


@router.post("/jobs/{job_id}/deliveries/{destination}/retry", status_code=202, responses=answers(404, 409, *SENT))
def retry_delivery(job_id: UUID, destination: str, ledger: LedgerDep) -> JobView:
    """Try a delivery that was given up again; 409 while it is pending, once it is done, or where there is no result."""
    job = known_job(ledger, str(job_id))
    if not any(delivery.destination == destination for delivery in ledger.dicom_deliveries([job.id])):
        raise Refusal("unknown-delivery", "The job has no delivery to a destination of that name.", status=404)
    if not ledger.redeliver(job.id, destination):
        raise Refusal("not-failed", "The delivery has not failed, or there is no result to deliver.", status=409)
    return job_views(ledger, [job])[0]
