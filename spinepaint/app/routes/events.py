"""A job's events as they happen (server-sent events, WHATWG HTML 9.2), with replay."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Response
from fastapi.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from spinepaint.app.deps import LedgerDep, StoppingDep
from spinepaint.app.submission import known_job
from spinepaint.store.ledger import Ledger
from spinepaint.store.models import FINISHED, Event

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["jobs"])

POLL_S = 0.25
KEEP_ALIVE_S = 15.0
NO_MORE = 204  # tells an EventSource not to connect again


@router.get(
    "/events",
    response_class=Response,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}, NO_MORE: {"description": "No more"}},
)
async def follow_job(
    job_id: UUID, ledger: LedgerDep, stopping: StoppingDep, last_event_id: Annotated[int, Header(ge=0, le=2**31)] = 0
) -> Response:
    """Every event after `Last-Event-ID`, then those to come, until the job has ended; or the service, and a client asks again."""
    job = await run_in_threadpool(known_job, ledger, str(job_id))
    if job.state in FINISHED and last_event_id >= job.last_event:
        return Response(status_code=NO_MORE)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_stream(ledger, job.id, last_event_id, stopping), media_type="text/event-stream", headers=headers)


async def _stream(ledger: Ledger, job_id: str, after: int, stopping: threading.Event) -> AsyncIterator[str]:
    spoke = time.monotonic()
    while True:
        # The state is read before the events: a job that had ended then has written its last one.
        job = await run_in_threadpool(ledger.get_job, job_id)
        events = await run_in_threadpool(ledger.events, job_id, after)
        for event in events:
            after, spoke = event.seq, time.monotonic()
            yield _frame(event)
        if stopping.is_set() or job is None or (job.state in FINISHED and after >= job.last_event):
            return
        if time.monotonic() - spoke > KEEP_ALIVE_S:
            spoke = time.monotonic()
            yield ": still here\n\n"
        await asyncio.sleep(POLL_S)


def _frame(event: Event) -> str:
    data = json.dumps({"at": event.at.isoformat(), **event.data}, separators=(",", ":"))
    return f"id: {event.seq}\nevent: {event.type}\ndata: {data}\n\n"
