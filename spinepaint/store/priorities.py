"""Priorities of jobs: what goes first among one tenant's jobs, and for how long at most it does."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy.orm import Session

from spinepaint.store.callers import caller_of
from spinepaint.store.errors import PriorityNotAllowed

STEP = timedelta(days=1)
"""How much earlier a job counts as submitted for each step of its priority. So nothing overtakes a job for ever: what comes
later than this, times the steps between them, waits behind it."""


class Priority(StrEnum):
    """How urgent a job is among those of its tenant; it changes nothing between tenants, who take turns."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"

    @property
    def steps(self) -> int:
        """Steps above normal."""
        return _STEPS[self]


_STEPS = {Priority.LOW: -1, Priority.NORMAL: 0, Priority.HIGH: 1}


def queue_rank(created_at: datetime, priority: Priority) -> float:
    """Where a job stands in its tenant's queue, the least first: when it counts as submitted, in seconds since 1970."""
    return (created_at - priority.steps * STEP).timestamp()


def require_priorities(session: Session, asked: Iterable[Priority]) -> None:
    """Raise PriorityNotAllowed where the caller's key may not ask for one of these."""
    caller = caller_of(session)
    if caller is None or caller.max_priority is None:
        return
    most = Priority(caller.max_priority)
    if any(priority.steps > most.steps for priority in asked):
        raise PriorityNotAllowed(most.value)
