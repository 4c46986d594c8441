import sys
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from spinepaint.store.database import utc_now
from spinepaint.worker.presence import Presence, memory_now
from tests.worker.workplaces import open_stores, wait_until


def test_a_worker_is_there_until_it_takes_leave(tmp_path: Path) -> None:
    ledger, _artifacts = open_stores(tmp_path)

    def seen() -> list[Any]:
        return ledger.figures(utc_now() - timedelta(minutes=5)).workers

    with Presence(ledger, "w", 0.05):
        wait_until(lambda: bool(seen()))
        first = seen()[0]
        assert first.memory_bytes > 1_000_000
        wait_until(lambda: seen()[0].seen_at > first.seen_at)
        assert seen()[0].started_at == first.started_at
    assert seen() == []
    ledger.close()


def test_a_ledger_that_fails_stops_no_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, _artifacts = open_stores(tmp_path)
    asked: list[int] = []

    def fail(*_arguments: object) -> None:
        asked.append(1)
        raise RuntimeError

    monkeypatch.setattr(ledger, "attend", fail)
    with Presence(ledger, "w", 0.01):
        wait_until(lambda: len(asked) > 2)
    ledger.close()


def test_the_memory_of_a_gpu_that_is_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert memory_now().gpu_bytes is None
    idle = SimpleNamespace(cuda=SimpleNamespace(is_initialized=lambda: False))
    monkeypatch.setitem(sys.modules, "torch", idle)  # type: ignore[arg-type]
    assert memory_now().gpu_bytes is None
    busy = SimpleNamespace(cuda=SimpleNamespace(is_initialized=lambda: True, mem_get_info=lambda: (30, 100)))
    monkeypatch.setitem(sys.modules, "torch", busy)  # type: ignore[arg-type]
    assert (memory_now().gpu_bytes, memory_now().gpu_used_bytes) == (100, 70)
