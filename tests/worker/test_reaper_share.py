"""Many workers look after what is common to all about as often as one alone, together."""

from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from spinepaint.settings import Settings
from spinepaint.store.database import utc_now
from spinepaint.store.figures import Memory
from spinepaint.worker import reaper as module
from spinepaint.worker.reaper import ANNOUNCED_S, REAPED_S, Reaper
from tests.worker.workplaces import open_stores

MINUTES = 20
TICK_S = 0.25


class Quiet:
    """A ledger, a store and a broker in which there is nothing to do, that count what they are asked."""

    def __init__(self, workers: int) -> None:
        self.asked: Counter[str] = Counter()
        self.workers = workers

    def __getattr__(self, name: str) -> Any:
        def answer(*_args: Any, **_named: Any) -> Any:
            self.asked[name] += 1
            nothing: dict[str, Any] = {"pending_announcements": [], "silent_attempts": [], "take_discards": [], "now": utc_now()}
            return nothing.get(name, self.workers if name == "count_workers" else 0)

        return answer


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path)


def asked(workers: int, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """What one of so many workers asks in twenty minutes."""
    quiet: Any = Quiet(workers)
    reaper = Reaper(quiet, quiet, quiet, settings)
    now = 0.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    for _ in range(int(60 * MINUTES / TICK_S)):
        reaper.tick()
        now += TICK_S
    return Counter(quiet.asked)


def test_alone_it_looks_at_each_tick(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for workers in (0, 1):
        found = asked(workers, settings, monkeypatch)
        assert found["pending_announcements"] == 60 * MINUTES / TICK_S
        assert found["silent_attempts"] == pytest.approx(60 * MINUTES / settings.reap_every_s, rel=0.1)


def test_five_together_look_about_as_often(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    alone, one_of_five = asked(1, settings, monkeypatch), asked(5, settings, monkeypatch)
    for what in ("pending_announcements", "silent_attempts", "queue_depth"):
        assert alone[what] / 10 < one_of_five[what] < alone[what] / 3


def test_of_a_thousand_each_still_looks_now_and_then(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    found = asked(1000, settings, monkeypatch)
    assert found["pending_announcements"] == pytest.approx(60 * MINUTES / ANNOUNCED_S, rel=0.25)
    assert found["silent_attempts"] == pytest.approx(60 * MINUTES / REAPED_S, rel=0.5)


def test_the_others_are_those_that_were_seen_lately(tmp_path: Path) -> None:
    ledger, _ = open_stores(tmp_path)
    for name in ("a", "b", "c"):
        ledger.attend(name, Memory(1))
    now = utc_now()
    assert ledger.count_workers(now - timedelta(minutes=1)) == 3
    assert ledger.count_workers(now + timedelta(minutes=1)) == 0
    ledger.close()
