"""Whose turn it is: which queued job a free worker takes, so that no tenant waits behind all of another's jobs."""

from datetime import datetime

from sqlalchemy import CTE, Select, exists, func, select
from sqlalchemy.orm import Session

from spinepaint.store.attempts import AttemptBook, Claim
from spinepaint.store.database import utc_now
from spinepaint.store.models import Announcement, Job, JobState

_TRIES = 20
"""How often another worker may be faster before this one leaves it to its next message."""


class TurnBook(AttemptBook):
    """Claims by turn. A message of the broker says that a job waits; which one is run for it is decided here."""

    def claim_next(self, worker: str) -> Claim | None:
        """Take the job whose turn it is; None where none waits that may be run by now.

        The turn is of the tenant of which the fewest jobs run, of several of the one that was served least lately, and of its
        jobs of the one with the least `queue_rank`: the oldest, where priorities do not put another first. Each statement reads a
        few index entries a tenant, however many jobs wait.
        """
        for _ in range(_TRIES):
            job_id = self.next_turn()
            if job_id is None:
                return None
            if claim := self.claim(job_id, worker):
                return claim
        return None

    def next_turn(self) -> str | None:
        """The id of the job whose turn it is."""
        now = utc_now()
        with self.read() as session:
            found = (_first(session, tenant, now) for tenant in session.scalars(waiting_tenants()).all())
            return next((job_id for job_id in found if job_id is not None), None)


def waiting_tenants() -> Select[str]:
    """Tenants with queued jobs, in the order of their turns."""
    tenants = _tenants_by_skipping()
    running = select(func.count()).where(Job.state == JobState.RUNNING.value, Job.tenant == tenants.c.tenant)
    served_at = select(func.max(Job.started_at)).where(Job.tenant == tenants.c.tenant)
    order = (running.scalar_subquery(), served_at.scalar_subquery().nulls_first(), tenants.c.tenant)
    return select(tenants.c.tenant).where(tenants.c.tenant.is_not(None)).order_by(*order)


def _tenants_by_skipping() -> CTE:
    """Each tenant with queued jobs, found by a step in the index to the next one: DISTINCT would read all queued jobs."""
    queued = Job.state == JobState.QUEUED.value
    tenants = select(func.min(Job.tenant).label("tenant")).where(queued).cte("waiting", recursive=True)
    following = select(func.min(Job.tenant)).where(queued, Job.tenant > tenants.c.tenant).scalar_subquery()
    return tenants.union_all(select(following).where(tenants.c.tenant.is_not(None)))


def first_queued(tenant: str, now: datetime) -> Select[str]:
    """A tenant's queued job that goes first, without those that wait for their next attempt."""
    later = exists().where(Announcement.job_id == Job.id, Announcement.sent_at.is_(None), Announcement.due_at > now)
    mine = select(Job.id).where(Job.state == JobState.QUEUED.value, Job.tenant == tenant, ~later)
    return mine.order_by(Job.queue_rank, Job.id).limit(1)


def _first(session: Session, tenant: str, now: datetime) -> str | None:
    return session.scalar(first_queued(tenant, now))
