import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from spinepaint.store import ArtifactStore, Claim, Job, Ledger, Series, result_prefix
from spinepaint.store.artifacts import Artifact, StoreError
from spinepaint.store.database import utc_now
from spinepaint.worker.runner import Outcome, Workplace, run_job
from tests.worker.workplaces import PATIENT, SOURCE, add_source, job_now, open_stores, paint, wait_until

Submit = Callable[..., Job]
ENDLESS = 1_000_000  # steps: longer than any test may take


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Workplace]:
    ledger, artifacts = open_stores(tmp_path)
    yield Workplace(
        ledger, artifacts, paint, worker="w", scratch=tmp_path / "scratch", heartbeat_s=0.05, progress_s=0.0, retry_delay_s=0.0
    )
    ledger.close()


@pytest.fixture
def series(place: Workplace) -> Series:
    return add_source(place.ledger, place.artifacts)


@pytest.fixture
def submit(place: Workplace, series: Series) -> Submit:
    def submit(max_attempts: int = 2, **spec: Any) -> Job:
        return place.ledger.submit_job(series.id, spec, max_attempts=max_attempts)

    return submit


def during(place: Workplace, act: Callable[[], object]) -> Workplace:
    """The same place, where `act` happens in the middle of the pipeline's run."""

    def run(source: Path, spec: dict[str, Any], out: Path, *, bundle: Path | None, progress: Any) -> dict[str, Any]:
        report = paint(source, spec, out, bundle=bundle, progress=progress)
        act()
        return report

    return replace(place, run=run)


def stored(place: Workplace) -> list[str]:
    return [artifact.key for artifact in place.artifacts.list("results/")]


def test_a_job_is_delivered_with_its_files_and_report(place: Workplace, submit: Submit) -> None:
    job = submit()
    assert run_job(job.id, replace(place, bundle=Path("weights"))) is Outcome.SUCCEEDED
    kept = job_now(place.ledger, job)
    assert (kept.state, kept.report) == ("succeeded", {"files": list(SOURCE), "bundle": "weights"})
    assert kept.result_key is not None
    for name, data in SOURCE.items():
        assert place.artifacts.get(f"{kept.result_key}sample-01/{name}") == data
    stages = [event.data["stage"] for event in place.ledger.events(job.id) if event.type == "progress"]
    assert stages == ["fetch", "sample", "sample", "deliver"]


def test_nothing_of_the_series_stays_in_the_scratch_folder(place: Workplace, submit: Submit) -> None:
    for do in (None, "break", "refuse"):
        run_job(submit(do=do).id, place)
    assert list(place.scratch.iterdir()) == []


def test_a_source_of_one_file_reaches_the_pipeline_as_a_file(place: Workplace) -> None:
    place.artifacts.put_bytes("sources/b/upload.zip", b"zip")
    series = place.ledger.add_series(sha256="0", geometry={}, warnings=[], artifact_key="sources/b/upload.zip")
    job = place.ledger.submit_job(series.id, {})
    assert run_job(job.id, place) is Outcome.SUCCEEDED
    assert (job_now(place.ledger, job).report or {})["files"] == ["upload.zip"]


def test_a_message_that_came_twice_runs_the_job_once(place: Workplace, submit: Submit) -> None:
    job = submit()
    assert [run_job(job.id, place) for _ in range(2)] == [Outcome.SUCCEEDED, Outcome.SKIPPED]
    assert job_now(place.ledger, job).attempts == 1


def test_refused_input_fails_at_once_with_the_refusals_own_words(place: Workplace, submit: Submit) -> None:
    job = submit(do="refuse")
    assert run_job(job.id, place) is Outcome.REFUSED
    kept = job_now(place.ledger, job)
    assert (kept.state, kept.attempts) == ("failed", 1)
    assert kept.problem is not None
    assert kept.problem["type"].endswith("/no-such-level")
    assert kept.problem["detail"] == "Choose another level."


def test_too_little_memory_is_tried_again_and_then_told(place: Workplace, submit: Submit) -> None:
    job = submit(do="fill memory")
    assert [run_job(job.id, place) for _ in range(3)] == [Outcome.RETRIED, Outcome.FAILED, Outcome.SKIPPED]
    problem = job_now(place.ledger, job).problem
    assert problem is not None
    assert problem["type"].endswith("/out-of-memory")
    assert "2 of 2" in problem["detail"]


class Away(ArtifactStore):
    """A store that does not answer until it is `back`."""

    back = False

    def list(self, prefix: str) -> list[Artifact]:
        if not self.back:
            raise StoreError("no connection")
        return super().list(prefix)

    def ping(self) -> None:
        self.list("ping/")


def test_a_store_that_is_away_costs_a_job_no_attempt(place: Workplace, submit: Submit, tmp_path: Path) -> None:
    away = Away(tmp_path / "artifacts")
    job = submit()
    for _ in range(3):
        assert run_job(job.id, replace(place, artifacts=away)) is Outcome.RELEASED
    kept = job_now(place.ledger, job)
    assert (kept.state, kept.attempts) == ("queued", 0)
    away.back = True
    assert run_job(job.id, replace(place, artifacts=away)) is Outcome.SUCCEEDED
    assert job_now(place.ledger, job).attempts == 1


def test_a_job_given_back_to_a_store_that_is_away_waits_before_it_is_tried_again(
    place: Workplace, submit: Submit, tmp_path: Path
) -> None:
    job = submit()
    assert run_job(job.id, replace(place, artifacts=Away(tmp_path / "artifacts"), retry_delay_s=3600.0)) is Outcome.RELEASED
    assert place.ledger.claim_next("w") is None


def test_files_that_a_store_does_not_have_are_the_jobs_own_failure(place: Workplace, submit: Submit) -> None:
    job = submit()
    place.artifacts.delete_prefix("sources/")
    assert [run_job(job.id, place) for _ in range(2)] == [Outcome.RETRIED, Outcome.FAILED]


def test_a_full_disk_is_tried_again_and_then_told(place: Workplace, submit: Submit) -> None:
    job = submit(do="fill disk")
    assert [run_job(job.id, place) for _ in range(3)] == [Outcome.RETRIED, Outcome.FAILED, Outcome.SKIPPED]
    problem = job_now(place.ledger, job).problem
    assert problem is not None
    assert problem["type"].endswith("/disk-full")
    assert "2 of 2" in problem["detail"]


def test_an_unexpected_error_tells_its_kind_and_place_but_not_its_words(
    place: Workplace, submit: Submit, caplog: pytest.LogCaptureFixture
) -> None:
    job = submit(do="break")
    with caplog.at_level(logging.DEBUG):
        assert [run_job(job.id, place) for _ in range(2)] == [Outcome.RETRIED, Outcome.FAILED]
    problem = job_now(place.ledger, job).problem
    assert problem is not None
    assert "ValueError" in problem["detail"]
    assert "sample" in problem["detail"]
    assert "workplaces.py:" in caplog.text
    assert PATIENT not in caplog.text + str(problem)


def test_a_worker_that_lost_its_job_stops_and_leaves_the_winners_files(place: Workplace, submit: Submit) -> None:
    job = submit()
    won: list[Outcome] = []

    def lose_to_another() -> None:
        place.ledger.requeue_stale(utc_now() + timedelta(hours=1), timedelta(seconds=1))
        won.append(run_job(job.id, replace(place, worker="other")))

    assert run_job(job.id, during(place, lose_to_another)) is Outcome.LOST
    assert won == [Outcome.SUCCEEDED]
    kept = job_now(place.ledger, job)
    assert (kept.state, kept.worker) == ("succeeded", "other")
    assert stored(place) == [f"{kept.result_key}sample-01/{name}" for name in SOURCE]


def test_an_attempt_lost_after_its_upload_deletes_what_it_uploaded(place: Workplace, submit: Submit, tmp_path: Path) -> None:
    class LosingStore(ArtifactStore):
        def put_folder(self, prefix: str, folder: Path) -> list[str]:
            keys = super().put_folder(prefix, folder)
            assert stored(place) == keys
            place.ledger.cancel(job.id)
            return keys

    job = submit()
    assert run_job(job.id, replace(place, artifacts=LosingStore(tmp_path / "artifacts"))) is Outcome.LOST
    assert stored(place) == []
    assert job_now(place.ledger, job).state == "cancelled"


def cancelled_once_running(place: Workplace, job: Job) -> threading.Thread:
    """Cancels a job as soon as it runs."""

    def cancel() -> None:
        wait_until(lambda: job_now(place.ledger, job).state == "running")
        place.ledger.cancel(job.id)

    thread = threading.Thread(target=cancel)
    thread.start()
    return thread


def test_a_cancelled_job_stops_at_its_next_progress(place: Workplace, submit: Submit) -> None:
    job = submit(steps=ENDLESS, step_s=0.01)
    cancel = cancelled_once_running(place, job)
    assert run_job(job.id, place) is Outcome.LOST
    cancel.join()
    assert job_now(place.ledger, job).state == "cancelled"


def test_the_heartbeat_alone_notices_that_the_job_was_cancelled(place: Workplace, submit: Submit) -> None:
    job = submit(steps=ENDLESS, step_s=0.01)
    cancel = cancelled_once_running(place, job)
    assert run_job(job.id, replace(place, progress_s=3600.0)) is Outcome.LOST
    cancel.join()


def test_a_silent_pipeline_keeps_its_job_by_the_heartbeat(place: Workplace, submit: Submit) -> None:
    job = submit()
    lost = []

    def reap() -> None:
        """Wait for a heartbeat after the last word of the pipeline, and reap what has had none since that word."""
        silent_since = utc_now()
        wait_until(lambda: (job_now(place.ledger, job).heartbeat_at or silent_since) > silent_since)
        now = utc_now()
        lost.extend(place.ledger.requeue_stale(now, now - silent_since))

    assert run_job(job.id, during(place, reap)) is Outcome.SUCCEEDED
    assert lost == []


def test_the_heartbeat_outlives_any_error_of_the_ledger(place: Workplace, submit: Submit, tmp_path: Path) -> None:
    class Stumbling(Ledger):
        beats = 0

        def heartbeat(self, job_id: str, token: str) -> bool:
            self.beats += 1
            if self.beats == 1:
                raise RuntimeError("not the database's")
            return super().heartbeat(job_id, token)

    job = submit()
    ledger = Stumbling(f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
    patient = during(replace(place, ledger=ledger), lambda: wait_until(lambda: ledger.beats > 2))
    assert run_job(job.id, patient) is Outcome.SUCCEEDED
    ledger.close()


def test_the_heartbeat_ends_with_the_attempt(place: Workplace, submit: Submit) -> None:
    run_job(submit().id, place)
    assert not [thread for thread in threading.enumerate() if thread.name == "heartbeat"]


def test_a_worker_that_is_asked_to_stop_gives_the_job_back_uncounted(place: Workplace, submit: Submit) -> None:
    job = submit()
    assert run_job(job.id, replace(place, stopping=lambda: True)) is Outcome.RELEASED
    kept = job_now(place.ledger, job)
    assert (kept.state, kept.attempts) == ("queued", 0)
    assert run_job(job.id, place) is Outcome.SUCCEEDED


def test_a_job_over_its_time_fails_and_names_the_limit(place: Workplace, submit: Submit) -> None:
    job = submit(steps=1000, step_s=0.01)
    assert run_job(job.id, replace(place, job_limit_s=0.2)) is Outcome.FAILED
    kept = job_now(place.ledger, job)
    assert kept.problem is not None
    assert kept.problem["type"].endswith("/over-time")
    assert "job_limit_s" in kept.problem["detail"]
    assert kept.attempts == 1


def test_a_pipeline_that_hangs_is_told_of_from_the_heartbeat(place: Workplace, submit: Submit) -> None:
    hung: list[Claim] = []
    job = submit()
    hanging = during(place, lambda: wait_until(lambda: bool(hung)))
    run_job(job.id, replace(hanging, job_limit_s=0.1, hang_grace_s=0.1, on_hang=hung.append))
    assert [claim.job_id for claim in hung] == [job.id]


class Forgetful(Ledger):
    """Commits the first delivery, and then loses the connection before it can say so."""

    answers = 0

    def succeed(self, job_id: str, token: str, *arguments: Any, **options: Any) -> bool:
        delivered = super().succeed(job_id, token, *arguments, **options)
        self.answers += 1
        if self.answers == 1:
            raise OperationalError("UPDATE", None, ConnectionError("gone"))
        return delivered


@pytest.mark.parametrize(("deliver_within_s", "outcome"), [(60.0, Outcome.SUCCEEDED), (-1.0, Outcome.LOST)])
def test_a_delivery_whose_answer_was_lost_is_a_delivery(
    place: Workplace, submit: Submit, tmp_path: Path, deliver_within_s: float, outcome: Outcome
) -> None:
    job = submit()
    ledger = Forgetful(f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
    assert run_job(job.id, replace(place, ledger=ledger, deliver_within_s=deliver_within_s)) is outcome
    assert job_now(place.ledger, job).state == "succeeded"
    assert len(stored(place)) == len(SOURCE)
    ledger.close()


def test_a_store_that_does_not_take_the_files_costs_an_attempt(place: Workplace, submit: Submit, tmp_path: Path) -> None:
    class Full(ArtifactStore):
        def put_folder(self, prefix: str, folder: Path) -> list[str]:
            self.put_bytes(result_prefix("half", "written") + "x", b"x")
            raise OSError("no space left")

    job = submit()
    assert run_job(job.id, replace(place, artifacts=Full(tmp_path / "artifacts"))) is Outcome.RETRIED
    assert run_job(job.id, place) is Outcome.SUCCEEDED
