"""How long a tick goes on deleting, and what becomes of what it did not come to."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from spinepaint.settings import Settings
from spinepaint.store import Ledger
from spinepaint.store.database import utc_now
from spinepaint.worker import reaper as module
from spinepaint.worker.reaper import BUSY_S, DELETE_LEASE, Reaper
from tests.worker.workplaces import open_stores


class SlowBucket:
    """It takes `each_s` to delete a prefix, by the clock of the test; one that is silent fails after that."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.each_s, self.silent = 0.0, 0.0, False
        self.deleted: list[str] = []
        # Of the reaper alone: the ledger's clock may count on by the monotonic one.
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))

    def delete_prefix(self, prefix: str) -> int:
        self.now += self.each_s
        if self.silent:
            raise OSError("timed out")
        self.deleted.append(prefix)
        return 1


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> SlowBucket:
    return SlowBucket(monkeypatch)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger, _ = open_stores(tmp_path)
    yield ledger
    ledger.close()


@pytest.fixture
def reaper(ledger: Ledger, bucket: SlowBucket, tmp_path: Path) -> Reaper:
    for number in range(12):
        series = ledger.add_series(sha256=str(number), geometry={}, warnings=[], artifact_key=f"sources/{number}/")
        ledger.delete_series(series.id)
    slow: Any = bucket
    return Reaper(ledger, slow, slow, Settings(data_dir=tmp_path))


def test_a_slow_bucket_holds_a_tick_up_by_one_prefix_too_many_at_most(reaper: Reaper, bucket: SlowBucket) -> None:
    bucket.each_s = 3 * BUSY_S
    for number in range(1, 6):
        began = bucket.now
        assert reaper.delete_discarded() == 1
        assert (bucket.now - began, len(bucket.deleted)) == (bucket.each_s, number)


def test_what_was_taken_and_not_come_to_is_gone_on_with_and_not_waited_for(reaper: Reaper, bucket: SlowBucket) -> None:
    bucket.each_s = 0.6 * BUSY_S
    assert [reaper.delete_discarded() for _ in range(6)] == [2] * 6
    assert len(set(bucket.deleted)) == 12
    assert reaper.delete_discarded() == 0


def test_what_is_held_beyond_its_lease_is_taken_anew(reaper: Reaper, bucket: SlowBucket, ledger: Ledger) -> None:
    bucket.each_s = 3 * BUSY_S
    assert reaper.delete_discarded() == 1
    bucket.now += DELETE_LEASE.total_seconds()
    # By the ledger's clock the lease runs on, so nobody has it now.
    assert reaper.delete_discarded() == 0
    assert len(ledger.take_discards(utc_now() + 2 * DELETE_LEASE, timedelta(0))) == 11


def test_a_silent_bucket_is_asked_once_a_tick(reaper: Reaper, bucket: SlowBucket) -> None:
    bucket.each_s, bucket.silent = 10.0, True
    with pytest.raises(OSError, match="timed out"):
        reaper.delete_discarded()
    assert bucket.now == bucket.each_s
