"""The clock of the ledger's users, when their machines' clocks are set."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from spinepaint.store import clock as clocks
from spinepaint.store.clock import SharedClock

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SLACK = timedelta(minutes=1)


def test_what_the_database_said_counts_and_not_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SharedClock()
    clock.agree(NOON)
    for hours in (-24, 0, 24):
        monkeypatch.setattr(time, "time", lambda hours=hours: NOON.timestamp() + 3600 * hours)
        assert NOON <= clock.now() < NOON + SLACK


def test_before_anybody_was_asked_it_is_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SharedClock()
    monkeypatch.setattr(time, "time", NOON.timestamp)
    assert clock.now() == NOON
    assert clock.is_due()


def test_time_goes_on_between_two_answers_and_the_next_one_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, began = SharedClock(), time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: began)
    clock.agree(NOON)
    assert not clock.is_due()
    later = began + 2 * clocks.AGREED_FOR_S
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert clock.now() - NOON == timedelta(seconds=2 * clocks.AGREED_FOR_S)
    assert clock.is_due()
