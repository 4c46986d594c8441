"""Forgetting: a job with its results, a batch with its jobs, a series with or without what was made of it.

One transaction takes every row that tells of it, so that nothing finds it any more, and enters its files for deletion;
the reaper deletes those, also where the process was killed in between.
"""

from collections.abc import Sequence
from typing import Literal

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from spinepaint.store.batches import in_parts
from spinepaint.store.database import Database, utc_now
from spinepaint.store.errors import (
    BatchActive,
    JobActive,
    SeriesHasResults,
    SeriesInUse,
    UnknownBatch,
    UnknownJob,
    UnknownSeries,
)
from spinepaint.store.layout import job_prefix
from spinepaint.store.models import ACTIVE, Batch, Job, JobState, Series
from spinepaint.store.series import schedule_discard

Results = Literal["keep", "delete"]


class DeletionBook(Database):
    """Deletes jobs, batches and series."""

    def delete_job(self, job_id: str, tenant: str | None = None) -> None:
        """Forget a job that has ended: its row, report, events, debts, idempotency key, DICOM index and files.

        Raises UnknownJob, or JobActive while it is queued or runs.
        """
        with self.write() as session:
            job = session.scalar(select(Job).where(Job.id == job_id).with_for_update())
            if job is None or tenant not in (None, job.tenant):
                raise UnknownJob(job_id)
            if job.state in ACTIVE:
                raise JobActive(job_id)
            forget_jobs(session, [job_id])
        self.scrub()

    def delete_batch(self, batch_id: str, tenant: str | None = None) -> None:
        """Forget a batch of which every item has ended, with all of its jobs, as `delete_job` would each.

        Raises UnknownBatch, or BatchActive, naming the jobs that are queued or run.
        """
        with self.write() as session:
            batch = session.scalar(select(Batch).where(Batch.id == batch_id).with_for_update())
            if batch is None or tenant not in (None, batch.tenant):
                raise UnknownBatch(batch_id)
            jobs = list(session.scalars(select(Job).where(Job.batch_id == batch_id).order_by(Job.batch_index).with_for_update()))
            if active := [job.id for job in jobs if job.state in ACTIVE]:
                raise BatchActive(active)
            forget_jobs(session, [job.id for job in jobs])
            session.execute(delete(Batch).where(Batch.id == batch_id))
        self.scrub()

    def delete_series(self, series_id: str, tenant: str | None = None, *, results: Results | None = None) -> None:
        """Forget a series, and with `results="delete"` every job that was made of it; with "keep" they stay as they are.

        Raises UnknownSeries, SeriesInUse while a queued or running job reads it, or SeriesHasResults where jobs have
        results and `results` does not say what is to become of them.
        """
        with self.write() as session:
            # The lock keeps a job from being submitted for it between the question and the deletion.
            series = session.scalar(select(Series).where(Series.id == series_id).with_for_update())
            if series is None or tenant not in (None, series.tenant):
                raise UnknownSeries(series_id)
            made = select(Job).where(Job.series_id == series_id).order_by(Job.created_at, Job.batch_index)
            jobs = list(session.scalars(made.with_for_update()))
            if active := [job.id for job in jobs if job.state in ACTIVE]:
                raise SeriesInUse(active)
            succeeded = [job.id for job in jobs if job.state == JobState.SUCCEEDED.value]
            if succeeded and results is None:
                raise SeriesHasResults(succeeded)
            if results == "delete":
                forget_jobs(session, [job.id for job in jobs])
            forget_series(session, series)
        self.scrub()


def forget_series(session: Session, series: Series) -> None:
    """Delete a series that no queued or running job reads; jobs that have read it stay, and no longer name it."""
    schedule_discard(session, series.artifact_key, utc_now())
    session.execute(delete(Series).where(Series.id == series.id))


def forget_jobs(session: Session, job_ids: Sequence[str]) -> None:
    """Delete jobs that have ended; the database deletes what refers to them.

    Files that a lost attempt may still be writing were entered for a later deletion of their own when it was lost.
    """
    for job_id in job_ids:
        schedule_discard(session, job_prefix(job_id), utc_now())
    for some in in_parts(job_ids):
        session.execute(delete(Job).where(Job.id.in_(some)))
