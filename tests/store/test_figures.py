"""What operators see: counts that outlive their jobs, workers that are there, how long the queue is."""

import math
from datetime import timedelta

import pytest

from spinepaint.store import Ledger, Series
from spinepaint.store.database import utc_now
from spinepaint.store.figures import Figures, Memory, Queue, wait_s

MINUTE = timedelta(minutes=1)
REPORT = {"timings_s": {"read": 0.4, "sample": 45.0, "write": 4000.0}}


def figures(ledger: Ledger) -> Figures:
    return ledger.figures(utc_now() - MINUTE)


def succeed(ledger: Ledger, series: Series) -> str:
    job = ledger.submit_job(series.id, {})
    claim = ledger.claim(job.id, "w")
    assert claim is not None
    ledger.succeed(job.id, claim.token, REPORT, "results/")
    return job.id


def test_jobs_are_counted_and_the_oldest_is_known(ledger: Ledger, series: Series) -> None:
    assert figures(ledger).oldest_queued_at is None
    first, second = ledger.submit_job(series.id, {}), ledger.submit_job(series.id, {})
    assert figures(ledger).jobs == {"queued": 2, "running": 0, "succeeded": 0, "failed": 0, "cancelled": 0}
    assert figures(ledger).oldest_queued_at == first.created_at
    ledger.claim(first.id, "w")
    assert figures(ledger).oldest_queued_at == second.created_at


def test_what_was_tallied_outlives_its_job(ledger: Ledger, series: Series) -> None:
    job_id = succeed(ledger, series)
    before = figures(ledger).tallies
    assert before["stage_s", "read", 0.5] == (1, 0.4)
    assert before["stage_s", "sample", 60.0] == (1, 45.0)
    assert before["stage_s", "write", math.inf] == (1, 4000.0)
    assert before["transitions", "running", None] == before["transitions", "succeeded", None] == (1, 0.0)
    assert before["attempts", "succeeded", 1.0] == (1, 1.0)
    ledger.delete_job(job_id)
    assert figures(ledger).tallies == before


def test_failures_are_counted_by_the_slug_of_their_problem(ledger: Ledger, series: Series) -> None:
    odd = [None, {}, {"type": "Doe^Jane"}, {"type": "https://spinepaint.invalid/problems/no-disc"}]
    for problem in odd:
        job = ledger.submit_job(series.id, {})
        claim = ledger.claim(job.id, "w")
        assert claim is not None
        ledger.fail(job.id, claim.token, problem or {}, retry=False)
    counted = {label: count for (name, label, _), (count, _) in figures(ledger).tallies.items() if name == "failures"}
    # Without a problem of its own, a job failed for having stopped.
    assert counted == {"worker-stopped": 2, "unknown": 1, "no-disc": 1}


def test_attempts_that_were_lost_are_counted(ledger: Ledger, series: Series) -> None:
    job = ledger.submit_job(series.id, {}, max_attempts=2)
    for _ in range(2):
        assert ledger.claim(job.id, "w") is not None
        ledger.requeue_worker("w")
    tallies = figures(ledger).tallies
    assert [tallies["transitions", label, None][0] for label in ("running", "requeued", "failed")] == [2, 1, 1]
    assert tallies["attempts", "failed", 2.0] == (1, 2.0)


def test_folding_changes_no_sum(ledger: Ledger, series: Series) -> None:
    for _ in range(3):
        succeed(ledger, series)
    before = figures(ledger).tallies
    assert ledger.fold_tallies(fold_from=10_000) == 0
    observations = sum(count for count, _ in before.values())
    assert ledger.fold_tallies(fold_from=1) == observations - len(before)
    assert ledger.fold_tallies(fold_from=1) == 0
    assert figures(ledger).tallies == before
    succeed(ledger, series)
    assert figures(ledger).tallies["stage_s", "read", 0.5] == (4, 1.6)


def test_workers_are_there_until_they_leave_or_fall_silent(ledger: Ledger) -> None:
    ledger.attend("a", Memory(1))
    ledger.attend("b", Memory(1))
    ledger.attend("b", Memory(2**33, 2**37, 2**36))
    seen = figures(ledger).workers
    assert [(w.name, w.memory_bytes, w.gpu_memory_bytes, w.gpu_memory_used_bytes) for w in seen] == [
        ("a", 1, None, None),
        ("b", 2**33, 2**37, 2**36),
    ]
    assert ledger.figures(utc_now() + MINUTE).workers == []
    ledger.leave("a")
    ledger.forget_workers(utc_now())
    assert [worker.name for worker in figures(ledger).workers] == ["b"]
    ledger.forget_workers(utc_now() + timedelta(days=2))
    assert figures(ledger).workers == []


def test_the_queue_is_measured_by_recent_jobs(ledger: Ledger, series: Series) -> None:
    assert ledger.queue(utc_now() - MINUTE) == Queue(0, None, 0)
    succeed(ledger, series)
    ledger.submit_job(series.id, {})
    ledger.attend("a", Memory(1))
    queue = ledger.queue(utc_now() - MINUTE)
    assert (queue.depth, queue.workers) == (1, 1)
    assert queue.median_s is not None
    assert 0 <= queue.median_s < 60


@pytest.mark.parametrize(
    ("queue", "seconds"),
    [
        (Queue(0, None, 0), 1),
        (Queue(1, None, 0), 10),
        (Queue(1, None, 1), 10),
        (Queue(6, 20.0, 4), 30),
        (Queue(7, 20.0, 4), 35),
        (Queue(1, 0.001, 4), 1),
        (Queue(3, 33.4, 1), 101),
        (Queue(1000, 60.0, 1), 600),
    ],
)
def test_a_wait_is_depth_times_duration_by_workers_within_bounds(queue: Queue, seconds: int) -> None:
    assert wait_s(queue, unknown_s=10.0) == seconds
