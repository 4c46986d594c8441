"""A database that was away makes every attempt look stopped: those that live have to be able to say so first."""

from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from spinepaint.settings import Settings
from spinepaint.store import LostAttempt
from spinepaint.worker import reaper as module
from spinepaint.worker import standstill
from spinepaint.worker.reaper import WATCHED_HEARTBEATS, Reaper
from spinepaint.worker.tasks import make_workplace
from tests.worker.workplaces import add_source, job_now, open_stores, paint

MORNING = datetime(2026, 1, 1, tzinfo=UTC)
TICK_S = 0.25


class Hall:
    """A ledger on a clock of the test's own, whose attempts beat as long as they are `alive` and it answers."""

    def __init__(self, settings: Settings, monkeypatch: pytest.MonkeyPatch, attempts: Collection[str]) -> None:
        self.seconds, self.away = 0.0, False
        self.alive = set(attempts)
        self.beaten = dict.fromkeys(attempts, 0.0)
        self.taken_at: dict[str, float] = {}
        self._settings = settings
        for who in (module, standstill):
            monkeypatch.setattr(who, "time", SimpleNamespace(monotonic=lambda: self.seconds))
        ledger: Any = self
        self.reaper = Reaper(ledger, ledger, ledger, settings)

    def __getattr__(self, _name: str) -> Any:
        return lambda *_args, **_named: self._answer([])

    def _answer(self, answer: Any) -> Any:
        if self.away:
            raise OperationalError("SELECT", None, ConnectionError("gone"))
        return answer

    def count_workers(self, _since: datetime) -> int:
        return int(self._answer(1))

    def queue_depth(self, **_named: Any) -> int:
        return int(self._answer(0))

    def backlog(self) -> int:
        return 0

    def now(self) -> datetime:
        return MORNING + timedelta(seconds=self.seconds)

    def silent_attempts(self, now: datetime, silent_for: timedelta) -> list[str]:
        oldest = (now - silent_for - MORNING).total_seconds()
        return list(self._answer([token for token, beaten in self.beaten.items() if beaten < oldest]))

    def requeue_stale(self, now: datetime, stale_after: timedelta, tokens: Collection[str]) -> list[LostAttempt]:
        taken = [token for token in self.silent_attempts(now, stale_after) if token in tokens]
        for token in taken:
            del self.beaten[token]
            self.taken_at[token] = self.seconds
        return [LostAttempt(token, token, "w", True) for token in taken]

    def run(self, seconds: float, each_tick: Callable[[], object] = lambda: None) -> None:
        """Let the reaper tick and the attempts beat for so long; what beats comes after what reaps, at each moment."""
        for _ in range(int(seconds / TICK_S)):
            self.seconds += TICK_S
            each_tick()
            self.reaper.tick()
            for token in self.alive & self.beaten.keys():
                # Not all at the same moment, and none at once when the ledger is back.
                if not self.away and self.seconds % self._settings.heartbeat_s < TICK_S:
                    self.beaten[token] = self.seconds


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path)


@pytest.fixture
def hall(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Hall:
    return Hall(settings, monkeypatch, ("living", "dead"))


def test_an_attempt_that_stops_is_taken_back_after_a_few_more_heartbeats(hall: Hall, settings: Settings) -> None:
    hall.run(100)
    hall.alive.remove("dead")
    hall.run(200)
    assert set(hall.taken_at) == {"dead"}
    latest = settings.stale_after_s + WATCHED_HEARTBEATS * settings.heartbeat_s + 2 * settings.reap_every_s
    assert settings.stale_after_s < hall.taken_at["dead"] - 100 <= latest


def test_an_outage_costs_only_those_that_did_not_outlive_it(hall: Hall, settings: Settings) -> None:
    hall.run(100)
    hall.alive.remove("dead")
    hall.away = True
    hall.run(3 * settings.stale_after_s)
    hall.away = False
    hall.run(100)
    assert set(hall.taken_at) == {"dead"}
    assert hall.taken_at["dead"] - hall.seconds + 100 >= WATCHED_HEARTBEATS * settings.heartbeat_s


def test_an_outage_that_begins_while_an_attempt_is_watched_starts_that_again(hall: Hall, settings: Settings) -> None:
    hall.run(100)
    hall.alive.clear()
    hall.run(settings.stale_after_s + WATCHED_HEARTBEATS * settings.heartbeat_s - 5)
    assert hall.taken_at == {}
    hall.away = True
    hall.run(20)
    hall.away, hall.alive = False, {"living"}
    hall.run(100)
    assert set(hall.taken_at) == {"dead"}


def test_what_fails_at_each_look_keeps_nothing_from_being_taken_back(hall: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_args: Any) -> None:
        raise OperationalError("DELETE", None, PermissionError("audit"))

    monkeypatch.setattr(hall, "prune_audit", denied, raising=False)
    hall.alive.remove("dead")
    hall.run(100)
    assert set(hall.taken_at) == {"dead"}


def test_heartbeats_that_come_fast_leave_time_to_be_connected_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(data_dir=tmp_path, heartbeat_s=0.5)
    hall = Hall(settings, monkeypatch, ("living", "dead"))
    hall.run(10)
    hall.away, hall.alive = True, set()
    hall.run(2 * settings.stale_after_s)
    hall.away = False
    hall.run(10)  # as long as who lives may take to find the way back
    assert hall.taken_at == {}
    hall.alive = {"living"}
    hall.run(30)
    assert set(hall.taken_at) == {"dead"}


def test_a_ledger_that_froze_and_a_machine_that_slept_are_no_silence_of_others(hall: Hall, settings: Settings) -> None:
    hall.run(100)
    for _ in range(5):
        hall.seconds += 2 * settings.stale_after_s  # no tick, and no error either
        hall.run(2 * settings.heartbeat_s)
    hall.run(100)
    assert hall.taken_at == {}


def test_what_a_job_made_outlives_an_outage_at_its_end(tmp_path: Path) -> None:
    """An outage that costs no attempt in the middle of a job must not cost one at its end."""
    ledger, _ = open_stores(tmp_path)
    ledger.close()
    settings = Settings(data_dir=tmp_path)
    place = make_workplace(settings, "w", tmp_path / "scratch", paint)
    assert place.deliver_within_s == settings.job_limit_s > 10 * settings.stale_after_s
    place.ledger.close()


def test_only_the_attempts_that_were_named_are_taken_back(tmp_path: Path) -> None:
    ledger, artifacts = open_stores(tmp_path)
    series = add_source(ledger, artifacts)
    jobs = [ledger.submit_job(series.id, {}) for _ in range(2)]
    tokens = {}
    for job in jobs:
        claim = ledger.claim(job.id, "w")
        assert claim is not None
        tokens[job.id] = claim.token
    later, minute = ledger.now() + timedelta(minutes=2), timedelta(minutes=1)
    assert ledger.silent_attempts(ledger.now(), minute) == []
    assert sorted(ledger.silent_attempts(later, minute)) == sorted(tokens.values())
    assert ledger.requeue_stale(later, minute, []) == []
    assert [lost.job_id for lost in ledger.requeue_stale(later, minute, [tokens[jobs[0].id]])] == [jobs[0].id]
    assert [job_now(ledger, job).state for job in jobs] == ["queued", "running"]
    ledger.close()
