import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from kombu.exceptions import OperationalError
from sqlalchemy import text

from spinepaint.settings import Settings
from spinepaint.store import ArtifactStore, JobOrder, Ledger, Series, result_prefix
from spinepaint.store.database import utc_now
from spinepaint.worker import reaper as module
from spinepaint.worker.reaper import MESSAGES_A_WORKER, Reaper, run_reaper
from spinepaint.worker.scratch import own_scratch
from tests.store.discards import due_discards
from tests.worker.workplaces import add_source, job_now, open_stores, wait_until


class ListQueue:
    """A broker of this process: a list, and a switch for its absence."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.away = False
        self.room = 1000

    def send(self, job_id: str) -> None:
        if self.away or len(self.messages) >= self.room:
            raise OperationalError("connection refused")
        self.messages.append(job_id)

    def backlog(self) -> int:
        if self.away:
            raise OperationalError("connection refused")
        return len(self.messages)


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[tuple[Ledger, ArtifactStore]]:
    ledger, artifacts = open_stores(tmp_path)
    yield ledger, artifacts
    ledger.close()


@pytest.fixture
def series(stores: tuple[Ledger, ArtifactStore]) -> Series:
    return add_source(*stores)


@pytest.fixture
def queue() -> ListQueue:
    return ListQueue()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, heartbeat_s=0.01, stale_after_s=0.05, reannounce_after_s=0.05, reap_every_s=0.001)


@pytest.fixture
def reaper(stores: tuple[Ledger, ArtifactStore], queue: ListQueue, settings: Settings) -> Reaper:
    return Reaper(*stores, queue, settings)


@pytest.fixture
def ledger(stores: tuple[Ledger, ArtifactStore]) -> Ledger:
    return stores[0]


def test_each_message_is_sent_once(reaper: Reaper, ledger: Ledger, series: Series, queue: ListQueue) -> None:
    jobs = [ledger.submit_job(series.id, {}).id for _ in range(3)]
    assert reaper.announce() == 3
    assert reaper.announce() == 0
    assert queue.messages == jobs


def test_messages_wait_for_a_broker_that_is_away(reaper: Reaper, ledger: Ledger, series: Series, queue: ListQueue) -> None:
    queue.room = 1
    jobs = [ledger.submit_job(series.id, {}).id for _ in range(2)]
    with pytest.raises(OperationalError):
        reaper.announce()
    assert queue.messages == jobs[:1]
    queue.room = 1000
    reaper.announce()
    assert queue.messages == jobs


def test_a_broker_that_is_away_keeps_nothing_else_from_being_done(
    reaper: Reaper, stores: tuple[Ledger, ArtifactStore], series: Series, queue: ListQueue
) -> None:
    ledger, artifacts = stores
    stopped = ledger.submit_job(series.id, {})
    ledger.claim(stopped.id, "w")
    deleted = ledger.add_series(sha256="1", geometry={}, warnings=[], artifact_key="sources/b/")
    artifacts.put_bytes("sources/b/1.dcm", b"x")
    ledger.delete_series(deleted.id)
    queue.away = True
    wait_until(lambda: bool(reaper.tick()))
    assert job_now(ledger, stopped).state == "queued"
    assert artifacts.list("sources/b/") == []


def test_a_broker_without_memory_gets_its_messages_again(
    reaper: Reaper, ledger: Ledger, series: Series, queue: ListQueue
) -> None:
    jobs = [ledger.submit_job(series.id, {}).id for _ in range(3)]
    reaper.announce()
    assert reaper.restore_messages() == 0
    queue.messages.clear()

    def restored() -> bool:
        reaper.restore_messages()
        reaper.announce()
        return len(queue.messages) == 3

    wait_until(restored)
    assert sorted(queue.messages) == sorted(jobs)


def test_a_queue_that_the_broker_still_holds_is_not_announced_again(
    reaper: Reaper, ledger: Ledger, series: Series, queue: ListQueue, settings: Settings
) -> None:
    for _ in range(3):
        ledger.submit_job(series.id, {})
    reaper.announce()
    queue.messages += ["of a job that was cancelled", "of another"]
    time.sleep(2 * settings.reannounce_after_s)
    assert reaper.restore_messages() == 0
    del queue.messages[1:]
    assert reaper.restore_messages() == 2


def test_of_a_long_queue_no_more_is_announced_again_than_keeps_the_workers_busy(
    reaper: Reaper, ledger: Ledger, series: Series, queue: ListQueue, settings: Settings
) -> None:
    ledger.submit_batch([JobOrder(series.id, {})] * (MESSAGES_A_WORKER + 50))
    reaper.announce()
    queue.messages.clear()
    time.sleep(2 * settings.reannounce_after_s)
    assert reaper.restore_messages() == MESSAGES_A_WORKER
    assert reaper.announce() == MESSAGES_A_WORKER
    assert reaper.restore_messages() == 0
    del queue.messages[:20]
    assert reaper.restore_messages() == 20


def test_what_cannot_be_deleted_keeps_nothing_else_from_it(
    reaper: Reaper, stores: tuple[Ledger, ArtifactStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, artifacts = stores
    for name in ("a", "b", "c"):
        artifacts.put_bytes(f"sources/{name}/1.dcm", b"x")
        stored = ledger.add_series(sha256=name, geometry={}, warnings=[], artifact_key=f"sources/{name}/")
        ledger.delete_series(stored.id)
    delete = artifacts.delete_prefix

    def denied(prefix: str) -> None:
        if prefix == "sources/b/":
            raise PermissionError(prefix)
        delete(prefix)

    monkeypatch.setattr(artifacts, "delete_prefix", denied)
    monkeypatch.setattr(module, "DELETE_LEASE", timedelta(seconds=0.2))

    def only_that_is_left() -> bool:
        reaper.tick()
        return [artifact.key for artifact in artifacts.list("sources/")] == ["sources/b/1.dcm"]

    wait_until(only_that_is_left)
    monkeypatch.undo()
    wait_until(lambda: reaper.tick() == [] and artifacts.list("sources/") == [])
    assert due_discards(ledger, utc_now() + timedelta(days=1)) == []


def test_messages_of_before_are_forgotten_also_where_the_broker_has_all(
    reaper: Reaper, ledger: Ledger, series: Series, settings: Settings
) -> None:
    def kept() -> int:
        with ledger.read() as session:
            return session.scalar(text("SELECT count(*) FROM outbox")) or 0

    for _ in range(3):
        ledger.submit_job(series.id, {})
    reaper.announce()
    time.sleep(2 * settings.reannounce_after_s)
    assert (reaper.restore_messages(), kept()) == (0, 3)
    reaper.tidy()
    assert kept() == 0


def test_a_stopped_job_is_taken_back_and_announced(reaper: Reaper, ledger: Ledger, series: Series, queue: ListQueue) -> None:
    job = ledger.submit_job(series.id, {})
    reaper.announce()
    ledger.claim(job.id, "w")
    wait_until(lambda: [lost.job_id for lost in reaper.tick()] == [job.id])
    reaper.announce()
    assert queue.messages == [job.id, job.id]


def test_lost_files_go_and_the_winners_stay(
    reaper: Reaper, stores: tuple[Ledger, ArtifactStore], series: Series, settings: Settings
) -> None:
    _, artifacts = stores
    ledger = Ledger(settings.database_url, attempt_limit_s=0.0)
    job = ledger.submit_job(series.id, {})
    keys = []
    for _ in range(2):
        claim = ledger.claim(job.id, "w")
        assert claim is not None
        keys.append(result_prefix(job.id, claim.token) + "1.dcm")
        artifacts.put_bytes(keys[-1], b"x")
        if len(keys) == 1:
            ledger.requeue_worker("w")
    assert claim is not None
    ledger.succeed(job.id, claim.token, {}, result_prefix(job.id, claim.token))
    assert reaper.delete_discarded() == 1
    assert [artifact.key for artifact in artifacts.list("results/")] == keys[1:]
    assert reaper.delete_discarded() == 0
    ledger.close()


def test_it_runs_in_a_thread_until_told_to_stop(settings: Settings, stores: tuple[Ledger, ArtifactStore]) -> None:
    stop = threading.Event()
    unreachable = settings.model_copy(update={"broker_url": "redis://127.0.0.1:9/0", "announce_every_s": 0.01})
    thread = threading.Thread(target=run_reaper, args=(unreachable, stop))
    thread.start()
    stop.set()
    thread.join(60)
    assert not thread.is_alive()


def test_the_scratch_of_ended_processes_is_cleared_and_that_of_living_ones_kept(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = own_scratch(tmp_path, ended.pid) / "left.dcm"
    left.touch()
    alive = own_scratch(tmp_path, os.getppid()) / "kept.dcm"
    alive.touch()
    mine = own_scratch(tmp_path, os.getpid())
    (mine / "old.dcm").touch()
    assert own_scratch(tmp_path, os.getpid()) == mine
    assert list(mine.iterdir()) == []
    assert not left.exists()
    assert alive.exists()


def test_what_is_kept_long_enough_leaves_nothing_in_the_store(
    stores: tuple[Ledger, ArtifactStore], queue: ListQueue, series: Series, tmp_path: Path
) -> None:
    ledger, artifacts = stores
    lone = ledger.submit_job(series.id, {})
    batch = ledger.submit_batch([JobOrder(series.id, {})] * 2)
    for job in (lone, *ledger.batch_jobs(batch.id)):
        claim = ledger.claim(job.id, "w")
        assert claim is not None
        prefix = result_prefix(job.id, claim.token)
        artifacts.put_bytes(f"{prefix}sample-01/preview.png", b"png")
        assert ledger.succeed(job.id, claim.token, {}, prefix)
    forever = Reaper(ledger, artifacts, queue, Settings(data_dir=tmp_path))
    assert forever.purge() == 0

    moment = 1e-9  # days: what is there by now is older
    at_once = Settings(data_dir=tmp_path, retain_results_days=moment)
    reaper = Reaper(ledger, artifacts, queue, at_once)
    assert reaper.purge() == 4
    reaper.delete_discarded()
    assert artifacts.list("results/") == [] and artifacts.list("sources/") != []
    assert (ledger.list_jobs().jobs, ledger.list_batches().batches) == ([], [])

    reaper = Reaper(ledger, artifacts, queue, at_once.model_copy(update={"retain_sources_days": moment}))
    assert reaper.purge() == 1
    reaper.delete_discarded()
    assert artifacts.list("sources/") == [] and ledger.list_series() == []
