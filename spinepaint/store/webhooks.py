"""Webhooks owed to callers: who tries when, and what became of it."""

from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import Select, exists, func, select, update
from sqlalchemy.orm import Session

from spinepaint.store.audit import audit_sending
from spinepaint.store.database import Database, utc_now
from spinepaint.store.layout import new_id
from spinepaint.store.models import Delivery, Job

OWED, DELIVERED, GIVEN_UP = "owed", "delivered", "given_up"
_PORTS = {"https": 443, "http": 80}
_RECEIVER = 300


def owe_webhook(session: Session, job: Job) -> None:
    """The job has just ended: tell its caller, where one asked for it."""
    if job.callback_url is not None:
        now, url = utc_now(), job.callback_url
        receiver = receiver_of(url)
        session.add(Delivery(id=new_id(), job_id=job.id, url=url, receiver=receiver, state=OWED, created_at=now, due_at=now))


def receiver_of(url: str) -> str:
    """Host and port that a webhook goes to, by which those are told apart who must not hold up one another; empty for no URL."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        return ""
    # Of a name that is too long the end says more of whose it is.
    return f"{(parts.hostname or '').removesuffix('.')}:{port}"[-_RECEIVER:]


def receivers_due(now: datetime, after: str | None, limit: int) -> Select[str]:
    """Each is found by a step in the index to the next one, however much is owed to it.

    The steps are in order by themselves, and nothing is sorted, so they end with the limit.
    """
    owed = Delivery.state == OWED
    first = select(func.min(Delivery.receiver).label("name")).where(owed)
    found = (first if after is None else first.where(Delivery.receiver > after)).cte("receivers", recursive=True)
    following = select(func.min(Delivery.receiver)).where(owed, Delivery.receiver > found.c.name).scalar_subquery()
    every = found.union_all(select(following).where(found.c.name.is_not(None)))
    due = exists().where(owed, Delivery.receiver == every.c.name, Delivery.due_at <= now)
    return select(every.c.name).where(due).limit(limit)


class WebhookBook(Database):
    """A sender takes a webhook for a while and says how it went. Its `attempts` is its token, so that one that was taken
    for dead changes nothing.
    """

    def due_receivers(self, now: datetime, after: str | None = None, limit: int = 100) -> list[str]:
        """Receivers of what can be tried now, in the database's order of their names: the first, or those that follow `after`."""
        with self.read() as session:
            return list(session.scalars(receivers_due(now, after, limit)))

    def due_webhooks(self, now: datetime, receiver: str | None = None, limit: int = 100) -> list[Delivery]:
        """Webhooks that can be tried now, oldest debt first; to one receiver, where one is given."""
        due = select(Delivery).where(Delivery.state == OWED, Delivery.due_at <= now).order_by(Delivery.due_at)
        if receiver is not None:
            due = due.where(Delivery.receiver == receiver)
        with self.read() as session:
            return list(session.scalars(due.limit(limit)))

    def take_webhook(self, seen: Delivery, lease: timedelta) -> Delivery | None:
        """Take a webhook that was seen as due, for `lease`; None where another sender has it."""
        values = {"attempts": seen.attempts + 1, "due_at": utc_now() + lease}
        with self.write() as session:
            statement = _held(seen).where(Delivery.due_at == seen.due_at).values(**values)
            row: Delivery | None = session.scalar(statement.returning(Delivery))
        return row

    def holds_webhook(self, taken: Delivery) -> bool:
        """Whether it is still this sender's; not where another took it, or its job was deleted."""
        with self.read() as session:
            row = session.get(Delivery, taken.id)
        return row is not None and (row.state, row.attempts) == (OWED, taken.attempts)

    def end_webhook(self, taken: Delivery) -> bool:
        """Record that the caller has it; False where it is no longer this sender's."""
        return self._settle_webhook(taken, state=DELIVERED, due_at=None, delivered_at=utc_now(), problem=None)

    def fail_webhook(self, taken: Delivery, problem: dict[str, Any], retry_after: timedelta | None) -> bool:
        """Record why a try failed: again after a while, or (None) given up; False where it is no longer this sender's."""
        if retry_after is None:
            return self._settle_webhook(taken, state=GIVEN_UP, due_at=None, problem=problem)
        return self._settle_webhook(taken, due_at=utc_now() + retry_after, problem=problem)

    def webhooks(self, job_ids: list[str]) -> dict[str, Delivery]:
        """The webhooks of some jobs, by the job's id."""
        with self.read() as session:
            return {row.job_id: row for row in session.scalars(select(Delivery).where(Delivery.job_id.in_(job_ids)))}

    def _settle_webhook(self, taken: Delivery, **values: Any) -> bool:
        with self.write() as session:
            mine = session.scalar(_held(taken).values(**values).returning(Delivery.id)) is not None
            if mine:
                audit_sending(session, taken.job_id, "webhook", values["problem"])
        return mine


def _held(delivery: Delivery) -> Any:
    return update(Delivery).where(Delivery.id == delivery.id, Delivery.state == OWED, Delivery.attempts == delivery.attempts)
