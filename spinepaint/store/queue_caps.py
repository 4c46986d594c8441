"""How many jobs may wait: of a tenant, and under a key. Each holds also where many submit at once."""

from sqlalchemy import ColumnElement, func, select, text
from sqlalchemy.orm import Session

from spinepaint.store.callers import caller_of
from spinepaint.store.errors import QueueFull
from spinepaint.store.models import Job, JobState

_LOCKS = 0x51554555  # any constant of 31 bits that no other program's pairs of advisory locks begin with


def lock_queue(session: Session, tenant: str, cap: int | None) -> None:
    """Keep all others from adding to the tenant's queue until the commit, so that no two are both the last that fits a cap.

    To be taken before any row's lock, so that those who wait for it hold nothing that its holder waits for. SQLite lets one
    write at a time anyway.
    """
    if session.get_bind().dialect.name == "postgresql" and (cap is not None or _key_cap(session) is not None):
        lock = text("SELECT pg_advisory_xact_lock(:queues, hashtext(:tenant))")
        session.execute(lock, {"queues": _LOCKS, "tenant": tenant})


def enforce_queue_cap(session: Session, tenant: str, new: int, cap: int | None) -> None:
    """Raise QueueFull where with `new` ones the tenant would have more than `cap` queued jobs, or the caller's key too many.

    Whoever asks has the lock of `lock_queue`.
    """
    _enforce_cap(session, Job.tenant == tenant, new, cap)
    caller = caller_of(session)
    if caller is not None and caller.key_id is not None:
        _enforce_cap(session, Job.key_id == caller.key_id, new, _key_cap(session))


def _key_cap(session: Session) -> int | None:
    """How many jobs of the caller's key may wait. All of them are of one tenant."""
    caller = caller_of(session)
    return None if caller is None or caller.key_id is None else caller.max_queued_jobs


def _enforce_cap(session: Session, whose: ColumnElement[bool], new: int, cap: int | None) -> None:
    if cap is None:
        return
    waiting = session.scalar(select(func.count()).where(whose, Job.state == JobState.QUEUED.value)) or 0
    if waiting + new > cap:
        raise QueueFull(cap)
