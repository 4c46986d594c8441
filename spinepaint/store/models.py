"""The ledger's tables. Times are UTC and timezone-aware; ids are random strings."""

from datetime import MINYEAR, UTC, datetime
from enum import StrEnum
from typing import Any, ClassVar

from sqlalchemy import JSON, DateTime, Dialect, ForeignKey, Index, MetaData, String, TypeDecorator, UniqueConstraint, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class JobState(StrEnum):
    """Where a job is: two states in which it can still change, three in which it has ended."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


ACTIVE = (JobState.QUEUED.value, JobState.RUNNING.value)
FINISHED = (JobState.SUCCEEDED.value, JobState.FAILED.value, JobState.CANCELLED.value)


class UtcDateTime(TypeDecorator[datetime]):
    """A timezone-aware UTC time on every database; SQLite itself keeps no zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert to UTC on the way in, what no year of UTC holds to its first or last moment; a naive time raises ValueError."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("the ledger takes timezone-aware times only")
        try:
            return value.astimezone(UTC)
        except OverflowError:  # an hour before the first year, or after the last
            return (datetime.min if value.year == MINYEAR else datetime.max).replace(tzinfo=UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Attach or convert to UTC on the way out."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """Declarative base with stable constraint names, so that migrations can name them."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: UtcDateTime,
        dict[str, Any]: JSON,
        list[Any]: JSON,
        str: String(64),
    }


class Series(Base):
    """An accepted upload."""

    __tablename__ = "series"

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    sha256: Mapped[str]
    geometry: Mapped[dict[str, Any]]
    warnings: Mapped[list[Any]]
    artifact_key: Mapped[str] = mapped_column(String(512))
    created_at: Mapped[datetime]

    __table_args__ = (Index(None, "tenant", "sha256"), Index(None, "created_at"))


class Batch(Base):
    """Jobs that were submitted together."""

    __tablename__ = "batches"

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    fingerprint: Mapped[str | None]
    created_at: Mapped[datetime]

    __table_args__ = (
        UniqueConstraint("tenant", "idempotency_key"),
        Index(None, "created_at"),
        Index(None, "tenant", "created_at"),
    )


class Job(Base):
    """One request for one edited series. Its row is the truth; the broker only wakes workers."""

    __tablename__ = "jobs"

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    key_id: Mapped[str | None]
    """The key under which it was submitted; None where the service asked for none."""
    series_id: Mapped[str | None] = mapped_column(ForeignKey("series.id", ondelete="SET NULL"), index=True)
    batch_id: Mapped[str | None] = mapped_column(ForeignKey("batches.id"))
    batch_index: Mapped[int] = mapped_column(default=0)
    spec: Mapped[dict[str, Any]]
    series_uid: Mapped[str | None] = mapped_column(index=True)
    """The Series Instance UID of what it reads, as its spec has it; by this it is found also once the series is deleted."""
    callback_url: Mapped[str | None] = mapped_column(String(2048))
    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    fingerprint: Mapped[str | None]
    priority: Mapped[str] = mapped_column(String(16), default="normal", server_default="normal")
    queue_rank: Mapped[float] = mapped_column(server_default="0")
    """Where it stands in its tenant's queue, the least first; see `store.priorities`."""

    state: Mapped[str] = mapped_column(String(16))
    stage: Mapped[str | None]
    progress: Mapped[float] = mapped_column(default=0.0)
    attempts: Mapped[int] = mapped_column(default=0)
    max_attempts: Mapped[int]
    attempt_token: Mapped[str | None]
    worker: Mapped[str | None] = mapped_column(String(255))
    heartbeat_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    problem: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    report: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    result_key: Mapped[str | None] = mapped_column(String(512))
    last_event: Mapped[int] = mapped_column(default=0)
    trace_parent: Mapped[str | None]
    """The trace of the request that asked for it (W3C Trace Context), where there was one."""

    __table_args__ = (
        UniqueConstraint("tenant", "idempotency_key"),
        Index(None, "state", "created_at"),
        Index(None, "tenant", "created_at"),
        Index(None, "state", "tenant", "queue_rank"),
        Index(None, "tenant", "started_at"),
        Index(None, "tenant", "state", "created_at"),
        Index(None, "key_id", "state", "tenant"),
        Index(None, "batch_id", "batch_index"),
    )


class Announcement(Base):
    """The outbox: a broker message owed or sent for a job, written in the transaction that queued it."""

    __tablename__ = "outbox"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime]
    due_at: Mapped[datetime]
    sent_at: Mapped[datetime | None]

    __table_args__ = (Index(None, "sent_at", "due_at"),)


class Event(Base):
    """What happened to a job, numbered from 1 without gaps, for replay to a client that reconnects."""

    __tablename__ = "events"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[datetime]
    type: Mapped[str] = mapped_column(String(16))
    data: Mapped[dict[str, Any]]


class Discard(Base):
    """Artifacts to delete from `due_at` on, when nobody can still be writing them.

    `take_at` is when to try next, or until when somebody is deleting them.
    """

    __tablename__ = "discards"

    prefix: Mapped[str] = mapped_column(String(512), primary_key=True)
    due_at: Mapped[datetime]
    take_at: Mapped[datetime] = mapped_column(index=True)


class Delivery(Base):
    """A webhook owed to a caller, written in the transaction that ended the job.

    `state` is owed, delivered or given_up. `due_at` is when to try next, or until when a sender has it. `attempts` counts the
    tries and is the token of the one that runs; `problem` is what the last one met. `receiver` is host and port of `url`.
    """

    __tablename__ = "deliveries"

    id: Mapped[str] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), unique=True)
    url: Mapped[str] = mapped_column(String(2048))
    receiver: Mapped[str] = mapped_column(String(300), default="", server_default=text("''"))
    state: Mapped[str] = mapped_column(String(16))
    attempts: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime]
    due_at: Mapped[datetime | None] = mapped_column(index=True)
    delivered_at: Mapped[datetime | None]
    problem: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))

    __table_args__ = (Index(None, "state", "receiver", "due_at"),)


class ApiKey(Base):
    """A caller's key: its digest only, never the key. Rows stay once it is revoked, since the audit trail names them.

    `rate_per_s` and `burst` are its token bucket, `max_queued_jobs` how many of its jobs may wait; None is the deployment's
    default. `max_priority` is the highest that its jobs may have, None any. `last_used_at` is right to within a minute.
    """

    __tablename__ = "keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(255))
    tenant: Mapped[str]
    scopes: Mapped[list[Any]]
    digest: Mapped[str] = mapped_column(unique=True)
    rate_per_s: Mapped[float | None]
    burst: Mapped[int | None]
    max_queued_jobs: Mapped[int | None]
    max_priority: Mapped[str | None] = mapped_column(String(16))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
