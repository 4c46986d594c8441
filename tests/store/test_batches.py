from typing import Any

import pytest
from sqlalchemy import delete, event, func, insert, select, text

from spinepaint.store import (
    BadCursor,
    Batch,
    BatchFinished,
    Delivery,
    DicomSeries,
    JobOrder,
    JobState,
    Ledger,
    NothingToRetry,
    QueueFull,
    Series,
    Tally,
    UnknownBatch,
    UnknownSeries,
    result_prefix,
)
from spinepaint.store.database import utc_now
from tests.store.discards import due_discards

PROBLEM = {"type": "https://spinepaint.invalid/problems/no-disc", "title": "No disc.", "status": 422, "detail": "d"}


def submit(ledger: Ledger, series: Series, count: int, **options: Any) -> Batch:
    return ledger.submit_batch([JobOrder(series.id, {"n": n}) for n in range(count)], **options)


def end(ledger: Ledger, job_id: str, *, well: bool) -> None:
    claim = ledger.claim(job_id, "w")
    assert claim is not None
    if well:
        assert ledger.succeed(job_id, claim.token, {}, result_prefix(job_id, claim.token))
    else:
        assert ledger.fail(job_id, claim.token, PROBLEM, retry=False) == JobState.FAILED


def job_ids(ledger: Ledger, batch: Batch) -> list[str]:
    return [item.job_id for item in ledger.batch_items(batch.id)]


def states(ledger: Ledger, batch: Batch) -> list[str]:
    return [item.state for item in ledger.batch_items(batch.id)]


def test_each_item_is_queued_in_order_with_its_event_and_message(ledger: Ledger, series: Series) -> None:
    batch = submit(ledger, series, 3, max_attempts=2)
    items = ledger.batch_items(batch.id)
    assert [(item.index, item.spec, item.state, item.attempts) for item in items] == [
        (n, {"n": n}, "queued", 0) for n in range(3)
    ]
    assert [owed.job_id for owed in ledger.pending_announcements()] == [item.job_id for item in items]
    for item in items:
        assert [(happened.seq, happened.data) for happened in ledger.events(item.job_id)] == [(1, {"state": "queued"})]
        job = ledger.get_job(item.job_id)
        assert job is not None
        assert (job.max_attempts, job.batch_id) == (2, batch.id)


def test_thousands_of_items_take_a_few_statements(ledger: Ledger, series: Series) -> None:
    statements: list[str] = []
    event.listen(ledger._engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    batch = submit(ledger, series, 3000)
    assert ledger.batch_counts([batch.id])[batch.id][JobState.QUEUED] == 3000
    assert len(ledger.pending_announcements(limit=5000)) == 3000
    assert len(statements) < 100
    statements.clear()
    ledger.cancel_batch(batch.id)
    ledger.retry_batch(batch.id)
    assert len(statements) < 100
    assert len(ledger.pending_announcements(limit=9000)) == 6000


def test_nothing_is_kept_of_a_batch_with_an_unknown_series(ledger: Ledger, series: Series) -> None:
    other = ledger.add_series(sha256="1", geometry={}, warnings=[], artifact_key="sources/b/", tenant="b")
    for wrong in ("no-such-series", other.id):
        with pytest.raises(UnknownSeries, match=wrong):
            ledger.submit_batch([JobOrder(series.id, {}), JobOrder(wrong, {})])
    assert ledger.list_jobs().jobs == []
    assert ledger.list_batches().batches == []
    assert ledger.pending_announcements() == []


def test_the_queue_cap_holds_for_the_whole_batch(ledger: Ledger, series: Series) -> None:
    submit(ledger, series, 2, queue_cap=4)
    with pytest.raises(QueueFull):
        submit(ledger, series, 3, queue_cap=4)
    assert ledger.queue_depth() == 2
    submit(ledger, series, 2, queue_cap=4)


def test_counts_of_each_state(ledger: Ledger, series: Series) -> None:
    batch, other = submit(ledger, series, 4), submit(ledger, series, 1)
    good, bad, running, _waiting = job_ids(ledger, batch)
    end(ledger, good, well=True)
    end(ledger, bad, well=False)
    ledger.claim(running, "w")
    counts = ledger.batch_counts([batch.id, other.id])
    assert counts[batch.id] == {"queued": 1, "running": 1, "succeeded": 1, "failed": 1, "cancelled": 0}
    assert sum(counts[other.id].values()) == 1


def test_items_a_part_at_a_time_and_by_state(ledger: Ledger, series: Series) -> None:
    batch = submit(ledger, series, 5)
    ids = job_ids(ledger, batch)
    end(ledger, ids[3], well=False)
    assert [item.index for item in ledger.batch_items(batch.id, limit=2)] == [0, 1]
    assert [item.index for item in ledger.batch_items(batch.id, after=1, limit=2)] == [2, 3]
    (failed,) = ledger.batch_items(batch.id, "failed")
    assert (failed.index, failed.problem) == (3, PROBLEM)
    ledger.delete_job(ids[3])
    assert [item.index for item in ledger.batch_items(batch.id)] == [0, 1, 2, 4]


def test_pages_of_batches_newest_first(ledger: Ledger, series: Series) -> None:
    made = [submit(ledger, series, 1).id for _ in range(5)]
    theirs = ledger.add_series(sha256="1", geometry={}, warnings=[], artifact_key="sources/b/", tenant="b")
    submit(ledger, theirs, 1, tenant="b")
    first = ledger.list_batches(limit=3, tenant="")
    second = ledger.list_batches(limit=3, cursor=first.next_cursor, tenant="")
    assert [batch.id for batch in first.batches + second.batches] == made[::-1]
    assert second.next_cursor is None
    with pytest.raises(BadCursor):
        ledger.list_batches(cursor="nonsense")


def test_cancelling_ends_what_has_not_ended(ledger: Ledger, series: Series) -> None:
    batch = submit(ledger, series, 4)
    good, bad, running, _waiting = job_ids(ledger, batch)
    end(ledger, good, well=True)
    end(ledger, bad, well=False)
    claim = ledger.claim(running, "w")
    assert claim is not None
    ledger.cancel_batch(batch.id)
    assert states(ledger, batch) == ["succeeded", "failed", "cancelled", "cancelled"]
    assert not ledger.succeed(running, claim.token, {}, "results/x/")
    assert [happened.data["state"] for happened in ledger.events(running)] == ["queued", "running", "cancelled"]
    assert result_prefix(running, claim.token) in due_discards(ledger, utc_now() + ledger.attempt_limit)
    with pytest.raises(BatchFinished):
        ledger.cancel_batch(batch.id)
    with pytest.raises(UnknownBatch):
        ledger.cancel_batch("no-such-batch")


def test_a_retry_queues_the_failed_and_the_cancelled_again(ledger: Ledger, series: Series) -> None:
    batch = submit(ledger, series, 3)
    good, bad, waiting = job_ids(ledger, batch)
    end(ledger, good, well=True)
    end(ledger, bad, well=False)
    ledger.cancel_batch(batch.id)
    ledger.mark_announced([owed.id for owed in ledger.pending_announcements()])
    ledger.retry_batch(batch.id)
    assert states(ledger, batch) == ["succeeded", "queued", "queued"]
    assert [owed.job_id for owed in ledger.pending_announcements()] == [bad, waiting]
    job = ledger.get_job(bad)
    assert job is not None
    assert (job.attempts, job.problem, job.started_at, job.finished_at, job.progress) == (0, None, None, None, 0.0)
    assert [happened.seq for happened in ledger.events(bad)] == [1, 2, 3, 4]
    end(ledger, bad, well=True)
    end(ledger, waiting, well=True)
    assert states(ledger, batch) == ["succeeded"] * 3
    with pytest.raises(NothingToRetry):
        ledger.retry_batch(batch.id)
    with pytest.raises(UnknownBatch):
        ledger.retry_batch(batch.id, tenant="b")


def test_what_a_batch_went_through_is_counted_as_its_jobs_would_be(ledger: Ledger, series: Series) -> None:
    def tallied() -> dict[tuple[str, str], int]:
        with ledger.write() as session:
            # Not by bound: how long each waited depends on the machine.
            rows = session.execute(select(Tally.name, Tally.label, func.sum(Tally.count)).group_by(Tally.name, Tally.label))
            found = {(name, label): total for name, label, total in rows}
            session.execute(delete(Tally))
        return found

    batch = submit(ledger, series, 3)
    ledger.claim(job_ids(ledger, batch)[0], "w")
    ledger.cancel_batch(batch.id)
    together = tallied()
    alone = [ledger.submit_job(series.id, {}).id for _ in range(3)]
    ledger.claim(alone[0], "w")
    for job_id in alone:
        ledger.cancel(job_id)
    assert together == tallied()
    assert together["transitions", "cancelled"] == together["attempts", "cancelled"] == 3


def test_an_attempt_from_before_a_retry_cannot_deliver(ledger: Ledger, series: Series) -> None:
    batch = submit(ledger, series, 1)
    (job_id,) = job_ids(ledger, batch)
    old = ledger.claim(job_id, "w")
    assert old is not None
    ledger.cancel_batch(batch.id)
    ledger.retry_batch(batch.id)
    assert not ledger.heartbeat(job_id, old.token)
    new = ledger.claim(job_id, "w")
    assert new is not None
    assert not ledger.succeed(job_id, old.token, {}, "results/old/")
    assert ledger.succeed(job_id, new.token, {}, "results/new/")
    assert ledger.batch_items(batch.id)[0].result_key == "results/new/"


def test_a_retry_keeps_to_the_queue_cap(ledger: Ledger, series: Series) -> None:
    batch = submit(ledger, series, 3)
    ledger.cancel_batch(batch.id)
    submit(ledger, series, 1)
    with pytest.raises(QueueFull):
        ledger.retry_batch(batch.id, queue_cap=3)
    assert states(ledger, batch) == ["cancelled"] * 3
    ledger.retry_batch(batch.id, queue_cap=4)


def test_an_item_whose_series_is_gone_stays_as_it_is(ledger: Ledger, series: Series) -> None:
    gone = ledger.add_series(sha256="1", geometry={}, warnings=[], artifact_key="sources/b/")
    batch = ledger.submit_batch([JobOrder(series.id, {}), JobOrder(gone.id, {})])
    ledger.cancel_batch(batch.id)
    ledger.delete_series(gone.id)
    ledger.retry_batch(batch.id)
    assert states(ledger, batch) == ["queued", "cancelled"]
    ledger.cancel_batch(batch.id)
    ledger.delete_series(series.id)
    with pytest.raises(NothingToRetry):
        ledger.retry_batch(batch.id)


def test_what_is_owed_at_the_end_is_owed_again_after_a_retry(ledger: Ledger, series: Series) -> None:
    order = JobOrder(series.id, {}, callback_url="https://example.org/hook", destination="pacs")
    batch = ledger.submit_batch([order, JobOrder(series.id, {})])
    job_id = job_ids(ledger, batch)[0]

    def owed() -> tuple[int, list[str]]:
        with ledger.read() as session:
            hooks = len(list(session.scalars(select(Delivery).where(Delivery.job_id == job_id))))
        return hooks, [delivery.state for delivery in ledger.dicom_deliveries([job_id])]

    assert owed() == (0, ["pending"])
    ledger.cancel_batch(batch.id)
    assert owed() == (1, ["failed"])
    ledger.retry_batch(batch.id)
    assert owed() == (0, ["pending"])
    end(ledger, job_id, well=True)
    assert owed() == (1, ["pending"])
    assert [delivery.job_id for delivery in ledger.due_dicom_deliveries(utc_now())] == [job_id]


def dicom(ledger: Ledger, **values: Any) -> None:
    row = {"tenant": "", "series_uid": "1.2.3", "digest": "", "instances": 1, "attributes": {}, "stored_at": utc_now()}
    with ledger.write() as session:
        session.execute(insert(DicomSeries).values(**row | values))


def test_whose_the_sources_are(ledger: Ledger, series: Series) -> None:
    bare, unread = (ledger.add_series(sha256="1", geometry={}, warnings=[], artifact_key=f"sources/{n}/") for n in "bc")
    dicom(ledger, source_id=series.id, study_uid="1.1", patient_id="P1")
    dicom(ledger, source_id=bare.id, study_uid="1.2", patient_id="")
    batch = ledger.submit_batch([JobOrder(which.id, {}) for which in (series, bare, unread, series)])
    items = ledger.batch_items(batch.id)
    found = ledger.source_patients(items)
    assert [found.get(item.job_id) for item in items] == ["P1", "1.2", None, "P1"]


def test_whose_a_source_was_that_is_gone(ledger: Ledger) -> None:
    specs: list[dict[str, Any]] = [{}, {"deidentify": True}, {"new_study": True}]
    for patient_id, expected in (("P1", ["P1", None, "P1"]), (None, ["1.1", None, None])):
        series = ledger.add_series(sha256="1", geometry={}, warnings=[], artifact_key="sources/b/")
        dicom(ledger, source_id=series.id, study_uid="1.1", patient_id=patient_id)
        batch = ledger.submit_batch([JobOrder(series.id, spec) for spec in specs])
        for item in ledger.batch_items(batch.id):
            end(ledger, item.job_id, well=True)
            dicom(ledger, job_id=item.job_id, study_uid="1.1", patient_id=patient_id)
        ledger.delete_series(series.id, results="keep")
        items = ledger.batch_items(batch.id)
        assert [item.series_id for item in items] == [None] * 3
        found = ledger.source_patients(items)
        assert [found.get(item.job_id) for item in items] == expected


def test_finding_many_series(ledger: Ledger, series: Series) -> None:
    theirs = ledger.add_series(sha256="1", geometry={}, warnings=[], artifact_key="sources/b/", tenant="b")
    wanted = [series.id, theirs.id, *(f"absent-{n}" for n in range(1200))]
    assert set(ledger.find_series(wanted)) == {series.id, theirs.id}
    assert set(ledger.find_series(wanted, tenant="b")) == {theirs.id}


def test_nothing_refers_to_a_batch_that_is_not_there(ledger: Ledger, series: Series) -> None:
    batch = submit(ledger, series, 1)
    assert ledger.get_batch(batch.id, tenant="b") is None
    assert ledger.get_batch("no-such-batch") is None
    with ledger.read() as session:
        assert session.scalar(text("SELECT count(*) FROM jobs WHERE batch_id NOT IN (SELECT id FROM batches)")) == 0
