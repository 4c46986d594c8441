"""The ledger's debts: broker messages, and deletions of artifacts."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, exists, or_, select, update

from spinepaint.store.batches import in_parts
from spinepaint.store.database import Database, utc_now
from spinepaint.store.models import Announcement, Discard, Job, JobState
from spinepaint.store.transitions import announce


@dataclass(frozen=True)
class PendingAnnouncement:
    """A message that the broker has not been sent."""

    id: int
    job_id: str


class Outbox(Database):
    """Each debt is read, paid, and only then marked: after a crash it is paid twice, never not at all."""

    def pending_announcements(self, now: datetime | None = None, limit: int = 500) -> list[PendingAnnouncement]:
        """Messages due and unsent, oldest first."""
        query = (
            select(Announcement)
            .where(Announcement.sent_at.is_(None), Announcement.due_at <= (now or utc_now()))
            .order_by(Announcement.id)
            .limit(limit)
        )
        with self.read() as session:
            return [PendingAnnouncement(row.id, row.job_id) for row in session.scalars(query)]

    def mark_announced(self, announcement_ids: list[int], now: datetime | None = None) -> None:
        """Record that the broker has taken these messages."""
        with self.write() as session:
            session.execute(
                update(Announcement)
                .where(Announcement.id.in_(announcement_ids), Announcement.sent_at.is_(None))
                .values(sent_at=now or utc_now())
            )

    def reannounce(self, now: datetime, older_than: timedelta, limit: int) -> list[str]:
        """Owe new messages for up to `limit` queued jobs of whose last message nothing came for `older_than`.

        A broker that lost its memory lost their messages. Returns the jobs' ids.
        """
        cutoff = now - older_than
        recent = exists().where(Announcement.job_id == Job.id, or_(Announcement.sent_at.is_(None), Announcement.sent_at > cutoff))
        silent = (
            select(Job.id)
            .where(Job.state == JobState.QUEUED.value, Job.created_at < cutoff, ~recent)
            .order_by(Job.created_at)
            .limit(limit)
        )
        with self.write() as session:
            job_ids = list(session.scalars(silent))
            for job_id in job_ids:
                announce(session, job_id, now)
        return job_ids

    def prune_announcements(self, sent_before: datetime, limit: int = 2000) -> int:
        """Forget messages that were sent before a moment, a few at a time; how many.

        Those younger than what `reannounce` is told say that a job need not be announced again.
        """
        old = select(Announcement.id).where(Announcement.sent_at < sent_before).limit(limit).with_for_update(skip_locked=True)
        with self.write() as session:
            gone = list(session.scalars(old))
            for some in in_parts(gone):
                session.execute(delete(Announcement).where(Announcement.id.in_(some)))
        return len(gone)

    def take_discards(self, now: datetime, lease: timedelta, limit: int = 20) -> list[str]:
        """Prefixes to delete now, the longest due first, that nobody else is given before the lease is over.

        So many may delete at once, and one that cannot be deleted is tried again later, which keeps no other waiting. `due_at`
        stays as it was: what is being deleted must not look like what is planned for later.
        """
        due = select(Discard).where(Discard.take_at <= now).order_by(Discard.take_at).limit(limit)
        with self.write() as session:
            taken = list(session.scalars(due.with_for_update(skip_locked=True)))
            for discard in taken:
                discard.take_at = now + lease
            return [discard.prefix for discard in taken]

    def mark_discarded(self, prefix: str) -> None:
        """Record that nothing is left under a prefix."""
        with self.write() as session:
            session.execute(delete(Discard).where(Discard.prefix == prefix))
        self.scrub()
