"""The ledger's batches: many jobs submitted, followed, cancelled and queued again together, each in one transaction."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, delete, func, select, tuple_, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, defer

from spinepaint.store.cursors import decode_cursor, encode_cursor
from spinepaint.store.database import Database, utc_now
from spinepaint.store.dicom_deliveries import FAILED, PENDING
from spinepaint.store.dicom_models import DicomDelivery
from spinepaint.store.errors import BatchFinished, IdempotencyConflict, NothingToRetry, UnknownBatch, UnknownSeries
from spinepaint.store.jobs import JobOrder, queued_job, tell_queued
from spinepaint.store.layout import new_id
from spinepaint.store.models import ACTIVE, Batch, Delivery, Job, JobState, Series
from spinepaint.store.priorities import require_priorities
from spinepaint.store.queue_caps import enforce_queue_cap, lock_queue
from spinepaint.store.tallies import merge_tallies
from spinepaint.store.transitions import announce_all, owe_at_end_of_all, record, schedule_attempt_discard

_IDS_AT_A_TIME = 500  # databases bound the parameters of a statement
T = TypeVar("T")


@dataclass(frozen=True)
class BatchItem:
    """A job of a batch as it stands, without its report; `index` counts from 0 in the order of submission."""

    index: int
    job_id: str
    series_id: str | None
    spec: dict[str, Any]
    state: str
    stage: str | None
    progress: float
    attempts: int
    started_at: datetime | None
    finished_at: datetime | None
    problem: dict[str, Any] | None
    result_key: str | None


@dataclass(frozen=True)
class BatchPage:
    """Some batches, newest first, and where the next page starts (None: there is none)."""

    batches: list[Batch] = field(default_factory=list)
    next_cursor: str | None = None


_ITEM = (
    Job.batch_index,
    Job.id,
    Job.series_id,
    Job.spec,
    Job.state,
    Job.stage,
    Job.progress,
    Job.attempts,
    Job.started_at,
    Job.finished_at,
    Job.problem,
    Job.result_key,
)


class BatchBook(Database):
    """Batches and their items."""

    def submit_batch(
        self,
        orders: Sequence[JobOrder],
        idempotency_key: str | None = None,
        fingerprint: str | None = None,
        *,
        tenant: str | None = None,
        max_attempts: int = 3,
        queue_cap: int | None = None,
    ) -> Batch:
        """Queue many jobs, and the messages that will wake workers for them, in one transaction: all of them or none.

        The same idempotency key of the same tenant with the same fingerprint returns the first batch. Raises
        IdempotencyConflict with another fingerprint, UnknownSeries, QueueFull where the tenant would have more than `queue_cap`
        queued jobs, or PriorityNotAllowed.
        """
        tenant = self.tenant if tenant is None else tenant
        batch = Batch(id=new_id(), tenant=tenant, idempotency_key=idempotency_key, fingerprint=fingerprint, created_at=utc_now())
        try:
            with self.write() as session:
                if idempotency_key and (first := _first_batch(session, tenant, idempotency_key, fingerprint)):
                    return first
                require_priorities(session, {order.priority for order in orders})
                _require_series(session, {order.series_id for order in orders}, tenant)
                lock_queue(session, tenant, queue_cap)
                enforce_queue_cap(session, tenant, len(orders), queue_cap)
                session.add(batch)
                session.flush()
                jobs = [
                    queued_job(order, tenant, max_attempts, batch_id=batch.id, batch_index=index)
                    for index, order in enumerate(orders)
                ]
                session.add_all(jobs)
                session.flush()  # what refers to a job is written after it; each flush is one statement a table, of many rows
                tell_queued(session, jobs, orders)
            return batch
        except IntegrityError:
            # PostgreSQL only: the same key was committed, or a series deleted, since this transaction looked.
            with self.read() as session:
                if idempotency_key and (first := _first_batch(session, tenant, idempotency_key, fingerprint)):
                    return first
            raise UnknownSeries("a series of the batch") from None

    def get_batch(self, batch_id: str, tenant: str | None = None) -> Batch | None:
        """The batch, or None; with a tenant, only where it is theirs."""
        with self.read() as session:
            batch = session.get(Batch, batch_id)
        return batch if batch is not None and tenant in (None, batch.tenant) else None

    def batch_jobs(self, batch_id: str) -> list[Job]:
        """A batch's jobs in the order in which they were submitted."""
        with self.read() as session:
            return list(session.scalars(select(Job).where(Job.batch_id == batch_id).order_by(Job.batch_index)))

    def batch_items(
        self, batch_id: str, state: JobState | str | None = None, *, after: int = -1, limit: int | None = None
    ) -> list[BatchItem]:
        """A batch's items in the order in which they were submitted, those in one state where it is given.

        `after` is the index of the last item that was seen. Items whose jobs were deleted are absent.
        """
        query = select(*_ITEM).where(Job.batch_id == batch_id, Job.batch_index > after).order_by(Job.batch_index).limit(limit)
        if state is not None:
            query = query.where(Job.state == str(state))
        with self.read() as session:
            return [BatchItem(*row) for row in session.execute(query)]

    def list_batches(self, cursor: str | None = None, limit: int = 50, tenant: str | None = None) -> BatchPage:
        """A page of batches, newest first. Raises BadCursor."""
        query = select(Batch).order_by(Batch.created_at.desc(), Batch.id.desc()).limit(limit + 1)
        if tenant is not None:
            query = query.where(Batch.tenant == tenant)
        if cursor is not None:
            query = query.where(tuple_(Batch.created_at, Batch.id) < tuple_(*decode_cursor(cursor)))
        with self.read() as session:
            batches = list(session.scalars(query))
        last = batches[limit - 1] if len(batches) > limit else None
        return BatchPage(batches[:limit], encode_cursor(last.created_at, last.id) if last else None)

    def batch_counts(self, batch_ids: Sequence[str]) -> dict[str, dict[JobState, int]]:
        """How many items of each of these batches are in each state; every batch and state is present."""
        found = {batch_id: dict.fromkeys(JobState, 0) for batch_id in batch_ids}
        query = select(Job.batch_id, Job.state, func.count()).where(Job.batch_id.in_(batch_ids))
        with self.read() as session:
            for batch_id, state, count in session.execute(query.group_by(Job.batch_id, Job.state)):
                found[batch_id or ""][JobState(state)] = count
        return found

    def cancel_batch(self, batch_id: str, tenant: str | None = None) -> Batch:
        """Cancel every item that has not ended; a worker that runs one notices by its next progress or heartbeat.

        Raises UnknownBatch, or BatchFinished where all have ended.
        """
        with self.write() as session:
            batch = _known(session, batch_id, tenant)
            jobs = _locked(session, batch_id, Job.state.in_(ACTIVE))
            if not jobs:
                raise BatchFinished(batch_id)
            tokens = [(job.id, job.attempt_token) for job in jobs if job.attempt_token is not None]
            _move(session, jobs, state=JobState.CANCELLED, attempt_token=None, finished_at=utc_now())
            for job_id, token in tokens:
                schedule_attempt_discard(session, job_id, token, self.attempt_limit)
            owe_at_end_of_all(session, jobs, _with_deliveries(session, jobs))
        return batch

    def retry_batch(self, batch_id: str, tenant: str | None = None, *, queue_cap: int | None = None) -> Batch:
        """Queue the failed and the cancelled items again, with all their attempts; what has succeeded stays.

        An item whose series was deleted stays as it is. Raises UnknownBatch, NothingToRetry, or QueueFull as in `submit_batch`.
        """
        ended_badly = Job.state.in_((JobState.FAILED.value, JobState.CANCELLED.value))
        with self.write() as session:
            batch = _known(session, batch_id, tenant)
            lock_queue(session, batch.tenant, queue_cap)
            jobs = _locked(session, batch_id, ended_badly, Job.series_id.is_not(None))
            if not jobs:
                raise NothingToRetry(batch_id)
            enforce_queue_cap(session, batch.tenant, len(jobs), queue_cap)
            fresh: dict[str, Any] = {"attempts": 0, "progress": 0.0}
            fresh |= dict.fromkeys(("stage", "worker", "heartbeat_at", "started_at", "finished_at", "problem", "attempt_token"))
            _move(session, jobs, state=JobState.QUEUED, **fresh)
            announce_all(session, [job.id for job in jobs], utc_now())
            _reopen_debts(session, [job.id for job in jobs])
        return batch


def _first_batch(session: Session, tenant: str, key: str, fingerprint: str | None) -> Batch | None:
    first = session.scalar(select(Batch).where(Batch.tenant == tenant, Batch.idempotency_key == key))
    if first is not None and first.fingerprint != fingerprint:
        raise IdempotencyConflict("this Idempotency-Key came before with another request")
    return first


def _require_series(session: Session, series_ids: set[str], tenant: str) -> None:
    missing = set(series_ids)
    for some in in_parts(sorted(series_ids)):
        missing -= set(session.scalars(select(Series.id).where(Series.id.in_(some), Series.tenant == tenant)))
    if missing:
        raise UnknownSeries(min(missing))


def _known(session: Session, batch_id: str, tenant: str | None) -> Batch:
    batch = session.get(Batch, batch_id)
    if batch is None or tenant not in (None, batch.tenant):
        raise UnknownBatch(batch_id)
    return batch


def _locked(session: Session, batch_id: str, *conditions: ColumnElement[bool]) -> list[Job]:
    """The jobs of a batch for which the conditions hold, nobody else's to change until the commit."""
    query = select(Job).where(Job.batch_id == batch_id, *conditions).order_by(Job.batch_index)
    return list(session.scalars(query.options(defer(Job.report)).with_for_update()))


def _move(session: Session, jobs: Sequence[Job], *, state: JobState, **values: Any) -> None:
    """Bring jobs that are locked into a state, with the event that tells of it."""
    for job in jobs:
        job.state = state.value
        job.last_event += 1
        for name, value in values.items():
            setattr(job, name, value)
        record(session, job, "state", {"state": state.value})
    merge_tallies(session)
    session.flush()


def _with_deliveries(session: Session, jobs: Sequence[Job]) -> set[str]:
    query = select(DicomDelivery.job_id).distinct()
    return {
        job_id
        for some in in_parts([job.id for job in jobs])
        for job_id in session.scalars(query.where(DicomDelivery.job_id.in_(some)))
    }


def _reopen_debts(session: Session, job_ids: Sequence[str]) -> None:
    """What was owed or given up when the jobs ended without a result is owed anew when they end again."""
    again: dict[str, Any] = {"state": PENDING, "attempts": 0, "due_at": None, "problem": None}
    for some in in_parts(job_ids):
        session.execute(delete(Delivery).where(Delivery.job_id.in_(some)))
        failed = update(DicomDelivery).where(DicomDelivery.job_id.in_(some), DicomDelivery.state == FAILED)
        session.execute(failed.values(**again))


def in_parts(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """Values a few hundred at a time, for statements that name each."""
    for first in range(0, len(values), _IDS_AT_A_TIME):
        yield values[first : first + _IDS_AT_A_TIME]
