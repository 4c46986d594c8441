"""How jobs are submitted and answered, by whichever route."""

import asyncio
import hashlib
import json
import re
import threading
import time
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Header
from fastapi.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from spinepaint.app.problems import problem_response, refusal_in
from spinepaint.app.results import chosen_media_type, result_response
from spinepaint.app.schemas import EditSpec, JobView
from spinepaint.app.threads import FILES
from spinepaint.app.waiting import retry_after_s
from spinepaint.callbacks import BadCallback, parse_callback
from spinepaint.imaging.errors import Refusal
from spinepaint.links import job_path
from spinepaint.settings import Settings
from spinepaint.store.artifacts import ArtifactStore
from spinepaint.store.errors import UnknownJob
from spinepaint.store.ledger import Ledger
from spinepaint.store.models import ACTIVE, Job, JobState, Series
from spinepaint.store.priorities import Priority
from spinepaint.store.series import NewSeries

POLL_S = 0.25
MAX_WAIT_S = 120
SYNTHETIC = "The series is already synthetic."
"""What the reader warns of a series that was taken although it says so."""

IdempotencyKey = Annotated[str | None, Header(min_length=1, max_length=255, pattern=r"^[\x21-\x7e]+$")]


def submit(ledger: Ledger, settings: Settings, series: Series | NewSeries, spec: EditSpec, key: str | None) -> Job:
    """Queue a job for a series; with an idempotency key, the first one for the same content and spec.

    A new series is entered with the job, in one transaction, and not at all where the job is an earlier one. Raises Refusal as
    `require_allowed` does, and LedgerError.
    """
    require_allowed(settings, series, spec)
    asked = spec.as_spec()
    identity = [series.sha256, asked, *([spec.destination] if spec.destination else [])]
    if spec.callback_url is not None:
        identity.append({"callback_url": spec.callback_url})
    if spec.priority is not Priority.NORMAL:
        identity.append({"priority": spec.priority})
    fingerprint = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return ledger.submit_job(
        series.id,
        resolved_spec(settings, series, spec),
        idempotency_key=key,
        fingerprint=fingerprint if key else None,
        callback_url=spec.callback_url,
        destination=spec.destination,
        priority=spec.priority,
        max_attempts=settings.max_attempts,
        queue_cap=settings.max_queued_jobs,
        new_series=series if isinstance(series, NewSeries) else None,
    )


def require_allowed(settings: Settings, series: Series | NewSeries, spec: EditSpec) -> None:
    """Raise Refusal where this service does not take that edit of that series.

    For a destination that the settings do not name, for a callback that no webhook goes to, and for a series that says it is
    synthetic where the spec does not allow that: it was the upload's choice, perhaps somebody else's.
    """
    if SYNTHETIC in series.warnings and not spec.allow_synthetic:
        raise Refusal("already-synthetic", SYNTHETIC, 'Say `"allow_synthetic": true` to have it painted into all the same.')
    if spec.destination is not None and spec.destination not in settings.destinations:
        known = ", ".join(sorted(settings.destinations)) or "none"
        raise Refusal("unknown-destination", "There is no destination of that name.", f"The settings name: {known}.")
    _require_callback(settings, spec.callback_url)


def _require_callback(settings: Settings, url: str | None) -> None:
    """The name in it is resolved, and its address checked, when a webhook is sent."""
    if url is None:
        return
    if not settings.webhook.keys:
        detail = "Whoever runs it has to set SPINEPAINT_WEBHOOK__SECRET."
        raise Refusal("no-webhooks", "This service sends no webhooks.", detail)
    try:
        parse_callback(url, settings.webhook.rules)
    except BadCallback as error:
        raise Refusal("bad-callback-url", "No webhook can go to that callback_url.", str(error)) from None


def resolved_spec(settings: Settings, series: Series | NewSeries, spec: EditSpec) -> dict[str, Any]:
    """What the pipeline is handed for an edit of a series, with the deployment's defaults."""
    return {"deidentify": settings.deidentify} | spec.as_spec() | {"series_uid": series.geometry["series_uid"]}


def job_views(ledger: Ledger, jobs: Sequence[Job]) -> list[JobView]:
    """Jobs as they stand, with their deliveries and webhooks."""
    deliveries = ledger.dicom_deliveries([job.id for job in jobs])
    webhooks = ledger.webhooks([job.id for job in jobs if job.callback_url is not None])
    return [
        JobView.of(job, [delivery for delivery in deliveries if delivery.job_id == job.id], webhooks.get(job.id)) for job in jobs
    ]


def accepted(ledger: Ledger, settings: Settings, job: Job) -> Response:
    """202 with the job, where it is, and when to ask again."""
    headers = {"Location": job_path(job.id), "Retry-After": str(retry_after_s(ledger, settings))}
    return JSONResponse(job_views(ledger, [job])[0].model_dump(mode="json"), status_code=202, headers=headers)


def preferred_wait_s(prefer: str | None) -> float:
    """The `wait` of a Prefer header (RFC 7240 4.3), at most two minutes; 0 without one."""
    found = re.search(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,9})", prefer or "")
    return float(min(int(found.group(1)), MAX_WAIT_S)) if found else 0.0


async def answer_when_ready(
    ledger: Ledger,
    artifacts: ArtifactStore,
    settings: Settings,
    job: Job,
    *,
    wait_s: float,
    accept: str,
    stopping: threading.Event,
) -> Response:
    """The result if the job succeeds within `wait_s`, its problem if it fails, else 202; also once the service is stopping."""
    if wait_s <= 0:
        return await run_in_threadpool(accepted, ledger, settings, job)
    chosen_media_type(accept)
    deadline = time.monotonic() + wait_s
    while job.state in ACTIVE and time.monotonic() < deadline and not stopping.is_set():
        await asyncio.sleep(POLL_S)
        job = await run_in_threadpool(known_job, ledger, job.id)
    applied = {"Preference-Applied": f"wait={wait_s:.0f}", "Location": job_path(job.id)}
    if job.state == JobState.SUCCEEDED:
        response: Response = await FILES.run(result_response, job, artifacts, accept)
    elif job.state == JobState.FAILED:
        response = problem_response(refusal_in(job.problem or {}))
    else:
        response = await run_in_threadpool(accepted, ledger, settings, job)
    response.headers.update(applied)
    return response


def known_job(ledger: Ledger, job_id: str) -> Job:
    """The job of that id. Raises UnknownJob."""
    job = ledger.get_job(job_id)
    if job is None:
        raise UnknownJob
    return job
