"""What others do between a question and the answer's use, on PostgreSQL: SQLite lets one write at a time."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import event, select, text, update

from spinepaint.store import DicomSeries, Job, JobOrder, JobState, Ledger, QueueFull, Series, by_series
from spinepaint.store.callers import Caller
from spinepaint.store.database import utc_now
from spinepaint.store.models import Batch
from spinepaint.store.queue_caps import lock_queue
from spinepaint.store.tenancy import CallerLedger
from tests.store.discards import due_discards
from tests.store.test_deletions import finish
from tests.store.test_dicom import instance
from tests.worker.workplaces import wait_until

DAY = timedelta(days=1)
GATE = 7
"""An advisory lock that the tests hold while somebody else is to wait."""


@pytest.fixture
def series(postgres: Ledger) -> Series:
    dicom = by_series([instance(1), instance(2)])
    return postgres.add_series(sha256="0" * 64, geometry={}, warnings=[], artifact_key="sources/a/", dicom=dicom)


@pytest.fixture
def other(postgres_url: str, postgres: Ledger) -> Iterator[Ledger]:
    """Connections of somebody else, whose statements are not held up."""
    ledger = Ledger(postgres_url)
    yield ledger
    ledger.close()


def age(ledger: Ledger) -> None:
    """Make all that there is a hundred days old."""
    then = utc_now() - 100 * DAY
    with ledger.write() as session:
        session.execute(update(Series).values(created_at=then))
        session.execute(update(DicomSeries).values(stored_at=then))
        session.execute(update(Batch).values(created_at=then))
        session.execute(update(Job).values(created_at=then, finished_at=then))


def waiting_for_locks(ledger: Ledger) -> int:
    with ledger.read() as session:
        return session.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")) or 0


@contextmanager
def meanwhile(slow: Ledger, other: Ledger, table: str, step: Callable[[], Any]) -> Iterator[None]:
    """Have `step` done once the slow ledger's first look for rows of a table to lock has begun, and before it locks any."""
    held = iter([True])

    def wait_within(_c: Any, _cursor: Any, statement: str, parameters: Any, _x: Any, _many: bool) -> tuple[str, Any]:
        if f"\nFROM {table} \nWHERE" in statement and "FOR UPDATE" in statement and next(held, False):
            gate = f"\nFROM {table} \nWHERE (SELECT count(*) FROM pg_advisory_xact_lock_shared({GATE})) > 0 AND"
            return statement.replace(f"\nFROM {table} \nWHERE", gate, 1), parameters
        return statement, parameters

    event.listen(slow._engine, "before_cursor_execute", wait_within, retval=True)
    with ThreadPoolExecutor(1) as pool, other.write() as gate:
        gate.execute(text(f"SELECT pg_advisory_xact_lock({GATE})"))

        def once_it_waits() -> None:
            wait_until(lambda: waiting_for_locks(other) > 0)
            step()

        done = pool.submit(once_it_waits)
        done.add_done_callback(lambda _: gate.commit())
        yield
        done.result()
    event.remove(slow._engine, "before_cursor_execute", wait_within)
    assert next(held, None) is None, "nothing was looked for"


def test_a_series_that_a_job_comes_to_read_while_it_is_looked_for_stays(postgres: Ledger, other: Ledger, series: Series) -> None:
    age(postgres)
    with meanwhile(postgres, other, "series", partial(other.submit_job, series.id, {})):
        gone = postgres.purge_series(utc_now() - 30 * DAY)
    assert gone == 0
    (job,) = postgres.list_jobs().jobs
    assert (job.state, job.series_id) == ("queued", series.id)
    claim = postgres.claim(job.id, "w")
    assert claim is not None and claim.artifact_key == "sources/a/"


def test_a_series_whose_jobs_are_queued_again_while_it_is_looked_for_stays(
    postgres: Ledger, other: Ledger, series: Series
) -> None:
    batch = postgres.submit_batch([JobOrder(series.id, {})] * 2)
    postgres.cancel_batch(batch.id)
    age(postgres)
    with meanwhile(postgres, other, "series", partial(other.retry_batch, batch.id)):
        gone = postgres.purge_series(utc_now() - 30 * DAY)
    assert gone == 0
    assert [(job.state, job.series_id) for job in postgres.batch_jobs(batch.id)] == [("queued", series.id)] * 2


def test_a_series_that_is_stored_again_while_it_is_looked_for_stays(postgres: Ledger, other: Ledger, series: Series) -> None:
    age(postgres)
    with meanwhile(postgres, other, "series", partial(other.store_again, series.id)):
        gone = postgres.purge_series(utc_now() - 30 * DAY)
    assert (gone, due_discards(postgres, utc_now())) == (0, [])
    assert len(postgres.locate("1.2")) == 2


def test_a_series_that_somebody_is_about_to_use_is_left_for_another_time(postgres: Ledger, other: Ledger, series: Series) -> None:
    batch = postgres.submit_batch([JobOrder(series.id, {})])
    postgres.cancel_batch(batch.id)
    age(postgres)
    with other.write() as session:
        session.execute(select(Job.id).where(Job.batch_id == batch.id).with_for_update()).all()
        assert postgres.purge_series(utc_now() - 30 * DAY) == 0  # and waits for nobody
    assert postgres.purge_series(utc_now() - 30 * DAY) == 1


def test_a_result_that_is_to_be_delivered_again_is_not_forgotten(postgres: Ledger, other: Ledger, series: Series) -> None:
    job = finish(postgres, series)
    (due,) = postgres.due_dicom_deliveries(utc_now())
    taken = postgres.take_dicom_delivery(due, DAY)
    assert taken is not None and postgres.fail_dicom_delivery(taken, {"status": 502}, None)
    age(postgres)
    with meanwhile(postgres, other, "jobs", partial(other.redeliver, job.id, "web")):
        gone = postgres.purge_jobs(utc_now() - 30 * DAY)
    assert gone == 0
    assert [delivery.job_id for delivery in postgres.due_dicom_deliveries(utc_now())] == [job.id]


def test_what_is_forgotten_is_not_delivered_again(postgres: Ledger, other: Ledger, series: Series) -> None:
    job = finish(postgres, series)
    with ThreadPoolExecutor(1) as pool:
        with other.write() as session:
            session.execute(select(Job.id).where(Job.id == job.id).with_for_update()).all()
            late = pool.submit(postgres.redeliver, job.id, "web")
            wait_until(lambda: waiting_for_locks(other) > 0)
            session.execute(text("DELETE FROM jobs"))
        assert late.result() is False


@pytest.mark.parametrize("of_key", [False, True])
def test_no_two_submissions_are_both_the_last_that_fits(
    postgres: Ledger, other: Ledger, series: Series, monkeypatch: pytest.MonkeyPatch, of_key: bool
) -> None:
    counted = threading.Barrier(2, timeout=0.5)

    def both_have_counted(*_: Any) -> None:
        with suppress(threading.BrokenBarrierError):
            counted.wait()

    # What comes after the count: there both would meet, if none had to wait for the other.
    monkeypatch.setattr("spinepaint.store.jobs.require_priorities", both_have_counted)

    def submit(ledger: Ledger) -> str:
        whose = CallerLedger(ledger, Caller("", "k", 1)) if of_key else ledger
        try:
            return whose.submit_job(series.id, {}, queue_cap=None if of_key else 1).state
        except QueueFull:
            return "full"

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(submit, (postgres, other))) == ["full", "queued"]


def test_who_waits_for_the_queue_keeps_nobody_waiting(postgres: Ledger, other: Ledger, series: Series) -> None:
    """A holder of the queue may wait for a series, and its deletion for the jobs: those who wait for the queue must have none."""
    batch = postgres.submit_batch([JobOrder(series.id, {})] * 2)
    postgres.cancel_batch(batch.id)
    with ThreadPoolExecutor(1) as pool:
        with other.write() as session:
            lock_queue(session, "", 10)
            late: Future[Any] = pool.submit(postgres.retry_batch, batch.id, queue_cap=10)
            wait_until(lambda: waiting_for_locks(other) > 0)
            free = select(Job.id).where(Job.batch_id == batch.id).with_for_update(nowait=True)
            assert len(session.scalars(free).all()) == 2
        late.result()
    assert postgres.count_states()[JobState.QUEUED] == 2


def test_tenants_do_not_wait_for_one_anothers_queues(postgres: Ledger, other: Ledger) -> None:
    series = postgres.add_series(sha256="0" * 64, geometry={}, warnings=[], artifact_key="sources/b/", tenant="b")
    with other.write() as session:
        lock_queue(session, "a", 10)
        assert postgres.submit_job(series.id, {}, tenant="b", queue_cap=10).state == "queued"
