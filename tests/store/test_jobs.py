import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from spinepaint.store import (
    AlreadyFinished,
    BadCursor,
    IdempotencyConflict,
    JobOrder,
    JobState,
    Ledger,
    QueueFull,
    Series,
    UnknownJob,
    UnknownSeries,
)


def test_a_submitted_job_is_queued_and_its_message_is_owed(ledger: Ledger, series: Series) -> None:
    job = ledger.submit_job(series.id, {"fsu": "L4-L5"}, max_attempts=2)
    kept = ledger.get_job(job.id)
    assert kept is not None
    assert (kept.state, kept.spec, kept.attempts, kept.max_attempts) == ("queued", {"fsu": "L4-L5"}, 0, 2)
    assert kept.created_at.tzinfo is not None
    assert [a.job_id for a in ledger.pending_announcements()] == [job.id]


def test_nothing_is_kept_of_a_job_whose_series_is_unknown(ledger: Ledger) -> None:
    with pytest.raises(UnknownSeries):
        ledger.submit_job("no-such-series", {})
    assert ledger.list_jobs().jobs == []
    assert ledger.pending_announcements() == []


def test_the_same_key_and_request_give_the_first_job(ledger: Ledger, series: Series) -> None:
    first = ledger.submit_job(series.id, {"seed": 1}, "key", "print")
    again = ledger.submit_job(series.id, {"seed": 1}, "key", "print")
    assert again.id == first.id
    assert len(ledger.pending_announcements()) == 1


def test_the_same_key_with_another_request_is_a_conflict(ledger: Ledger, series: Series) -> None:
    ledger.submit_job(series.id, {"seed": 1}, "key", "print")
    with pytest.raises(IdempotencyConflict):
        ledger.submit_job(series.id, {"seed": 2}, "key", "another print")
    assert len(ledger.list_jobs().jobs) == 1


def test_keys_of_different_tenants_do_not_meet(ledger: Ledger) -> None:
    jobs = []
    for tenant in ("a", "b"):
        series = ledger.add_series(sha256="0", geometry={}, warnings=[], artifact_key="sources/x/", tenant=tenant)
        jobs.append(ledger.submit_job(series.id, {}, "key", "print", tenant=tenant).id)
    assert len(set(jobs)) == 2


def test_requests_with_one_key_at_the_same_time_make_one_job(ledger: Ledger, series: Series) -> None:
    together = threading.Barrier(6)

    def submit(_: int) -> str:
        together.wait()
        return ledger.submit_job(series.id, {"seed": 1}, "key", "print").id

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(submit, range(6)))) == 1
    assert len(ledger.list_jobs().jobs) == 1


def test_another_tenants_job_and_series_are_as_if_absent(ledger: Ledger) -> None:
    series = ledger.add_series(sha256="0", geometry={}, warnings=[], artifact_key="sources/x/", tenant="a")
    job = ledger.submit_job(series.id, {}, tenant="a")
    assert ledger.get_job(job.id, tenant="b") is None
    assert ledger.get_series(series.id, tenant="b") is None
    assert ledger.list_jobs(tenant="b").jobs == []
    with pytest.raises(UnknownJob):
        ledger.cancel(job.id, tenant="b")
    with pytest.raises(UnknownSeries):
        ledger.submit_job(series.id, {}, tenant="b")
    with pytest.raises(UnknownSeries):
        ledger.delete_series(series.id, tenant="b")
    kept = ledger.get_job(job.id, tenant="a")
    assert kept is not None
    assert kept.state == "queued"


def test_the_queue_cap_counts_the_tenants_waiting_jobs(ledger: Ledger, series: Series) -> None:
    first = ledger.submit_job(series.id, {}, queue_cap=2)
    ledger.submit_job(series.id, {}, queue_cap=2)
    with pytest.raises(QueueFull) as refused:
        ledger.submit_job(series.id, {}, queue_cap=2)
    assert refused.value.cap == 2
    ledger.claim(first.id, "w")
    ledger.submit_job(series.id, {}, queue_cap=2)
    assert ledger.queue_depth() == 2


def test_pages_follow_one_another_newest_first_without_gaps(ledger: Ledger, series: Series) -> None:
    submitted = [ledger.submit_job(series.id, {"n": n}).id for n in range(7)]
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = ledger.list_jobs(cursor=cursor, limit=3)
        seen += [job.id for job in page.jobs]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == submitted[::-1]


def test_jobs_are_listed_by_state(ledger: Ledger, series: Series) -> None:
    running, waiting = (ledger.submit_job(series.id, {}).id for _ in range(2))
    ledger.claim(running, "w")
    assert [job.id for job in ledger.list_jobs(state="running").jobs] == [running]
    assert [job.id for job in ledger.list_jobs(state=JobState.QUEUED).jobs] == [waiting]


@pytest.mark.parametrize("cursor", ["", "%%%", "bm8=", "MjAyNi0wMS0wMXx4", "é"])
def test_a_cursor_that_the_ledger_did_not_make_is_refused(ledger: Ledger, cursor: str) -> None:
    with pytest.raises(BadCursor):
        ledger.list_jobs(cursor=cursor)


def test_a_queued_job_is_cancelled_at_once_and_never_claimed(ledger: Ledger, series: Series) -> None:
    job = ledger.submit_job(series.id, {})
    assert ledger.cancel(job.id).state == "cancelled"
    assert ledger.claim(job.id, "w") is None
    kept = ledger.get_job(job.id)
    assert kept is not None
    assert kept.finished_at is not None


def test_a_running_job_that_is_cancelled_is_lost_to_its_worker(ledger: Ledger, series: Series) -> None:
    job = ledger.submit_job(series.id, {})
    claim = ledger.claim(job.id, "w")
    assert claim is not None
    ledger.cancel(job.id)
    assert not ledger.heartbeat(job.id, claim.token)
    assert not ledger.progress(job.id, claim.token, "sample", 0.5)
    assert not ledger.succeed(job.id, claim.token, {}, "results/")
    kept = ledger.get_job(job.id)
    assert kept is not None
    assert (kept.state, kept.result_key) == ("cancelled", None)


def test_a_finished_job_cannot_be_cancelled(ledger: Ledger, series: Series) -> None:
    job = ledger.submit_job(series.id, {})
    claim = ledger.claim(job.id, "w")
    assert claim is not None
    ledger.succeed(job.id, claim.token, {}, "results/")
    with pytest.raises(AlreadyFinished):
        ledger.cancel(job.id)
    with pytest.raises(UnknownJob):
        ledger.cancel("no-such-job")


def test_events_are_numbered_without_gaps_and_replay_from_any(ledger: Ledger, series: Series) -> None:
    job = ledger.submit_job(series.id, {})
    claim = ledger.claim(job.id, "w")
    assert claim is not None
    ledger.progress(job.id, claim.token, "sample", 0.5)
    ledger.succeed(job.id, claim.token, {}, "results/")
    events = ledger.events(job.id)
    assert [event.seq for event in events] == [1, 2, 3, 4]
    assert [event.data.get("state", event.type) for event in events] == ["queued", "running", "progress", "succeeded"]
    assert [event.seq for event in ledger.events(job.id, after=2)] == [3, 4]
    assert events[2].data == {"stage": "sample", "progress": 0.5}


def test_a_batch_is_all_or_nothing_and_keeps_its_order(ledger: Ledger, series: Series) -> None:
    with pytest.raises(UnknownSeries):
        ledger.submit_batch([JobOrder(series.id, {}), JobOrder("no-such-series", {})])
    assert ledger.list_jobs().jobs == []
    batch = ledger.submit_batch([JobOrder(series.id, {"n": n}) for n in range(5)], "key", "print")
    assert [job.spec["n"] for job in ledger.batch_jobs(batch.id)] == [0, 1, 2, 3, 4]
    assert ledger.count_states(batch.id)[JobState.QUEUED] == 5
    assert ledger.submit_batch([JobOrder(series.id, {})], "key", "print").id == batch.id
    with pytest.raises(IdempotencyConflict):
        ledger.submit_batch([JobOrder(series.id, {})], "key", "another print")
    assert len(ledger.list_jobs().jobs) == 5
