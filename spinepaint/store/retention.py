"""Forgetting what is old enough: results some time after their job has ended, sources some time after they were last used.

What goes, goes as by `DELETE`: the rows in one transaction, the files by the reaper. Each is entered in the audit trail.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, delete, exists, or_, select
from sqlalchemy.orm import Session

from spinepaint.store.audit import AuditEntry
from spinepaint.store.batches import in_parts
from spinepaint.store.database import Database, utc_now
from spinepaint.store.deletions import forget_jobs, forget_series
from spinepaint.store.dicom_deliveries import PENDING
from spinepaint.store.dicom_models import DicomDelivery, DicomSeries
from spinepaint.store.models import FINISHED, Batch, Delivery, Job, Series
from spinepaint.store.webhooks import OWED

ACTION = "retention"
"""What the audit trail calls it; a service does it, and no key."""


class RetentionBook(Database):
    """Forgets a little at a time, so that nobody waits long for the database; any number of reapers may do it at once."""

    def purge_jobs(self, ended_before: datetime, limit: int = 50) -> int:
        """Forget jobs that ended before a moment, with their results; how many.

        What is still owed of a job is delivered or given up first. A batch goes as a whole, once all of its jobs are old
        enough, and where all of them have gone.
        """
        with self.write() as session:
            # What has ended before a moment was submitted before it, and for that there is an index.
            old = select(Job).where(Job.state.in_(FINISHED), Job.created_at < ended_before, Job.finished_at < ended_before)
            alone = old.where(Job.batch_id.is_(None), ~_owed(Job.id)).limit(limit)
            found = list(session.scalars(alone.with_for_update(skip_locked=True)))
            owing = _owing(session, found)
            jobs = [job for job in found if job.id not in owing]
            _tell(session, jobs)
            forget_jobs(session, [job.id for job in jobs])
            gone = len(jobs)
            if len(found) < limit:
                gone += _purge_batch(session, ended_before)
        if gone:
            self.scrub()
        return gone

    def purge_series(self, used_before: datetime, limit: int = 50) -> int:
        """Forget series that were stored, and last read by a job, before a moment; results of them stay. How many."""
        read = exists().where(Job.series_id == Series.id, _not_ended_before(used_before))
        stored = exists().where(DicomSeries.source_id == Series.id, DicomSeries.stored_at >= used_before)
        unused = select(Series).where(Series.created_at < used_before, ~read, ~stored)
        with self.write() as session:
            # The lock keeps a job from being submitted for one from now on.
            found = list(session.scalars(unused.order_by(Series.created_at).limit(limit).with_for_update(skip_locked=True)))
            used = _used(session, [row.id for row in found], used_before)
            series = [row for row in found if row.id not in used]
            for row in series:
                session.add(_entry(row.tenant, series_sha256=row.sha256))
                forget_series(session, row)
        if series:
            self.scrub()
        return len(series)


def _purge_batch(session: Session, ended_before: datetime) -> int:
    """Forget one batch, all of whose jobs ended before a moment, or have gone; how many jobs and batches."""
    young = exists().where(Job.batch_id == Batch.id, or_(_not_ended_before(ended_before), _owed(Job.id)))
    old = select(Batch).where(Batch.created_at < ended_before, ~young).order_by(Batch.created_at).limit(1)
    batch = session.scalar(old.with_for_update(skip_locked=True))
    if batch is None:
        return 0
    # Locked in the order in which all lock them, and asked again: one of them may have been queued again meanwhile.
    jobs = list(session.scalars(select(Job).where(Job.batch_id == batch.id).order_by(Job.batch_index).with_for_update()))
    if any(job.finished_at is None or job.finished_at >= ended_before for job in jobs) or _owing(session, jobs):
        return 0
    _tell(session, jobs)
    forget_jobs(session, [job.id for job in jobs])
    session.execute(delete(Batch).where(Batch.id == batch.id))
    return len(jobs) + 1


def _used(session: Session, series_ids: list[str], used_before: datetime) -> set[str | None]:
    """Which of these series, whose rows are locked, somebody has come to use since they were found to be unused.

    A statement sees the database as it was when it began, and locks later: asked again, it sees what was committed meanwhile.
    The rows that tell of a use are locked with it, so that none begins until the commit; one that somebody else has locked is
    taken for a use.
    """
    reading, stored = Job.series_id.in_(series_ids), DicomSeries.source_id.in_(series_ids)
    idle_jobs = select(Job.id).where(reading, Job.finished_at < used_before)
    idle_dicom = select(DicomSeries.id).where(stored, DicomSeries.stored_at < used_before)
    jobs = set(session.scalars(idle_jobs.with_for_update(skip_locked=True)))
    dicom = set(session.scalars(idle_dicom.with_for_update(skip_locked=True)))
    readers = session.execute(select(Job.id, Job.series_id).where(reading))
    objects = session.execute(select(DicomSeries.id, DicomSeries.source_id).where(stored))
    return {of for job_id, of in readers if job_id not in jobs} | {of for dicom_id, of in objects if dicom_id not in dicom}


def _owing(session: Session, jobs: list[Job]) -> set[str]:
    """Which of these jobs, whose rows are locked, something is still to be sent of: it may be so since they were found."""
    parts = in_parts([job.id for job in jobs])
    return {job_id for some in parts for job_id in session.scalars(select(Job.id).where(Job.id.in_(some), _owed(Job.id)))}


def _not_ended_before(moment: datetime) -> ColumnElement[bool]:
    return or_(Job.finished_at.is_(None), Job.finished_at >= moment)


def _owed(job_id: Any) -> ColumnElement[bool]:
    """Whether something is still to be sent of a job."""
    webhook = exists().where(Delivery.job_id == job_id, Delivery.state == OWED)
    delivery = exists().where(DicomDelivery.job_id == job_id, DicomDelivery.state == PENDING)
    return or_(webhook, delivery)


def _tell(session: Session, jobs: list[Job]) -> None:
    ids = {job.series_id for job in jobs if job.series_id is not None}
    hashes = {row.id: row.sha256 for row in session.execute(select(Series.id, Series.sha256).where(Series.id.in_(ids)))}
    for job in jobs:
        session.add(_entry(job.tenant, series_sha256=hashes.get(job.series_id or ""), job_id=job.id, batch_id=job.batch_id))


def _entry(tenant: str, **what: str | None) -> AuditEntry:
    return AuditEntry(at=utc_now(), tenant=tenant, key_id=None, action=ACTION, status=0, **what)
