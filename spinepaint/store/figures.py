"""What the ledger can tell operators: numbers about all jobs, never about one, and who works on them."""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from spinepaint.store.database import Database, utc_now
from spinepaint.store.dicom_deliveries import PENDING
from spinepaint.store.dicom_models import DicomDelivery
from spinepaint.store.models import Delivery, Job, JobState
from spinepaint.store.signal_models import Tally, Worker
from spinepaint.store.webhooks import OWED

LONGEST_WAIT_S = 600
"""The most that a caller is told to wait before asking again."""
_RECENT = 50
_QUICK_S = 1.0
"""What a job is taken to last at least where that bounds how many are counted."""
_FORGOTTEN_AFTER = timedelta(days=1)

Tallies = Mapping[tuple[str, str, float | None], tuple[int, float]]


@dataclass(frozen=True)
class Memory:
    """Bytes of a worker process, and of its GPU where it has one."""

    process_bytes: int
    gpu_bytes: int | None = None
    gpu_used_bytes: int | None = None


@dataclass(frozen=True)
class Figures:
    """The ledger at one moment: jobs by state, what is owed, who works, and `tallies` as (count, sum) by name, label, bound."""

    jobs: Mapping[str, int]
    oldest_queued_at: datetime | None
    webhooks: Mapping[str, int]
    deliveries: Mapping[str, int]
    workers: list[Worker]
    tallies: Tallies


@dataclass(frozen=True)
class Queue:
    """What a wait depends on: jobs that wait, seconds that recent ones took (None: there are none), workers alive.

    `depth` stops where more would make no wait longer.
    """

    depth: int
    median_s: float | None
    workers: int


class FigureBook(Database):
    """Counts, and the workers' attendance list."""

    def figures(self, alive_since: datetime) -> Figures:
        """All figures; a worker counts when it was seen since `alive_since`."""
        waiting = Job.state == JobState.QUEUED.value
        sums = select(Tally.name, Tally.label, Tally.bound, func.sum(Tally.count), func.sum(Tally.total))
        with self.read() as session:
            jobs = _by_state(session, Job)
            oldest = session.scalar(select(Job.created_at).where(waiting).order_by(Job.created_at).limit(1))
            webhooks, deliveries = _by_state(session, Delivery), _by_state(session, DicomDelivery)
            workers = list(session.scalars(select(Worker).where(Worker.seen_at >= alive_since).order_by(Worker.name)))
            rows = session.execute(sums.group_by(Tally.name, Tally.label, Tally.bound)).all()
        return Figures(
            jobs={state.value: jobs.get(state.value, 0) for state in JobState},
            oldest_queued_at=oldest,
            webhooks={OWED: 0, **webhooks},
            deliveries={PENDING: 0, **deliveries},
            workers=workers,
            tallies={(name, label, bound): (int(count), total / 1000) for name, label, bound, count, total in rows},
        )

    def queue(self, alive_since: datetime) -> Queue:
        """How long the queue is, and how fast it moves.

        Every client that waits asks this, so no more of the queue is counted than makes a difference: with one worker and
        jobs of 5 s that is 120 of 10,000.
        """
        done = select(Job.started_at, Job.finished_at).where(Job.state == JobState.SUCCEEDED.value)
        waiting = select(Job.id).where(Job.state == JobState.QUEUED.value)
        alive = select(func.count()).where(Worker.seen_at >= alive_since)
        with self.read() as session:
            recent = session.execute(done.order_by(Job.created_at.desc()).limit(_RECENT)).all()
            lasted = [(end - start).total_seconds() for start, end in recent if start is not None and end is not None]
            median_s = statistics.median(lasted) if lasted else None
            workers = session.scalar(alive) or 0
            enough = math.ceil(LONGEST_WAIT_S * max(1, workers) / max(median_s or 0.0, _QUICK_S))
            depth = session.scalar(select(func.count()).select_from(waiting.limit(enough).subquery())) or 0
            return Queue(depth, median_s, workers)

    def count_workers(self, alive_since: datetime) -> int:
        """How many workers were seen since then."""
        with self.read() as session:
            return session.scalar(select(func.count()).where(Worker.seen_at >= alive_since)) or 0

    def attend(self, worker: str, memory: Memory) -> None:
        """Say that a worker is there."""
        now = utc_now()
        used = {
            "seen_at": now,
            "memory_bytes": memory.process_bytes,
            "gpu_memory_bytes": memory.gpu_bytes,
            "gpu_memory_used_bytes": memory.gpu_used_bytes,
        }
        with self.write() as session:
            statement = update(Worker).where(Worker.name == worker).values(**used).returning(Worker.name)
            if session.scalar(statement) is None:
                session.add(Worker(name=worker, started_at=now, **used))

    def seen_at(self, worker: str) -> datetime | None:
        """When a worker said last that it is there; None where it has not yet, or has ended.

        Asked as one who writes, since a ledger that only answers readers lets nobody say so.
        """
        its = Worker.name == worker
        with self.write() as session:
            session.execute(select(Worker.name).where(its).with_for_update(skip_locked=True))
            if session.get_bind().dialect.name == "sqlite":  # whose lock alone succeeds on a disk that is full, too
                session.execute(update(Worker).where(its).values(seen_at=Worker.seen_at))
            return session.scalar(select(Worker.seen_at).where(its))

    def leave(self, worker: str) -> None:
        """Say that a worker has ended."""
        with self.write() as session:
            session.execute(delete(Worker).where(Worker.name == worker))

    def forget_workers(self, now: datetime) -> None:
        """Strike out workers of whom nothing was heard for a day."""
        with self.write() as session:
            session.execute(delete(Worker).where(Worker.seen_at < now - _FORGOTTEN_AFTER))


def _by_state(session: Session, table: type[Job] | type[Delivery] | type[DicomDelivery]) -> dict[str, int]:
    rows = session.execute(select(table.state, func.count()).group_by(table.state)).all()
    return {row[0]: row[1] for row in rows}


def wait_s(queue: Queue, *, unknown_s: float, least_s: int = 1, most_s: int = LONGEST_WAIT_S) -> int:
    """Whole seconds until a job that waits may be done: depth × recent median duration ÷ workers, within bounds.

    `unknown_s` stands for the duration where no job has ended yet. Without any worker it is as with one, which may be starting.
    """
    took_s = unknown_s if queue.median_s is None else queue.median_s
    return min(max(math.ceil(queue.depth * took_s / max(1, queue.workers)), least_s), most_s)
