"""Pays the ledger's debts: messages to the broker, jobs whose worker stopped, files that nobody owns."""

import logging
import random
import time
from collections.abc import Callable
from datetime import timedelta
from threading import Event
from typing import Protocol

from kombu.exceptions import OperationalError
from sqlalchemy.exc import SQLAlchemyError

from spinepaint.settings import Settings
from spinepaint.store import ArtifactStore, Ledger, LostAttempt
from spinepaint.worker.broker import Broker
from spinepaint.worker.standstill import Standstill

_log = logging.getLogger(__name__)
BROKER_PAUSE_S = 1.0
MESSAGES_A_WORKER = 200
"""So many at the broker keep a worker busy until the next look, whatever else waits: a message stands for no job of its own."""
DELETE_LEASE = timedelta(seconds=30)
BUSY_S = 1.0
"""How long to go on with what there may be any amount of: new jobs wait to be announced meanwhile."""
WATCHED_HEARTBEATS = 3
"""So many a silent attempt misses while the ledger answers before it is taken back: when the ledger was away, all are silent."""
WATCHED_SHARE = 1 / 4
"""And so long at least, as a share of the time after which an attempt counts as silent."""
ANNOUNCED_S, REAPED_S = 5.0, 30.0
"""How seldom one of very many workers looks after what is common to all: as long as it may take where the others die at once."""


class JobQueue(Protocol):
    """What the reaper needs of a broker."""

    def send(self, job_id: str) -> None:
        """Wake a worker for a job."""

    def backlog(self) -> int:
        """Messages that no worker has taken yet."""


class Reaper:
    """Any number may run over one ledger: what two of them do at once is done once, or twice without harm.

    The more workers there are, the more seldom each of them looks, so that all together ask the database about as often as one.
    """

    def __init__(self, ledger: Ledger, artifacts: ArtifactStore, queue: JobQueue, settings: Settings) -> None:
        """`settings` gives the intervals."""
        self._ledger, self._artifacts, self._queue, self._settings = ledger, artifacts, queue, settings
        self._reap_at = self._announce_at = self._broker_asked = float("-inf")
        self._others = 0
        # Heartbeats may be set to come faster than a worker can be connected again.
        every_s = max(settings.heartbeat_s, WATCHED_SHARE * settings.stale_after_s / WATCHED_HEARTBEATS)
        self._silent: Standstill[str] = Standstill(every_s, WATCHED_HEARTBEATS)
        self._taken: list[str] = []
        self._lease_ends = float("-inf")

    def tick(self) -> list[LostAttempt]:
        """Do what is due now; the attempts that were taken back. A debt that cannot be paid is left for the next tick."""
        now = time.monotonic()
        if now >= max(self._broker_asked, self._announce_at):
            self._announce_at = now + self._longer_s(self._settings.announce_every_s, ANNOUNCED_S)
            self._guard("announcing", self.announce)
        lost: list[LostAttempt] = []
        if now >= self._reap_at or (self._silent.has_any and self._silent.is_due):
            self._guard("taking back", lambda: lost.extend(self.take_back()))
        if now < self._reap_at:
            return lost
        self._reap_at = now + self._settings.reap_every_s + self._longer_s(self._settings.reap_every_s, REAPED_S)
        self._guard("announcing again", self.restore_messages)
        self._guard("deleting", self.delete_discarded)
        self._guard("tidying", self.tidy)
        self._guard("purging", self.purge)
        self._guard("counting the workers", self.count_others)
        return lost

    def announce(self) -> int:
        """Send the outbox's messages; how many."""
        pending = self._ledger.pending_announcements()
        sent: list[int] = []
        try:
            for announcement in pending:
                self._queue.send(announcement.job_id)
                sent.append(announcement.id)
        finally:
            if sent:
                self._ledger.mark_announced(sent)
        return len(sent)

    def take_back(self) -> list[LostAttempt]:
        """Queue again, or fail, the jobs whose heartbeat stopped, and was seen to be missing since."""
        if self._silent.has_any and not self._silent.is_due:
            return []
        try:
            now, stale_after = self._ledger.now(), timedelta(seconds=self._settings.stale_after_s)
            stopped = self._silent.look(self._ledger.silent_attempts(now, stale_after))
            lost = self._ledger.requeue_stale(now, stale_after, stopped) if stopped else []
        except SQLAlchemyError:
            self._silent.forget()  # nobody else could say anything either
            raise
        for attempt in lost:
            fate = "queued again" if attempt.requeued else "failed"
            _log.warning("job %s: worker %s stopped; %s", attempt.job_id, attempt.worker, fate)
        return lost

    def restore_messages(self) -> int:
        """Announce again what a broker without memory forgot: no more jobs than it has too few messages for."""
        missing = self._ledger.queue_depth(most=MESSAGES_A_WORKER * (1 + self._others)) - self._queue.backlog()
        if missing <= 0:
            return 0
        again = timedelta(seconds=self._settings.reannounce_after_s)
        return len(self._ledger.reannounce(self._ledger.now(), again, missing))

    def delete_discarded(self) -> int:
        """Delete files that are due for it; how many prefixes."""
        return _for_a_while(self._delete_some)

    def tidy(self) -> None:
        """Fold what was counted, strike out workers that have long been silent, and end what was recorded long enough ago."""
        _for_a_while(self._forget_messages)
        self._ledger.fold_tallies()
        self._ledger.forget_workers(self._ledger.now())
        self._ledger.prune_audit(self._ledger.now() - timedelta(days=self._settings.audit_days))

    def purge(self) -> int:
        """Forget jobs and series that are kept no longer; how many. Their files are deleted in another step."""
        gone = _for_a_while(self._purge_some)
        if gone:
            _log.info("%d jobs, batches and series were kept long enough, and are gone", gone)
        return gone

    def count_others(self) -> None:
        """See how many workers share the work of this one."""
        alive_since = self._ledger.now() - timedelta(seconds=self._settings.stale_after_s)
        self._others = max(0, self._ledger.count_workers(alive_since) - 1)

    def _delete_some(self) -> int:
        now = time.monotonic()
        if not self._taken or now >= self._lease_ends:
            self._lease_ends = now + DELETE_LEASE.total_seconds()
            self._taken = self._ledger.take_discards(self._ledger.now(), DELETE_LEASE)
        if not self._taken:
            return 0
        # One, and then a look at the clock: a bucket may be slow. What is left is for the next tick, until the lease is over.
        prefix = self._taken.pop(0)
        self._artifacts.delete_prefix(prefix)
        self._ledger.mark_discarded(prefix)
        return 1

    def _forget_messages(self) -> int:
        return self._ledger.prune_announcements(self._ledger.now() - timedelta(seconds=self._settings.reannounce_after_s))

    def _purge_some(self) -> int:
        now, results, sources = self._ledger.now(), self._settings.retain_results_days, self._settings.retain_sources_days
        gone = 0 if results is None else self._ledger.purge_jobs(now - timedelta(days=results))
        return gone + (0 if sources is None else self._ledger.purge_series(now - timedelta(days=sources)))

    def _longer_s(self, every_s: float, most_s: float) -> float:
        """How much longer than alone to leave it to the others; at random, so that they do not all look at once."""
        return min(every_s * self._others, max(0.0, most_s - every_s)) * random.uniform(0.5, 1.5)  # noqa: S311

    def _guard(self, what: str, step: Callable[[], object]) -> None:
        """One debt that cannot be paid must not keep the others from being paid."""
        try:
            step()
        except (OperationalError, OSError) as error:
            self._broker_asked = time.monotonic() + BROKER_PAUSE_S
            _log.warning("%s: the broker or the store does not answer (%s)", what, type(error).__name__)
        except Exception as error:
            _log.error("%s failed (%s); tried again later", what, type(error).__name__)


def _for_a_while(some: Callable[[], int]) -> int:
    """Repeat what does a little at a time, until there is no more or the time is over; how much was done."""
    until, done = time.monotonic() + BUSY_S, 0
    while (did := some()) > 0:
        done += did
        if time.monotonic() > until:
            break
    return done


def make_reaper(settings: Settings) -> Reaper:
    """A reaper over the URLs of `settings`."""
    ledger = Ledger(settings.database_url, attempt_limit_s=settings.attempt_limit_s)
    return Reaper(ledger, ArtifactStore(settings.artifacts_url), Broker.of(settings), settings)


def run_reaper(settings: Settings, stop: Event) -> None:
    """Reap until `stop` is set."""
    reaper = make_reaper(settings)
    while not stop.wait(settings.announce_every_s):
        reaper.tick()
