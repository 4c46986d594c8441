"""A job's events as they happen (server-sent events, WHATWG HTML 9.2), with replay."""

import json
import time
from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from spinepaint.app.deps import LedgerDep
from spinepaint.app.feed import Feed, is_last
from spinepaint.app.openapi import TEXT, answers
from spinepaint.app.submission import known_job
from spinepaint.store.ledger import Ledger
from spinepaint.store.models import FINISHED, Event, Job

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["jobs"])

KEEP_ALIVE_S = 15.0
"""Proxies close what is silent for longer than half a minute or so."""
_REPLAYED_AT_ONCE = 500
_EVENT = {"type": "object", "properties": {"id": TEXT, "event": TEXT, "data": TEXT}}
NO_MORE = 204  # tells an EventSource not to connect again


@router.get(
    "/events",
    response_class=Response,
    responses=answers(404, _200={"content": {"text/event-stream": {"itemSchema": _EVENT}}}, _204={"description": "No more"}),
)
async def follow_job(
    job_id: UUID, request: Request, ledger: LedgerDep, last_event_id: Annotated[int, Header(ge=0, le=2**31)] = 0
) -> Response:
    """Every event after `Last-Event-ID`, then those to come, until the job has ended; or the service, and a client asks again.

    204 where the job has ended and the client has all of its events; 404 where there is no such job (any more).
    """
    job = await run_in_threadpool(known_job, ledger, str(job_id))
    if job.state in FINISHED and last_event_id >= job.last_event:
        return Response(status_code=NO_MORE)
    feed: Feed = request.app.state.feed
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_stream(ledger, feed, job, last_event_id), media_type="text/event-stream", headers=headers)


async def _stream(ledger: Ledger, feed: Feed, job: Job, last_event_id: int) -> AsyncIterator[str]:
    # A number that the job has not come to is of another ledger, say one restored from a backup: what comes is new.
    after = min(last_event_id, job.last_event)
    # Listening begins before the replay, so that nothing falls between the two; what is in both is told once.
    with feed.listen(job.id, job.last_event) as listener:
        while events := await run_in_threadpool(ledger.events, job.id, after, _REPLAYED_AT_ONCE):
            for event in events:
                after = event.seq
                yield _frame(event)
            # A job may end and be queued again, so only its newest event ends the stream.
            if after >= job.last_event and is_last(events[-1]):
                return
            if len(events) < _REPLAYED_AT_ONCE:
                break
        spoke = time.monotonic()
        while True:
            try:
                told = await listener.next(max(0.0, spoke + KEEP_ALIVE_S - time.monotonic()))
            except TimeoutError:
                yield ": still here\n\n"
                spoke = time.monotonic()
                continue
            if told is None:
                return
            if told.seq > after:
                after, spoke = told.seq, time.monotonic()
                yield _frame(told)
                if is_last(told):
                    return


def _frame(event: Event) -> str:
    data = json.dumps({"at": event.at.isoformat(), **event.data}, separators=(",", ":"))
    return f"id: {event.seq}\nevent: {event.type}\ndata: {data}\n\n"
