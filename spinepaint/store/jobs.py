"""The ledger's jobs as callers see them: submit, look up, cancel."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import exists, func, select, tuple_
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from spinepaint.store.cursors import decode_cursor, encode_cursor
from spinepaint.store.database import Database, utc_now
from spinepaint.store.dicom_deliveries import owe_delivery
from spinepaint.store.dicom_models import DicomSeries
from spinepaint.store.errors import AlreadyFinished, IdempotencyConflict, UnknownJob, UnknownSeries
from spinepaint.store.layout import new_id
from spinepaint.store.models import ACTIVE, Event, Job, JobState, Series
from spinepaint.store.priorities import Priority, queue_rank, require_priorities
from spinepaint.store.queue_caps import enforce_queue_cap, lock_queue
from spinepaint.store.series import NewSeries, entered
from spinepaint.store.transitions import announce_all, change, owe_at_end, record, schedule_attempt_discard
from spinepaint.traces import current_trace

_UID = 64
"""Characters of a UID (PS3.5 9.1)."""


@dataclass(frozen=True)
class JobOrder:
    """What a caller asks for: an edit of a series, where to tell when it has ended, where to deliver the result, how urgently."""

    series_id: str
    spec: dict[str, Any]
    callback_url: str | None = None
    destination: str | None = None
    priority: Priority = Priority.NORMAL


@dataclass(frozen=True)
class Page:
    """Some jobs, newest first, and where the next page starts (None: there is none)."""

    jobs: list[Job] = field(default_factory=list)
    next_cursor: str | None = None


class JobBook(Database):
    """Jobs, one by one."""

    def submit_job(
        self,
        series_id: str,
        spec: dict[str, Any],
        idempotency_key: str | None = None,
        fingerprint: str | None = None,
        *,
        tenant: str | None = None,
        callback_url: str | None = None,
        destination: str | None = None,
        priority: Priority = Priority.NORMAL,
        max_attempts: int = 3,
        queue_cap: int | None = None,
        new_series: NewSeries | None = None,
    ) -> Job:
        """Queue a job, and the message that will wake a worker for it, in one transaction; `new_series` is entered in it too.

        The same idempotency key of the same tenant with the same fingerprint returns the first job, and enters no series. Raises
        IdempotencyConflict with another fingerprint, UnknownSeries, QueueFull at `queue_cap` queued jobs of the tenant or at as
        many as its caller's key may have, PriorityNotAllowed, or StoringTimeout as `enter_series` does.
        """
        tenant = self.tenant if tenant is None else tenant
        try:
            with self.write() as session:
                if idempotency_key and (first := _first_job(session, tenant, idempotency_key, fingerprint)):
                    return first
                require_priorities(session, [priority])
                if new_series is not None:
                    entered(session, new_series, tenant)
                # Not before: a tenant's submissions wait for one another from here to the commit. What is locked by now is the
                # new series' own, for which nobody else can wait.
                lock_queue(session, tenant, queue_cap)
                enforce_queue_cap(session, tenant, 1, queue_cap)
                order = JobOrder(series_id, spec, callback_url, destination, priority)
                job = _enter(session, order, tenant, max_attempts, idempotency_key=idempotency_key, fingerprint=fingerprint)
            return job
        except IntegrityError:
            # PostgreSQL only: the same key was committed, or the series deleted, since this transaction looked.
            with self.read() as session:
                if idempotency_key and (first := _first_job(session, tenant, idempotency_key, fingerprint)):
                    return first
            raise UnknownSeries(series_id) from None

    def get_job(self, job_id: str, tenant: str | None = None) -> Job | None:
        """The job, or None; with a tenant, only where it is theirs."""
        with self.read() as session:
            job = session.get(Job, job_id)
        return job if job is not None and tenant in (None, job.tenant) else None

    def trace_of(self, job_id: str) -> str | None:
        """The trace that a job belongs to, a W3C traceparent; None where there is none."""
        with self.read() as session:
            return session.scalar(select(Job.trace_parent).where(Job.id == job_id))

    def list_jobs(
        self,
        state: JobState | str | None = None,
        cursor: str | None = None,
        limit: int = 50,
        tenant: str | None = None,
        series_uid: str | None = None,
    ) -> Page:
        """A page of jobs, newest first; with a Series Instance UID those that read or made such a series. Raises BadCursor."""
        query = select(Job).order_by(Job.created_at.desc(), Job.id.desc()).limit(limit + 1)
        if state is not None:
            query = query.where(Job.state == str(state))
        if tenant is not None:
            query = query.where(Job.tenant == tenant)
        if series_uid is not None:
            # Ids by two indexes: of an OR the database would try all jobs.
            made = select(DicomSeries.job_id).where(DicomSeries.series_uid == series_uid, DicomSeries.job_id.is_not(None))
            query = query.where(Job.id.in_(select(Job.id).where(Job.series_uid == series_uid).union(made)))
        if cursor is not None:
            query = query.where(tuple_(Job.created_at, Job.id) < tuple_(*decode_cursor(cursor)))
        with self.read() as session:
            jobs = list(session.scalars(query))
        last = jobs[limit - 1] if len(jobs) > limit else None
        return Page(jobs[:limit], encode_cursor(last.created_at, last.id) if last else None)

    def count_states(self, batch_id: str | None = None, tenant: str | None = None) -> dict[JobState, int]:
        """How many jobs are in each state; every state is present."""
        query = select(Job.state, func.count()).group_by(Job.state)
        if batch_id is not None:
            query = query.where(Job.batch_id == batch_id)
        if tenant is not None:
            query = query.where(Job.tenant == tenant)
        with self.read() as session:
            found = {row[0]: row[1] for row in session.execute(query)}
        return {state: found.get(state.value, 0) for state in JobState}

    def queue_depth(self, tenant: str | None = None, *, most: int | None = None) -> int:
        """How many jobs wait for a worker, counted no further than `most`.

        Those that have ended, of which there may be millions, are not looked at for it.
        """
        waiting = select(Job.id).where(Job.state == JobState.QUEUED.value).limit(most)
        if tenant is not None:
            waiting = waiting.where(Job.tenant == tenant)
        with self.read() as session:
            return session.scalar(select(func.count()).select_from(waiting.subquery())) or 0

    def events(self, job_id: str, after: int = 0, limit: int = 1000) -> list[Event]:
        """What happened to a job since event number `after`, in order."""
        query = select(Event).where(Event.job_id == job_id, Event.seq > after).order_by(Event.seq).limit(limit)
        with self.read() as session:
            return list(session.scalars(query))

    def cancel(self, job_id: str, tenant: str | None = None) -> Job:
        """Cancel a job at once; a worker that runs it notices by its next progress or heartbeat.

        Raises UnknownJob, or AlreadyFinished where it has ended.
        """
        with self.write() as session:
            job = session.scalar(select(Job).where(Job.id == job_id).with_for_update())
            if job is None or tenant not in (None, job.tenant):
                raise UnknownJob(job_id)
            if job.state not in ACTIVE:
                raise AlreadyFinished(job.state)
            token = job.attempt_token
            now = utc_now()
            changed = change(
                session, job_id, Job.state.in_(ACTIVE), state=JobState.CANCELLED, attempt_token=None, finished_at=now
            )
            if changed is None:
                raise AlreadyFinished(job_id)
            if token is not None:
                schedule_attempt_discard(session, job_id, token, self.attempt_limit)
            record(session, changed, "state", {"state": JobState.CANCELLED.value})
            owe_at_end(session, changed)
        return changed


def _first_job(session: Session, tenant: str, key: str, fingerprint: str | None) -> Job | None:
    first = session.scalar(select(Job).where(Job.tenant == tenant, Job.idempotency_key == key))
    if first is not None and first.fingerprint != fingerprint:
        raise IdempotencyConflict("this Idempotency-Key came before with another request")
    return first


def queued_job(order: JobOrder, tenant: str, max_attempts: int, **more: Any) -> Job:
    """The row of a job that has just been asked for."""
    now = utc_now()
    return Job(
        id=new_id(),
        tenant=tenant,
        series_id=order.series_id,
        spec=order.spec,
        series_uid=_series_uid(order.spec),
        callback_url=order.callback_url,
        state=JobState.QUEUED.value,
        max_attempts=max_attempts,
        priority=order.priority.value,
        queue_rank=queue_rank(now, order.priority),
        created_at=now,
        last_event=1,
        trace_parent=current_trace(),
        **more,
    )


def _series_uid(spec: Mapping[str, Any]) -> str | None:
    uid = spec.get("series_uid")
    return str(uid)[:_UID] if uid is not None else None


def tell_queued(session: Session, jobs: Sequence[Job], orders: Sequence[JobOrder]) -> None:
    """What is written after the rows of queued jobs, in the same transaction: their events, messages and deliveries."""
    announce_all(session, [job.id for job in jobs], utc_now())
    for job, order in zip(jobs, orders, strict=True):
        record(session, job, "state", {"state": JobState.QUEUED.value})
        if order.destination is not None:
            owe_delivery(session, job.id, order.destination)


def _enter(session: Session, order: JobOrder, tenant: str, max_attempts: int, **more: Any) -> Job:
    """Queue one job within the caller's transaction."""
    if not session.scalar(select(exists().where(Series.id == order.series_id, Series.tenant == tenant))):
        raise UnknownSeries(order.series_id)
    job = queued_job(order, tenant, max_attempts, **more)
    session.add(job)
    session.flush()
    tell_queued(session, [job], [order])
    return job
