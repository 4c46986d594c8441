"""How a job's row changes: one conditional UPDATE, and what has to be written in the same transaction."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from sqlalchemy import ColumnElement, insert, update
from sqlalchemy.orm import Session

from spinepaint.store.database import utc_now
from spinepaint.store.dicom_deliveries import settle_deliveries
from spinepaint.store.layout import result_prefix
from spinepaint.store.models import Announcement, Event, Job, JobState
from spinepaint.store.series import schedule_discard
from spinepaint.store.tallies import TRANSITIONS, count, merge_tallies, tally_end
from spinepaint.store.webhooks import owe_webhook


def change(session: Session, job_id: str, condition: ColumnElement[bool], **values: Any) -> Job | None:
    """Compare-and-set: change the job where `condition` holds; the job after it, or None where it did not hold.

    The UPDATE locks the row, so the event number that it takes is the job's own until the commit.
    """
    plain = {name: value.value if isinstance(value, Enum) else value for name, value in values.items()}
    statement = (
        update(Job)
        .where(Job.id == job_id, condition)
        .values(**plain, last_event=Job.last_event + 1)
        .returning(Job)
        .execution_options(populate_existing=True)
    )
    return session.scalar(statement)


def record(session: Session, job: Job, kind: str, data: dict[str, Any]) -> None:
    """Write the event whose number `change` took, and count a change of state. The first entry into the queue is none."""
    session.add(Event(job_id=job.id, seq=job.last_event, at=utc_now(), type=kind, data=data))
    if kind == "state" and data["state"] != JobState.QUEUED.value:
        count(session, TRANSITIONS, data["state"])
    elif kind == "state" and "attempt" in data:
        count(session, TRANSITIONS, "requeued")


def announce(session: Session, job_id: str, due_at: datetime) -> None:
    """Owe the broker a message about a queued job, from `due_at` on."""
    session.add(Announcement(job_id=job_id, created_at=utc_now(), due_at=due_at, sent_at=None))


def announce_all(session: Session, job_ids: Sequence[str], due_at: datetime) -> None:
    """Owe the broker a message about each of many queued jobs, in one statement: nobody asks for the rows' numbers."""
    now = utc_now()
    session.execute(insert(Announcement), [{"job_id": job_id, "created_at": now, "due_at": due_at} for job_id in job_ids])


def owe_at_end(session: Session, job: Job) -> None:
    """What a job that has just ended leaves to do and to count: its deliveries and its webhook, where they were asked for."""
    settle_deliveries(session, job)
    owe_webhook(session, job)
    tally_end(session, job)


def owe_at_end_of_all(session: Session, jobs: Sequence[Job], delivered_on: Collection[str]) -> None:
    """`owe_at_end` of many jobs in a few statements; `delivered_on` are the ids of those that have deliveries."""
    with session.no_autoflush:
        for job in jobs:
            if job.id in delivered_on:
                settle_deliveries(session, job)
            owe_webhook(session, job)
            tally_end(session, job)
    merge_tallies(session)


def schedule_attempt_discard(session: Session, job_id: str, token: str, after: timedelta) -> None:
    """Have a lost attempt's files deleted once it can no longer be writing them."""
    schedule_discard(session, result_prefix(job_id, token), utc_now() + after)
