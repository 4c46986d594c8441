"""A job that is cancelled in the middle of sampling stops at the next step that is told, and its worker is free."""

import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from spinepaint.models.inpaint import inpaint
from spinepaint.settings import Settings
from spinepaint.store import Job
from spinepaint.training.phantom import Phantom
from spinepaint.worker import attempt
from spinepaint.worker.attempt import AttemptLost
from spinepaint.worker.device import Compute
from spinepaint.worker.pipeline import run_pipeline
from spinepaint.worker.runner import Outcome, Workplace, run_job
from tests.training.tiny_bundle import write_tiny_bundle
from tests.worker.workplaces import job_now, open_stores

STEPS = 200
TARGET_S = 2.0
LONGEST_STEP_S = 1.2
Progress = Callable[[str, float], None]


class Clock:
    """Time as the attempt sees it, which passes when a step is done and at no other moment."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(attempt, "time", clock)
    return clock


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture
def place(tmp_path: Path, bundle: Path) -> Any:
    """Where the real pipeline runs, with a worker's own patience and no heartbeat that could notice before a step does."""
    ledger, artifacts = open_stores(tmp_path)
    progress_s = Settings(data_dir=tmp_path).progress_s
    yield Workplace(ledger, artifacts, run_pipeline, "w", tmp_path / "scratch", bundle, heartbeat_s=3600.0, progress_s=progress_s)
    ledger.close()


def _submitted(place: Workplace, series: Path, phantom: Phantom) -> Job:
    keys = place.artifacts.put_folder("sources/a/", series)
    row = place.ledger.add_series(sha256=str(len(keys)), geometry={}, warnings=[], artifact_key="sources/a/")
    spec = {"pathology": "disc_herniation", "fsu": "L4-L5", "severity": "small", "solver": "ddim", "steps": STEPS}
    return place.ledger.submit_job(row.id, {**spec, "landmark_lps_mm": list(phantom.disc_centres_lps_mm["L4-L5"])})


@pytest.mark.parametrize("step_s", [0.1, LONGEST_STEP_S])
def test_real_sampling_stops_within_two_seconds(
    place: Workplace, series: Path, phantom: Phantom, clock: Clock, step_s: float
) -> None:
    job = _submitted(place, series, phantom)
    seen: list[float] = []
    cancelled_at: list[float] = []

    def sample(models: Any, crop: Any, draw: Any, report: Callable[[float], None]) -> Any:
        def step(share: float) -> None:
            clock.now += step_s
            seen.append(share)
            if len(seen) == STEPS // 4:
                place.ledger.cancel(job.id)
                cancelled_at.append(clock.now)
            report(share)

        return inpaint(models, crop, draw, step)

    run = partial(run_pipeline, compute=Compute(sample=sample))
    assert run_job(job.id, replace(place, run=run)) is Outcome.LOST
    assert clock.now - cancelled_at[0] <= TARGET_S
    assert len(seen) < STEPS // 4 + 2 + TARGET_S / step_s
    assert job_now(place.ledger, job).state == "cancelled"
    assert place.artifacts.list("results/") == []
    assert list(place.scratch.iterdir()) == []


def test_a_step_that_is_told_long_after_the_last_sees_it_at_once(
    place: Workplace, series: Path, phantom: Phantom, clock: Clock
) -> None:
    job = _submitted(place, series, phantom)
    told: list[str] = []

    def run(_source: Path, _spec: Any, _out: Path, *, bundle: Path | None, progress: Progress) -> Any:
        progress("sample", 0.1)
        clock.now += 10.0
        place.ledger.cancel(job.id)
        with pytest.raises(AttemptLost):
            progress("sample", 0.2)
        told.append("seen")
        raise AttemptLost

    assert run_job(job.id, replace(place, run=run)) is Outcome.LOST
    assert told == ["seen"]


def test_the_worker_takes_the_next_job_at_once(place: Workplace, series: Path, phantom: Phantom) -> None:
    job = _submitted(place, series, phantom)
    sampling, go_on = threading.Event(), threading.Event()
    after: list[float] = []

    def sample(models: Any, crop: Any, draw: Any, report: Callable[[float], None]) -> Any:
        def step(share: float) -> None:
            if go_on.is_set():
                after.append(share)
            sampling.set()
            go_on.wait()
            report(share)

        return inpaint(models, crop, draw, step)

    busy = replace(place, run=partial(run_pipeline, compute=Compute(sample=sample)), progress_s=0.0)
    outcomes: list[Outcome] = []
    worker = threading.Thread(target=lambda: outcomes.append(run_job(job.id, busy)))
    worker.start()
    assert sampling.wait(150)
    place.ledger.cancel(job.id)
    go_on.set()
    worker.join()
    assert outcomes == [Outcome.LOST]
    assert after == []  # the step that ran when it was cancelled was the last
    following = place.ledger.submit_job(str(job.series_id), job.spec | {"steps": 2})
    assert run_job(following.id, place) is Outcome.SUCCEEDED
