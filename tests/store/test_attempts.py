import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from spinepaint.store import Claim, Job, JobState, Ledger, Series, result_prefix
from spinepaint.store.database import utc_now
from tests.store.discards import due_discards

PROBLEM = {"type": "x", "title": "It failed."}
MINUTE = timedelta(minutes=1)


@pytest.fixture
def job(ledger: Ledger, series: Series) -> Job:
    return ledger.submit_job(series.id, {"fsu": "L4-L5"}, max_attempts=2)


def claim_of(ledger: Ledger, job: Job) -> Claim:
    claim = ledger.claim(job.id, "w")
    assert claim is not None
    return claim


def now_of(ledger: Ledger, job: Job) -> Job:
    kept = ledger.get_job(job.id)
    assert kept is not None
    return kept


def test_a_claim_holds_what_a_worker_needs(ledger: Ledger, job: Job) -> None:
    claim = claim_of(ledger, job)
    assert (claim.attempt, claim.max_attempts, claim.spec, claim.artifact_key) == (1, 2, {"fsu": "L4-L5"}, "sources/a/")
    kept = now_of(ledger, job)
    assert (kept.state, kept.worker, kept.attempts) == ("running", "w", 1)
    assert kept.started_at is not None


def test_a_job_is_claimed_once(ledger: Ledger, job: Job) -> None:
    claim_of(ledger, job)
    assert ledger.claim(job.id, "other") is None
    assert ledger.claim("no-such-job", "other") is None


def test_a_job_whose_series_has_gone_fails_and_says_so(ledger: Ledger, series: Series) -> None:
    gone, other = ledger.submit_job(series.id, {}, callback_url="https://example.org/"), ledger.submit_job(series.id, {})
    with ledger.write() as session:
        session.execute(update(Job).where(Job.id == gone.id).values(series_id=None))
    claim = ledger.claim_next("w")
    assert claim is not None and claim.job_id == other.id  # who asked for any job gets the next
    kept = now_of(ledger, gone)
    assert (kept.state, kept.attempt_token) == ("failed", None)
    assert kept.problem is not None and kept.problem["type"].endswith("/series-deleted")
    assert [event.data["state"] for event in ledger.events(gone.id)] == ["queued", "running", "failed"]
    assert [webhook.job_id for webhook in ledger.due_webhooks(utc_now())] == [gone.id]
    assert ledger.requeue_stale(utc_now() + MINUTE, timedelta(0))[0].job_id == other.id


def test_one_of_many_threads_gets_the_claim(ledger: Ledger, job: Job) -> None:
    together = threading.Barrier(8)

    def race(n: int) -> Claim | None:
        together.wait()
        return ledger.claim(job.id, f"w{n}")

    with ThreadPoolExecutor(8) as pool:
        claims = [claim for claim in pool.map(race, range(8)) if claim]
    assert len(claims) == 1
    assert now_of(ledger, job).attempts == 1


def claim_all(database_url: str, job_ids: list[str], worker: str, ready: Any, won: Any) -> None:
    ledger = Ledger(database_url)
    ledger.ping()
    ready.wait()
    won.put([job_id for job_id in job_ids if ledger.claim(job_id, worker)])


def test_processes_that_race_share_the_jobs_between_them(ledger: Ledger, series: Series, database_url: str) -> None:
    job_ids = [ledger.submit_job(series.id, {}).id for _ in range(40)]
    spawn = multiprocessing.get_context("spawn")
    ready, won = spawn.Barrier(3), spawn.Queue()
    racers = [spawn.Process(target=claim_all, args=(database_url, job_ids, f"w{n}", ready, won)) for n in range(3)]
    for racer in racers:
        racer.start()
    claimed = [job_id for _ in racers for job_id in won.get(timeout=120)]
    for racer in racers:
        racer.join(60)
        assert racer.exitcode == 0
    assert sorted(claimed) == sorted(job_ids)


def test_delivery_keeps_the_report_and_the_key(ledger: Ledger, job: Job) -> None:
    claim = claim_of(ledger, job)
    assert ledger.succeed(job.id, claim.token, {"voxels": 7}, "results/x/")
    kept = now_of(ledger, job)
    assert (kept.state, kept.progress, kept.report, kept.result_key) == ("succeeded", 1.0, {"voxels": 7}, "results/x/")
    assert kept.finished_at is not None


def test_delivering_again_is_true_and_changes_nothing(ledger: Ledger, job: Job) -> None:
    claim = claim_of(ledger, job)
    ledger.succeed(job.id, claim.token, {"voxels": 7}, "results/x/")
    assert ledger.succeed(job.id, claim.token, {"voxels": 8}, "results/y/")
    assert now_of(ledger, job).report == {"voxels": 7}
    assert len(ledger.events(job.id)) == 3


def test_a_token_that_lost_its_job_changes_nothing(ledger: Ledger, job: Job) -> None:
    old = claim_of(ledger, job)
    ledger.requeue_stale(utc_now() + MINUTE, timedelta(seconds=1))
    new = claim_of(ledger, job)
    before = now_of(ledger, job)
    assert not ledger.heartbeat(job.id, old.token)
    assert not ledger.progress(job.id, old.token, "sample", 0.9)
    assert not ledger.succeed(job.id, old.token, {}, "results/old/")
    assert ledger.fail(job.id, old.token, PROBLEM, retry=False) is None
    assert not ledger.release(job.id, old.token)
    assert not ledger.holds(job.id, old.token)
    after = now_of(ledger, job)
    assert (after.state, after.attempt_token, after.last_event) == ("running", new.token, before.last_event)
    assert ledger.succeed(job.id, new.token, {}, "results/new/")
    assert not ledger.succeed(job.id, old.token, {}, "results/old/")
    assert now_of(ledger, job).result_key == "results/new/"


def test_a_failed_attempt_is_retried_up_to_the_cap(ledger: Ledger, job: Job) -> None:
    claim = claim_of(ledger, job)
    assert ledger.fail(job.id, claim.token, PROBLEM, retry=True) is JobState.QUEUED
    assert now_of(ledger, job).problem is None
    claim = claim_of(ledger, job)
    assert claim.attempt == 2
    assert ledger.fail(job.id, claim.token, PROBLEM, retry=True) is JobState.FAILED
    kept = now_of(ledger, job)
    assert (kept.state, kept.problem) == ("failed", PROBLEM)


def test_a_failure_that_no_retry_can_mend_is_final(ledger: Ledger, job: Job) -> None:
    claim = claim_of(ledger, job)
    assert ledger.fail(job.id, claim.token, PROBLEM, retry=False) is JobState.FAILED


def test_a_retry_is_announced_only_when_it_is_due(ledger: Ledger, job: Job) -> None:
    ledger.mark_announced([a.id for a in ledger.pending_announcements()])
    claim = claim_of(ledger, job)
    ledger.fail(job.id, claim.token, PROBLEM, retry=True, retry_after=MINUTE)
    assert ledger.pending_announcements() == []
    assert [a.job_id for a in ledger.pending_announcements(utc_now() + 2 * MINUTE)] == [job.id]


def test_a_released_job_is_queued_and_the_attempt_does_not_count(ledger: Ledger, job: Job) -> None:
    ledger.mark_announced([a.id for a in ledger.pending_announcements()])
    for _ in range(5):
        claim = claim_of(ledger, job)
        assert claim.attempt == 1
        assert ledger.release(job.id, claim.token)
    assert now_of(ledger, job).attempts == 0
    assert len(ledger.pending_announcements()) == 5


def test_a_job_with_a_heartbeat_is_left_alone(ledger: Ledger, job: Job) -> None:
    claim = claim_of(ledger, job)
    assert ledger.requeue_stale(utc_now(), MINUTE) == []
    assert ledger.heartbeat(job.id, claim.token)
    assert now_of(ledger, job).state == "running"


def test_a_heartbeat_moves_the_time_from_which_staleness_counts(ledger: Ledger, job: Job) -> None:
    claim = claim_of(ledger, job)
    first = now_of(ledger, job).heartbeat_at
    ledger.heartbeat(job.id, claim.token)
    second = now_of(ledger, job).heartbeat_at
    assert first is not None
    assert second is not None
    assert second > first
    assert ledger.requeue_stale(second, timedelta(0)) == []


def test_a_stopped_job_is_queued_again_then_failed_with_a_reason(ledger: Ledger, job: Job) -> None:
    first = claim_of(ledger, job)
    lost = ledger.requeue_stale(utc_now() + MINUTE, timedelta(seconds=1))
    assert [(a.job_id, a.token, a.worker, a.requeued) for a in lost] == [(job.id, first.token, "w", True)]
    claim_of(ledger, job)
    lost = ledger.requeue_stale(utc_now() + MINUTE, timedelta(seconds=1))
    assert [a.requeued for a in lost] == [False]
    kept = now_of(ledger, job)
    assert kept.state == "failed"
    assert kept.problem is not None
    assert "2 of 2 attempts" in kept.problem["detail"]
    assert "memory" in kept.problem["detail"]


def test_what_an_ended_worker_ran_is_taken_back_at_once_and_nothing_else(ledger: Ledger, series: Series) -> None:
    mine, other = (ledger.submit_job(series.id, {}) for _ in range(2))
    ledger.claim(mine.id, "ended")
    ledger.claim(other.id, "alive")
    assert [a.job_id for a in ledger.requeue_worker("ended")] == [mine.id]
    assert now_of(ledger, mine).state == "queued"
    assert now_of(ledger, other).state == "running"


def test_a_lost_attempts_files_are_kept_until_it_cannot_be_writing(ledger: Ledger, job: Job) -> None:
    claim = claim_of(ledger, job)
    ledger.requeue_stale(utc_now() + MINUTE, timedelta(seconds=1))
    assert due_discards(ledger, utc_now() + timedelta(seconds=3500)) == []
    assert due_discards(ledger, utc_now() + timedelta(seconds=3700)) == [result_prefix(job.id, claim.token)]


def test_a_delivered_attempts_files_are_never_due_for_deletion(ledger: Ledger, job: Job) -> None:
    claim = claim_of(ledger, job)
    ledger.succeed(job.id, claim.token, {}, result_prefix(job.id, claim.token))
    assert due_discards(ledger, utc_now() + timedelta(days=365)) == []
    assert ledger.holds(job.id, claim.token)


def test_progress_is_clamped_to_the_unit_interval(ledger: Ledger, job: Job) -> None:
    claim = claim_of(ledger, job)
    ledger.progress(job.id, claim.token, "sample", 1.7)
    assert now_of(ledger, job).progress == 1.0
    ledger.progress(job.id, claim.token, "sample", -1.0)
    assert now_of(ledger, job).progress == 0.0
