"""A worker that runs several jobs together: each is claimed, cancelled, delivered or failed by itself."""

import functools
import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from sqlalchemy.exc import OperationalError

from spinepaint.imaging.errors import Refusal
from spinepaint.imaging.reading import read_series
from spinepaint.models.batching import Batcher
from spinepaint.models.inpaint import Decoded, Draw, Inpainter, Progress
from spinepaint.settings import Settings
from spinepaint.store import Job, Ledger
from spinepaint.training.phantom import make_phantom, write_series
from spinepaint.worker import bundles, device, tasks
from spinepaint.worker.device import Compute, compute_for, find_device
from spinepaint.worker.pipeline import run_pipeline
from spinepaint.worker.runner import Outcome, Workplace
from spinepaint.worker.side_by_side import side_by_side
from spinepaint.worker.stages import Halted, Stages
from spinepaint.worker.together import run_jobs
from tests.training.tiny_bundle import write_tiny_bundle
from tests.worker.workplaces import add_source, job_now, misbehave, open_stores, wait_until

Submit = Callable[..., Job]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Workplace]:
    ledger, artifacts = open_stores(tmp_path)
    yield Workplace(ledger, artifacts, meeting(1), "w", tmp_path / "scratch", heartbeat_s=0.05, progress_s=0.0, retry_delay_s=0.0)
    ledger.close()


@pytest.fixture
def submit(place: Workplace) -> Submit:
    source = add_source(place.ledger, place.artifacts)

    def submit(n: int, **spec: Any) -> Job:
        return place.ledger.submit_job(source.id, {"n": n, **spec}, max_attempts=2)

    return submit


def meeting(jobs: int) -> Callable[..., dict[str, Any]]:
    """A pipeline in which so many jobs wait for each other; then each does what its spec says."""
    barrier = threading.Barrier(jobs)

    def run(source: Path, spec: dict[str, Any], out: Path, *, bundle: Path | None, progress: Any) -> dict[str, Any]:
        progress("read", 0.0)
        barrier.wait(150)
        while spec.get("do") == "wait to be cancelled":
            progress("sample", 0.5)
        misbehave(spec.get("do"))
        (out / "sample-01").mkdir()
        (out / "sample-01" / "said").write_text(str(spec["n"]))
        return {"n": spec["n"]}

    return run


def test_jobs_that_wait_are_run_together_and_delivered_each(place: Workplace, submit: Submit) -> None:
    jobs = [submit(n) for n in range(4)]
    assert run_jobs(jobs[0].id, replace(place, run=meeting(3)), draws=3) == [Outcome.SUCCEEDED] * 3
    states = [job_now(place.ledger, job) for job in jobs]
    assert [job.state for job in states] == ["succeeded"] * 3 + ["queued"]
    for n, job in enumerate(states[:3]):
        assert job.report == {"n": n}
        assert place.artifacts.get(f"{job.result_key}sample-01/said") == str(n).encode()
    assert not [thread for thread in threading.enumerate() if thread.name == "heartbeat"]


def test_one_at_a_time_unless_asked(place: Workplace, submit: Submit) -> None:
    jobs = [submit(n) for n in range(2)]
    assert run_jobs(jobs[0].id, place) == [Outcome.SUCCEEDED]
    assert job_now(place.ledger, jobs[1]).state == "queued"
    assert run_jobs(jobs[0].id, place) == [Outcome.SUCCEEDED]
    assert run_jobs(jobs[0].id, place) == []


def test_samples_count_as_draws(place: Workplace, submit: Submit) -> None:
    jobs = [submit(0, samples=3), submit(1, samples=2), submit(2)]
    assert run_jobs(jobs[0].id, replace(place, run=meeting(2)), draws=4) == [Outcome.SUCCEEDED] * 2
    assert job_now(place.ledger, jobs[2]).state == "queued"


def test_each_fails_is_refused_or_cancelled_by_itself(place: Workplace, submit: Submit) -> None:
    ways = (None, "refuse", "fill memory", "wait to be cancelled", "break")
    jobs = [submit(n, do=do) for n, do in enumerate(ways)]

    def cancel() -> None:
        wait_until(lambda: job_now(place.ledger, jobs[3]).stage == "sample")
        place.ledger.cancel(jobs[3].id)

    canceller = threading.Thread(target=cancel)
    canceller.start()
    outcomes = run_jobs(jobs[0].id, replace(place, run=meeting(5)), draws=5)
    canceller.join()
    assert outcomes == [Outcome.SUCCEEDED, Outcome.REFUSED, Outcome.RETRIED, Outcome.LOST, Outcome.RETRIED]
    states = [job_now(place.ledger, job).state for job in jobs]
    assert states == ["succeeded", "failed", "queued", "cancelled", "queued"]
    kept = [artifact.key for artifact in place.artifacts.list("results/")]
    assert kept == [f"{job_now(place.ledger, jobs[0]).result_key}sample-01/said"]


def test_a_job_taken_back_is_lost_and_its_neighbour_is_not(place: Workplace, submit: Submit) -> None:
    jobs = [submit(0, do="wait to be cancelled"), submit(1)]

    def take_over() -> None:
        wait_until(lambda: job_now(place.ledger, jobs[0]).stage == "sample")
        wait_until(lambda: job_now(place.ledger, jobs[1]).state == "succeeded")
        place.ledger.requeue_worker("w")
        assert place.ledger.claim(jobs[0].id, "other") is not None

    other = threading.Thread(target=take_over)
    other.start()
    assert run_jobs(jobs[0].id, replace(place, run=meeting(2)), draws=2) == [Outcome.LOST, Outcome.SUCCEEDED]
    other.join()
    kept = job_now(place.ledger, jobs[0])
    assert (kept.state, kept.worker) == ("running", "other")


def test_a_warm_shutdown_gives_all_of_them_back(place: Workplace, submit: Submit) -> None:
    jobs = [submit(n) for n in range(3)]
    stopping = replace(place, stopping=lambda: True)
    assert run_jobs(jobs[0].id, stopping, draws=3) == [Outcome.RELEASED] * 3
    assert [(job_now(place.ledger, job).state, job_now(place.ledger, job).attempts) for job in jobs] == [("queued", 0)] * 3


@pytest.mark.parametrize("error", [OperationalError("SELECT", None, ConnectionError("gone")), LookupError("no such thing")])
def test_what_was_claimed_is_run_whatever_becomes_of_the_next(
    place: Workplace, submit: Submit, tmp_path: Path, error: Exception
) -> None:
    class Leaving(Ledger):
        turns = 0

        def claim_next(self, worker: str) -> Any:
            self.turns += 1
            if self.turns == 2:
                raise error
            return super().claim_next(worker)

    jobs = [submit(n) for n in range(2)]
    ledger = Leaving(f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
    assert run_jobs(jobs[0].id, replace(place, ledger=ledger), draws=2) == [Outcome.SUCCEEDED]
    ledger.close()


def test_work_side_by_side_keeps_its_order_and_ends_at_the_first_error() -> None:
    barrier, halted = threading.Barrier(3), threading.Event()

    def work(n: int) -> int:
        barrier.wait(150)
        if n == 1:
            raise ValueError("one")
        assert halted.wait(150)
        raise RuntimeError("stopped")

    with pytest.raises(ValueError, match="one"):
        side_by_side(work, range(3), 3, halted.set)
    assert side_by_side(lambda n: n * n, range(5), 2, halted.set) == [0, 1, 4, 9, 16]
    names = side_by_side(lambda _: threading.current_thread().name, range(3), 1, halted.set)
    assert set(names) == {threading.current_thread().name}


def test_progress_of_samples_side_by_side_goes_on_and_a_halt_reaches_all() -> None:
    heard: list[float] = []
    job = Stages(lambda _stage, share: heard.append(share), samples=2)
    job.run("read", lambda: None)
    first, second = job.of_sample(1), job.of_sample(2)
    for stage in ("sample", "paste", "write"):
        for its in (second, first):
            its.run(stage, lambda: None)
    assert all(a <= b for a, b in pairwise(heard))
    assert heard[-1] == pytest.approx(0.05 + 0.95 * (1 + 0.97) / 2)  # the second has written, the first begins to
    assert set(first.timings_s) == {"read", "sample", "paste", "write"}
    job.halt()
    with pytest.raises(Halted):
        second.within_sampling(0.5)


class Company:
    """A sampler that begins when so many draws wait, and keeps who they were; what it gives is the crop."""

    def __init__(self, draws: int) -> None:
        self.barrier, self.seeds = threading.Barrier(draws), set[int]()

    def __call__(self, models: Inpainter, crop: torch.Tensor, draw: Draw, progress: Progress) -> Decoded:
        self.barrier.wait(150)
        progress(0.5)
        self.seeds.add(draw.seed)
        return Decoded(crop, crop + 0.01 * (draw.seed % 7), network_evaluations=1, batch=3)


@pytest.fixture(scope="module")
def small_series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    write_series(make_phantom(5, slices=7, matrix=64), folder, seed=5)
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("tiny"))


def request(series: Path, **more: Any) -> dict[str, Any]:
    volume = read_series(series).volume
    middle = volume.affine @ [*((length - 1) / 2 for length in volume.voxels.shape), 1.0]
    spec = {"pathology": "disc_herniation", "fsu": "L4-L5", "severity": "moderate_large", "attempts": 1, "samples": 3}
    return {**spec, "landmark_lps_mm": tuple(float(x) for x in middle[:3]), **more}


def test_samples_of_a_job_are_drawn_together_and_are_those_of_one_after_the_other(
    small_series: Path, tiny: Path, tmp_path: Path
) -> None:
    spec, together = request(small_series), Company(3)
    report = run_pipeline(small_series, spec, tmp_path / "a", bundle=tiny, compute=Compute("cpu", together, 3))
    run_pipeline(small_series, spec, tmp_path / "b", bundle=tiny, compute=Compute("cpu", Company(1), 1))
    assert len(together.seeds) == 3
    assert report["solver"]["batch"] == 3
    assert report["spec"]["sample"] == 1
    assert pixels(tmp_path / "a") == pixels(tmp_path / "b")


def test_a_job_cancelled_in_the_middle_of_a_batch_changes_no_bit_of_its_neighbour(
    place: Workplace, small_series: Path, tiny: Path, tmp_path: Path
) -> None:
    batcher = Batcher(2, patience_s=600.0)  # only once both jobs have come
    place.artifacts.put_folder("sources/s/", small_series)
    source = place.ledger.add_series(sha256="1" * 64, geometry={}, warnings=[], artifact_key="sources/s/")
    spec = request(small_series, samples=1, steps=4)
    kept, dropped = (place.ledger.submit_job(source.id, {**spec, "seed": seed}) for seed in (1, 2))
    heard: list[tuple[int, float]] = []

    def sample(models: Inpainter, crop: torch.Tensor, draw: Draw, progress: Progress) -> Decoded:
        def hear(share: float) -> None:
            if share > 0:
                heard.append((draw.seed, share))
            if draw.seed == 2 and share == 0.5:
                place.ledger.cancel(dropped.id)
            progress(share)

        return batcher(models, crop, draw, hear)

    paint = functools.partial(run_pipeline, compute=Compute("cpu", sample, 2))
    outcomes = run_jobs(kept.id, replace(place, run=paint, bundle=tiny), draws=2)
    batcher.close()
    assert outcomes == [Outcome.SUCCEEDED, Outcome.LOST]
    assert heard == [(1, 0.25), (2, 0.25), (1, 0.5), (2, 0.5), (1, 0.75), (1, 1.0)] or heard == [
        (2, 0.25), (1, 0.25), (2, 0.5), (1, 0.5), (1, 0.75), (1, 1.0)
    ]  # fmt: skip
    assert [job_now(place.ledger, job).state for job in (kept, dropped)] == ["succeeded", "cancelled"]
    alone = Batcher(2, patience_s=0.0)
    run_pipeline(small_series, {**spec, "seed": 1}, tmp_path / "alone", bundle=tiny, compute=Compute("cpu", alone))
    alone.close()
    prefix = f"{job_now(place.ledger, kept).result_key}sample-01/series/"
    files = sorted((tmp_path / "alone" / "sample-01" / "series").glob("*.dcm"))
    assert len(files) == 7
    assert all(place.artifacts.get(prefix + path.name) == path.read_bytes() for path in files)


def pixels(folder: Path) -> dict[str, str]:
    files = sorted(folder.glob("sample-0*/series/*.dcm"))
    assert len(files) == 3 * 7
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_bundle_is_loaded_once_by_jobs_that_begin_together(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[str] = []
    barrier = threading.Barrier(4)

    def load(folder: Path, on: str) -> str:
        loads.append(on)
        return folder.name

    monkeypatch.setattr(bundles, "load_bundle", load)
    bundles._load.cache_clear()

    def work(_: int) -> Any:
        barrier.wait(150)
        return bundles.loaded_bundle(tiny, "cuda:0")

    assert side_by_side(work, range(4), 4, barrier.abort) == [tiny.resolve().name] * 4
    bundles._load.cache_clear()
    assert loads == ["cuda:0"]


@pytest.mark.parametrize(
    ("asked", "gpus", "found"),
    [("auto", 0, "cpu"), ("auto", 2, "cuda:0"), ("cpu", 2, "cpu"), ("cuda", 2, "cuda:0"), ("cuda:1", 2, "cuda:1")],
)
def test_the_device_is_what_the_setting_says(asked: str, gpus: int, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, gpus)
    assert find_device(asked) == found


@pytest.mark.parametrize(("asked", "gpus"), [("cuda", 0), ("cuda:0", 0), ("cuda:2", 2)])
def test_a_device_that_is_not_there_is_told(asked: str, gpus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, gpus)
    with pytest.raises(Refusal) as refused:
        find_device(asked)
    assert f"SPINEPAINT_DEVICE is {asked}" in (refused.value.detail or "")
    assert f"sees {gpus} CUDA" in (refused.value.detail or "")


def pretend(monkeypatch: pytest.MonkeyPatch, gpus: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda *_args, **_options: None)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def test_the_settings_reach_the_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []
    monkeypatch.setattr(device, "compute_for", lambda on, batch: asked.append((on, batch)) or Compute(on))
    monkeypatch.setenv("SPINEPAINT_DEVICE", "cuda:1")
    monkeypatch.setenv("SPINEPAINT_WORKER_BATCH", "4")
    place = tasks.make_workplace(Settings(data_dir=tmp_path), "w", tmp_path, None)
    place.ledger.close()
    assert asked == [("cuda:1", 4)]
    assert place.run.keywords["compute"].device == "cuda:1"  # type: ignore[attr-defined]


def test_by_default_a_worker_draws_one_at_a_time_and_without_a_gpu_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, 0)
    settings = Settings()
    assert compute_for(settings.device, settings.worker_batch) == Compute("cpu")
    for wrong in ({"device": "gpu"}, {"device": "cuda:x"}, {"worker_batch": 0}, {"worker_batch": 65}):
        with pytest.raises(ValidationError):
            Settings(**wrong)  # type: ignore[arg-type]


def test_a_worker_whose_device_is_not_there_says_so_and_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pretend(monkeypatch, 0)
    for name in ("_end_with_parent", "start_logging"):
        monkeypatch.setattr(tasks, name, lambda *_: None)
    monkeypatch.setattr(tasks.os, "setpgrp", lambda: None)
    monkeypatch.setattr(tasks.signals.setup_logging, "connect", lambda _: None)
    monkeypatch.setattr(tasks, "make_celery", lambda _: None)
    with pytest.raises(SystemExit) as ended:
        tasks.serve_tasks(Settings(data_dir=tmp_path, device="cuda"), "w", tmp_path)
    assert ended.value.code == tasks.EXIT_UNFIT
    assert "SPINEPAINT_DEVICE is cuda" in caplog.text


class EndedError(BaseException):
    """The process would have ended."""


@pytest.mark.parametrize("broken", [False, True])
def test_a_broken_gpu_ends_the_process_before_it_fails_every_job(broken: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def synchronize() -> None:
        if broken:
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    def end(status: int) -> None:
        ended.append(status)
        raise EndedError

    ended: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    monkeypatch.setattr(tasks.os, "_exit", end)
    monkeypatch.setattr(tasks, "run_jobs", lambda *_: [Outcome.RETRIED])
    registered: list[Callable[[str], None]] = []
    celery = SimpleNamespace(task=lambda run, name: registered.append(run))
    tasks.register(celery, None)  # type: ignore[arg-type]
    with pytest.raises(EndedError) if broken else nullcontext():
        registered[0]("a job")
    assert ended == ([tasks.EXIT_BROKEN_GPU] if broken else [])
