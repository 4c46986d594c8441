"""What is kept long enough goes, with all that is of it; what is young, or is still needed, stays."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from sqlalchemy import update

from spinepaint.store import BatchActive, Job, JobOrder, Ledger, Series, UnknownBatch, result_prefix
from spinepaint.store.callers import Caller
from spinepaint.store.database import utc_now
from spinepaint.store.tenancy import CallerLedger
from tests.store.discards import due_discards
from tests.store.test_deletions import finish, rows

DAY = timedelta(days=1)
Aged = Callable[[str, timedelta], None]


@pytest.fixture
def aged(ledger: Ledger) -> Aged:
    """Says that a job was submitted, and ended if it has, so long ago."""

    def aged(job_id: str, age: timedelta) -> None:
        job = ledger.get_job(job_id)
        assert job is not None
        finished = None if job.finished_at is None else job.finished_at - age
        with ledger.write() as session:
            session.execute(update(Job).where(Job.id == job_id).values(created_at=job.created_at - age, finished_at=finished))

    return aged


def month_ago() -> datetime:
    return utc_now() - 30 * DAY


def delivered(ledger: Ledger, job_id: str) -> None:
    """What is owed of a job is settled."""
    for delivery in ledger.due_dicom_deliveries(utc_now()):
        if delivery.job_id == job_id and (taken := ledger.take_dicom_delivery(delivery, DAY)):
            ledger.end_dicom_delivery(taken)


def test_a_result_goes_so_long_after_its_job_has_ended(ledger: Ledger, series: Series, aged: Aged) -> None:
    old, young = finish(ledger, series, "1.2.8"), finish(ledger, series, "1.2.9")
    for job in (old, young):
        delivered(ledger, job.id)
    aged(old.id, 31 * DAY)
    aged(young.id, 29 * DAY)
    assert [ledger.purge_jobs(month_ago()) for _ in range(2)] == [1, 0]
    assert ledger.get_job(old.id) is None and ledger.get_job(young.id) is not None
    assert due_discards(ledger, utc_now()) == [f"results/{old.id}/"]
    assert (ledger.locate("1.2", "1.2.8"), len(ledger.locate("1.2", "1.2.9"))) == ([], 2)
    assert ledger.get_series(series.id) is not None
    again = ledger.submit_job(series.id, {}, "key 1.2.8", "another print")
    assert again.id != old.id  # its idempotency key went with it


def test_nothing_is_left_of_it_but_the_audit_trail(ledger: Ledger, series: Series, aged: Aged) -> None:
    empty = rows(ledger) | {"series": 0}
    job = finish(ledger, series)
    delivered(ledger, job.id)
    aged(job.id, 31 * DAY)
    with ledger.write() as session:
        session.execute(update(Series).values(created_at=utc_now() - 31 * DAY))
    assert ledger.purge_jobs(month_ago()) == 1
    assert ledger.purge_series(month_ago()) == 1
    assert rows(ledger) == empty
    assert sorted(due_discards(ledger, utc_now())) == sorted([f"results/{job.id}/", "sources/a/"])
    told = [(entry.action, entry.key_id, entry.series_sha256, entry.job_id) for entry in ledger.list_audit()]
    gone = [("retention", None, "0" * 64, None), ("retention", None, "0" * 64, job.id)]  # newest first
    assert told == [*gone, ("delivery web", None, "0" * 64, job.id)]


def test_jobs_that_have_not_ended_and_what_is_owed_of_others_stay(ledger: Ledger, series: Series, aged: Aged) -> None:
    queued, owed = ledger.submit_job(series.id, {}), finish(ledger, series)
    told = ledger.submit_job(series.id, {}, callback_url="https://example.org/")
    ledger.cancel(told.id)
    for job in (queued, owed, told):
        aged(job.id, 400 * DAY)
    assert ledger.purge_jobs(month_ago()) == 0
    delivered(ledger, owed.id)
    assert ledger.purge_jobs(month_ago()) == 1
    (webhook,) = ledger.due_webhooks(utc_now())
    taken = ledger.take_webhook(webhook, DAY)
    assert taken is not None and ledger.end_webhook(taken)
    assert ledger.purge_jobs(month_ago()) == 1
    assert [job.id for job in ledger.list_jobs().jobs] == [queued.id]


def test_a_batch_goes_as_a_whole(ledger: Ledger, series: Series, aged: Aged) -> None:
    batch = ledger.submit_batch([JobOrder(series.id, {})] * 3, "batch key", "print")
    first, second, third = (job.id for job in ledger.batch_jobs(batch.id))
    for job_id in (first, second):
        claim = ledger.claim(job_id, "w")
        assert claim is not None
        assert ledger.succeed(job_id, claim.token, {}, result_prefix(job_id, claim.token))
    for job_id in (first, second, third):
        aged(job_id, 31 * DAY)
    with ledger.write() as session:
        session.execute(update(type(batch)).values(created_at=utc_now() - 31 * DAY))
    assert ledger.purge_jobs(month_ago()) == 0  # one is queued
    ledger.cancel(third)
    assert ledger.purge_jobs(month_ago()) == 0  # and has ended just now
    with ledger.write() as session:
        session.execute(update(Job).where(Job.id == third).values(finished_at=utc_now() - 31 * DAY))
    assert ledger.purge_jobs(month_ago()) == 4
    assert ledger.get_batch(batch.id) is None
    assert sorted(due_discards(ledger, utc_now())) == sorted(f"results/{job_id}/" for job_id in (first, second, third))
    assert ledger.submit_batch([JobOrder(series.id, {})], "batch key", "another print").id != batch.id


def test_a_series_stays_while_it_is_used(ledger: Ledger, series: Series, aged: Aged) -> None:
    with ledger.write() as session:
        session.execute(update(Series).values(created_at=utc_now() - 400 * DAY))
    job = ledger.submit_job(series.id, {})
    aged(job.id, 300 * DAY)
    assert ledger.purge_series(month_ago()) == 0
    ledger.cancel(job.id)
    assert ledger.purge_series(month_ago()) == 0  # it was read until a moment ago
    with ledger.write() as session:
        session.execute(update(Job).values(finished_at=utc_now() - 31 * DAY))
    assert ledger.purge_series(month_ago()) == 1
    kept = ledger.get_job(job.id)
    assert kept is not None and kept.series_id is None  # a result is kept as long as results are
    assert due_discards(ledger, utc_now()) == ["sources/a/"]


def test_a_little_goes_at_a_time(ledger: Ledger, series: Series, aged: Aged) -> None:
    for _ in range(5):
        job = ledger.submit_job(series.id, {})
        ledger.cancel(job.id)
        aged(job.id, 31 * DAY)
    assert [ledger.purge_jobs(month_ago(), limit=2) for _ in range(4)] == [2, 2, 1, 0]


def test_a_batch_is_deleted_with_its_jobs_once_all_have_ended(ledger: Ledger, series: Series) -> None:
    empty = rows(ledger)
    ours = CallerLedger(ledger, Caller("", "k"))
    batch = ours.submit_batch([JobOrder(series.id, {}, "https://example.org/", "web")] * 2)
    jobs = [job.id for job in ours.batch_jobs(batch.id)]
    with pytest.raises(BatchActive) as refused:
        ours.delete_batch(batch.id)
    assert refused.value.jobs == jobs
    ours.cancel_batch(batch.id)
    with pytest.raises(UnknownBatch):
        CallerLedger(ledger, Caller("b")).delete_batch(batch.id)
    ours.delete_batch(batch.id)
    assert ledger.get_batch(batch.id) is None
    assert rows(ledger) == empty
    assert sorted(due_discards(ledger, utc_now())) == sorted(f"results/{job_id}/" for job_id in jobs)
