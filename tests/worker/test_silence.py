"""A task process that says nothing any more is killed, and one that could not say anything is not."""

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from spinepaint.settings import Settings
from spinepaint.store import Claim, Ledger
from spinepaint.worker import standstill, tasks
from spinepaint.worker.celery_app import SILENT_LOOKS, TaskProcess
from tests.worker.workplaces import open_stores, paint

MORNING = datetime(2026, 1, 1, tzinfo=UTC)
AWAY = OperationalError("SELECT", None, ConnectionError("gone"))


class Watched:
    """A supervisor over a process and a ledger that are not there, on a clock that stands until it is moved."""

    def __init__(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.killed, self.asked = 0.0, 0, 0
        self.said: datetime | Exception | None = None
        monkeypatch.setattr(standstill, "time", SimpleNamespace(monotonic=lambda: self.now))
        ledger: Any = SimpleNamespace(seen_at=self.seen_at)
        self.tasks = TaskProcess(settings, ledger, paint)
        self.tasks._process = SimpleNamespace(kill=self.kill)  # type: ignore[assignment]

    def seen_at(self, _worker: str) -> datetime | None:
        self.asked += 1
        if isinstance(self.said, Exception):
            raise self.said
        return self.said

    def kill(self) -> None:
        self.killed += 1

    def watch(self, seconds: float, said: Callable[[float], datetime | Exception | None]) -> None:
        """So many seconds, in which the ledger says of the process what `said` has for each."""
        for _ in range(int(seconds * 4)):
            self.now += 0.25
            self.said = said(self.now)
            self.tasks.watch()


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(Settings(data_dir=tmp_path), monkeypatch)


def alive(now: float) -> datetime:
    return MORNING + timedelta(seconds=5 * (now // 5))


def test_one_that_speaks_or_has_not_begun_to_is_left_alone(watched: Watched) -> None:
    watched.watch(600, lambda _now: None)
    watched.watch(600, alive)
    assert watched.killed == 0
    assert watched.asked <= 1200 / (60 / SILENT_LOOKS) + 1


def test_one_that_is_silent_is_killed_after_a_while(watched: Watched) -> None:
    watched.watch(100, alive)
    last = alive(watched.now)
    watched.watch(50, lambda _now: last)
    assert watched.killed == 0
    watched.watch(35, lambda _now: last)
    assert watched.killed == 1


def test_a_ledger_that_is_away_or_frozen_makes_nobody_silent(watched: Watched) -> None:
    watched.watch(100, alive)
    last = alive(watched.now)
    watched.watch(50, lambda _now: last)  # the first that goes is the connection of the process
    watched.watch(300, lambda _now: AWAY)
    watched.watch(50, lambda _now: last)
    assert watched.killed == 0
    watched.watch(100, alive)
    watched.now += 1000  # one question that was answered late, or a machine that was suspended
    last = alive(100.0)
    watched.watch(20, lambda _now: last)
    watched.watch(100, alive)
    assert watched.killed == 0


@pytest.mark.parametrize("answer", [None, AWAY, RuntimeError("no")])
def test_a_hung_process_ends_whatever_the_ledger_says(
    answer: Exception | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ended(BaseException):
        pass

    def end(status: int) -> None:
        raise Ended(status)

    def fail(*_arguments: object, **_options: object) -> None:
        if answer is not None:
            raise answer

    ledger, _ = open_stores(tmp_path)
    ledger.close()
    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr(Ledger, "fail", fail)
    place = tasks.make_workplace(Settings(data_dir=tmp_path), "w", tmp_path / "scratch", paint)
    assert place.on_hang is not None
    with pytest.raises(Ended) as ended:
        place.on_hang(Claim("job", "token", 1, 3, {}, "sources/a/"))
    assert ended.value.args == (tasks.EXIT_HUNG,)
    place.ledger.close()
