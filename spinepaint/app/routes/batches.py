"""Batches: many edits submitted, listed, followed, cancelled, tried again and fetched as one."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Query, Request
from fastapi.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from spinepaint.app.batch_openapi import ACCEPTED, BATCH_BODY, ITEMS_REFUSED, RESULT, UNTIL_IT_ENDS
from spinepaint.app.batch_request import asked_for
from spinepaint.app.batch_result import batch_result
from spinepaint.app.batch_submission import submit_batch
from spinepaint.app.batch_views import BatchDetail, BatchPageView, BatchView, active, batch_path
from spinepaint.app.deps import ArtifactsDep, LedgerDep, SettingsDep
from spinepaint.app.openapi import SENT, answers
from spinepaint.app.problems import problem_response
from spinepaint.app.submission import IdempotencyKey
from spinepaint.app.waiting import retry_after_s
from spinepaint.imaging.errors import Refusal
from spinepaint.settings import Settings
from spinepaint.store.errors import UnknownBatch
from spinepaint.store.ledger import Ledger
from spinepaint.store.models import Batch, JobState

router = APIRouter(prefix="/v1", tags=["batches"])


@router.post(
    "/batches",
    status_code=202,
    response_model=BatchView,
    openapi_extra=BATCH_BODY,
    responses=answers(*SENT, 429, _202=ACCEPTED, _422=ITEMS_REFUSED),
)
async def create_batch(
    request: Request, ledger: LedgerDep, settings: SettingsDep, idempotency_key: IdempotencyKey = None
) -> Response:
    """Queue every series with every spec, or the items of JSON lines: all of them, or none and a word on each in the way."""
    asked = await asked_for(request, settings)
    batch = await run_in_threadpool(submit_batch, ledger, settings, asked, idempotency_key)
    return await run_in_threadpool(_accepted, ledger, settings, batch)


@router.get("/batches")
def list_batches(
    ledger: LedgerDep,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> BatchPageView:
    """Batches, newest first, a page at a time."""
    page = ledger.list_batches(cursor=cursor, limit=limit)
    counts = ledger.batch_counts([batch.id for batch in page.batches])
    return BatchPageView(batches=[BatchView.of(batch, counts[batch.id]) for batch in page.batches], next=page.next_cursor)


@router.get("/batches/{batch_id}", responses=answers(404, _200=UNTIL_IT_ENDS))
def get_batch(
    batch_id: UUID,
    ledger: LedgerDep,
    settings: SettingsDep,
    response: Response,
    items: Annotated[bool, Query(description="Whether to list the items; without them it is short, to be asked often")] = True,
    state: Annotated[JobState | None, Query(description="List only items in this state; the counts are of all")] = None,
) -> BatchDetail:
    """A batch as it stands: counts of its states, and each item. `Retry-After` says when to ask again until all have ended."""
    batch = _known(ledger, batch_id)
    counts = ledger.batch_counts([batch.id])[batch.id]
    if active(counts):
        response.headers["Retry-After"] = str(retry_after_s(ledger, settings))
    return BatchDetail.with_items(batch, counts, ledger.batch_items(batch.id, state) if items else None)


@router.delete("/batches/{batch_id}", status_code=204, responses=answers(404, 409, 503))
def delete_batch(batch_id: UUID, ledger: LedgerDep) -> None:
    """Forget a batch of which every item has ended, with its jobs and their results; 409, naming those that have not, until then.

    As with a job, nothing finds them from the answer on, and the files go within seconds.
    """
    ledger.delete_batch(str(batch_id))


@router.post("/batches/{batch_id}/cancel", responses=answers(404, 409, *SENT))
def cancel_batch(batch_id: UUID, ledger: LedgerDep) -> BatchView:
    """Cancel every item that has not ended; 409 where all have. What has succeeded stays."""
    return _view(ledger, ledger.cancel_batch(str(batch_id)))


@router.post(
    "/batches/{batch_id}/retry",
    status_code=202,
    response_model=BatchView,
    responses=answers(404, 409, *SENT, 429, _202=ACCEPTED),
)
def retry_batch(batch_id: UUID, ledger: LedgerDep, settings: SettingsDep) -> Response:
    """Queue the failed and the cancelled items again, with the same seeds; 409 where there are none.

    An item whose series was deleted stays as it is.
    """
    return _accepted(ledger, settings, ledger.retry_batch(str(batch_id), queue_cap=settings.max_queued_jobs))


@router.get("/batches/{batch_id}/result", response_class=Response, responses=answers(404, 406, 409, _200=RESULT))
def get_batch_result(
    batch_id: UUID,
    ledger: LedgerDep,
    artifacts: ArtifactsDep,
    settings: SettingsDep,
    partial: Annotated[bool, Query(description="What there is now, where some items have not ended")] = False,
    accept: Annotated[str, Header()] = "*/*",
) -> Response:
    """All results as one zip, with `manifest.jsonl` (a line a sample) and `failed.jsonl` (an item without a result a line)."""
    batch = _known(ledger, batch_id)
    waiting = active(ledger.batch_counts([batch.id])[batch.id])
    if waiting and not partial:
        detail = f"{waiting} have not. Ask again later, or with ?partial=true for what there is."
        refusal = Refusal("not-ready", "Not all items of the batch have ended yet.", detail, status=409)
        return problem_response(refusal, {"Retry-After": str(retry_after_s(ledger, settings))})
    return batch_result(batch, ledger, artifacts, accept)


def _known(ledger: Ledger, batch_id: UUID) -> Batch:
    batch = ledger.get_batch(str(batch_id))
    if batch is None:
        raise UnknownBatch(str(batch_id))
    return batch


def _view(ledger: Ledger, batch: Batch) -> BatchView:
    return BatchView.of(batch, ledger.batch_counts([batch.id])[batch.id])


def _accepted(ledger: Ledger, settings: Settings, batch: Batch) -> Response:
    """202 with the batch, where it is, and when to ask again."""
    headers = {"Location": batch_path(batch.id), "Retry-After": str(retry_after_s(ledger, settings))}
    return JSONResponse(_view(ledger, batch).model_dump(mode="json"), status_code=202, headers=headers)
