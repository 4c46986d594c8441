"""Events of many jobs at once, for a gateway that follows them for its clients."""

from collections.abc import Collection, Mapping
from itertools import islice

from sqlalchemy import and_, or_, select

from spinepaint.store.database import Database
from spinepaint.store.models import Event, Job

_AT_ONCE = 200
"""Jobs in one query: SQLite takes no condition of any length."""


class EventBook(Database):
    """What happened to jobs, since an event number for each."""

    def last_events(self, job_ids: Collection[str]) -> dict[str, int]:
        """The number of each job's last event; a job that there is not (any more) is absent."""
        found: dict[str, int] = {}
        with self.read() as session:
            for some in _pieces(job_ids):
                rows = session.execute(select(Job.id, Job.last_event).where(Job.id.in_(some)))
                found.update((job_id, last) for job_id, last in rows)
        return found

    def events_since(self, after: Mapping[str, int]) -> list[Event]:
        """The events of each job after its number in `after`; those of one job in order."""
        found: list[Event] = []
        with self.read() as session:
            for some in _pieces(after):
                each = [and_(Event.job_id == job_id, Event.seq > after[job_id]) for job_id in some]
                found.extend(session.scalars(select(Event).where(or_(*each)).order_by(Event.job_id, Event.seq)))
        return found


def _pieces(job_ids: Collection[str]) -> list[list[str]]:
    left = iter(job_ids)
    return list(iter(lambda: list(islice(left, _AT_ONCE)), []))
