"""Whose turn it is: which queued job a free worker takes, so that no tenant waits behind all of another's jobs."""

import math
import random
from collections.abc import Sequence
from datetime import datetime
from itertools import chain, zip_longest

from sqlalchemy import CTE, Select, exists, func, select

from spinepaint.store.attempts import AttemptBook, Claim
from spinepaint.store.database import utc_now
from spinepaint.store.models import Announcement, Job, JobState

_TRIES = 20
"""How often another worker may be faster before this one leaves it to its next message."""
_IN_TURN = 3
"""How often a worker asks for the very next turn before it draws one: so few are in the way of nobody but one another."""
_MOST_TURNS = 256
"""Among how many turns at most a worker draws: of a thousand that look at once so many then get theirs."""


class TurnBook(AttemptBook):
    """Claims by turn. A message of the broker says that a job waits; which one is run for it is decided here."""

    def claim_next(self, worker: str) -> Claim | None:
        """Take the job whose turn it is; None where none waits that may be run by now.

        The turn is of the tenant of which the fewest jobs run, of several of the one that was served least lately, and of its
        jobs of the one with the least `queue_rank`: the oldest, where priorities do not put another first. Each statement reads a
        few index entries a tenant, however many jobs wait.

        All who look at one moment see the same turn, and one of them gets it. Whoever lost some draws one of the next few, and of
        more of them each time: else a crowd would go on in step, and lose together.
        """
        for lost in range(_TRIES):
            job_id = self.next_turn() if lost < _IN_TURN else self._draw(4 ** (lost - _IN_TURN + 1))
            if job_id is None:
                return None
            if claim := self.claim(job_id, worker):
                return claim
        return None

    def next_turn(self) -> str | None:
        """The id of the job whose turn it is."""
        return next(iter(self.next_turns(1)), None)

    def next_turns(self, most: int) -> list[str]:
        """The ids of jobs whose turns are next, `most` at the most: one of each tenant, then the second of each, and so on."""
        now = utc_now()
        with self.read() as session:
            tenants = session.scalars(waiting_tenants()).all()
            each = math.ceil(most / max(1, len(tenants)))
            queues: list[Sequence[str]] = []
            for tenant in tenants:
                queues.append(session.scalars(first_queued(tenant, now, each)).all())
                if sum(map(len, queues)) >= most:
                    break
        in_turn = chain.from_iterable(zip_longest(*queues))
        return [job_id for job_id in in_turn if job_id is not None][:most]

    def _draw(self, turns: int) -> str | None:
        found = self.next_turns(min(turns, _MOST_TURNS))
        return random.choice(found) if found else None  # noqa: S311 - no secret


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


def first_queued(tenant: str, now: datetime, most: int = 1) -> Select[str]:
    """A tenant's queued jobs that go first, without those that wait for their next attempt."""
    later = exists().where(Announcement.job_id == Job.id, Announcement.sent_at.is_(None), Announcement.due_at > now)
    mine = select(Job.id).where(Job.state == JobState.QUEUED.value, Job.tenant == tenant, ~later)
    return mine.order_by(Job.queue_rank, Job.id).limit(most)
