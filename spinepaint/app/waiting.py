"""When a client is to ask again for a job that waits: one number, wherever it is told."""

from datetime import timedelta

from spinepaint.settings import Settings
from spinepaint.store.database import utc_now
from spinepaint.store.figures import wait_s
from spinepaint.store.ledger import Ledger
from spinepaint.store.models import Job, JobState

UNKNOWN_S = 5.0
"""What a job is taken to last where none has succeeded yet."""


def retry_after_s(ledger: Ledger, settings: Settings) -> int:
    """Seconds for Retry-After: depth of the queue × median duration of recent jobs ÷ workers alive, from 1 s to 10 minutes."""
    alive_since = utc_now() - timedelta(seconds=settings.stale_after_s)
    return wait_s(ledger.queue(alive_since), unknown_s=UNKNOWN_S)


def waiting_headers(ledger: Ledger, settings: Settings, job: Job) -> dict[str, str]:
    """Retry-After where the job waits, nothing where it does not."""
    return {"Retry-After": str(retry_after_s(ledger, settings))} if job.state == JobState.QUEUED.value else {}
