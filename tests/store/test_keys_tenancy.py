"""What a tenant's ledger sees of a shared one, method by method and statement by statement."""

from typing import Any

import pytest
from sqlalchemy import event, func, insert, select, update
from sqlalchemy.orm import aliased

from spinepaint.store import (
    DicomInstance,
    DicomSeries,
    Event,
    IdempotencyConflict,
    Job,
    JobOrder,
    JobState,
    Ledger,
    QueueFull,
    Series,
    UnknownBatch,
    UnknownJob,
    UnknownSeries,
)
from spinepaint.store.callers import Caller
from spinepaint.store.dicom_entries import StoredInstance, by_series
from spinepaint.store.tenancy import CallerLedger

SPEC = {"fsu": "L4-L5"}


def add_series(ledger: Ledger, uid: str = "1.2.3", sop: str = "1.2.3.4", study: str = "1.2") -> Series:
    indexed = {
        "study_uid": study,
        "series_uid": uid,
        "sop_instance_uid": sop,
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.4",
        "transfer_syntax_uid": "1.2.840.10008.1.2.1",
        "instance_number": 1,
        "size": 100,
        "sha256": "0" * 64,
        "attributes": {"00100020": {"vr": "LO", "Value": ["P1"]}},
        "bulk": {},
        "frames": [],
    }
    dicom = by_series([StoredInstance("sources/a/1", indexed)])
    return ledger.add_series(sha256="a" * 64, geometry={"shape": [1]}, warnings=[], artifact_key="sources/a/", dicom=dicom)


@pytest.fixture
def ours(ledger: Ledger) -> Ledger:
    return CallerLedger(ledger, Caller("ours", "key-1"))


@pytest.fixture
def theirs(ledger: Ledger) -> Ledger:
    return CallerLedger(ledger, Caller("theirs", "key-2"))


def test_what_a_tenant_makes_is_its_own(ledger: Ledger, ours: Ledger) -> None:
    series = add_series(ours)
    job = ours.submit_job(series.id, SPEC)
    batch = ours.submit_batch([JobOrder(series.id, SPEC)])
    assert {series.tenant, job.tenant, batch.tenant} == {"ours"}
    assert job.key_id == "key-1"
    with ledger.read() as session:
        assert set(session.scalars(select(Job.key_id))) == {"key-1"}
        assert set(session.scalars(select(DicomSeries.tenant))) == {"ours"}
    with pytest.raises(PermissionError), ours.write() as session:
        session.add(Job(id="x", tenant="theirs", spec={}, state="queued", max_attempts=1, created_at=job.created_at))
    with pytest.raises(PermissionError), ours.write() as session:
        session.execute(insert(Job).values(id="x", tenant="theirs", spec={}, state="queued", max_attempts=1))
    assert {job.tenant for job in ledger.list_jobs().jobs} == {"ours"}


def test_nothing_of_another_tenant_is_found(ours: Ledger, theirs: Ledger) -> None:
    series = add_series(ours)
    job, batch = ours.submit_job(series.id, SPEC, destination="archive"), ours.submit_batch([JobOrder(series.id, SPEC)])
    assert theirs.get_series(series.id) is None and theirs.list_series() == []
    assert theirs.get_job(job.id) is None and theirs.list_jobs().jobs == [] and theirs.list_jobs(series_uid="1.2.3").jobs == []
    assert theirs.events(job.id) == [] and theirs.last_events([job.id]) == {} and theirs.events_since({job.id: 0}) == []
    assert theirs.get_batch(batch.id) is None and theirs.list_batches().batches == [] and theirs.batch_items(batch.id) == []
    assert set(theirs.batch_counts([batch.id])[batch.id].values()) == {0}
    assert theirs.find_series([series.id]) == {} and theirs.source_patients(ours.batch_items(batch.id)) == {}
    assert theirs.dicom_deliveries([job.id]) == [] and not theirs.redeliver(job.id, "archive")
    assert theirs.search_studies((), 10, 0) == [] and theirs.search_series((), 10, 0) == []
    assert theirs.search_instances((), 10, 0) == [] and theirs.locate("1.2", "1.2.3") == []
    assert theirs.instance_attributes(ours.locate("1.2")) == {} and theirs.source_of("1.2.3") is None
    assert set(theirs.count_states().values()) == {0} and theirs.queue_depth() == 0
    for refused, error in (
        (lambda: theirs.cancel(job.id), UnknownJob),
        (lambda: theirs.delete_job(job.id), UnknownJob),
        (lambda: theirs.delete_series(series.id, results="delete"), UnknownSeries),
        (lambda: theirs.submit_job(series.id, SPEC), UnknownSeries),
        (lambda: theirs.submit_batch([JobOrder(series.id, SPEC)]), UnknownSeries),
        (lambda: theirs.cancel_batch(batch.id), UnknownBatch),
        (lambda: theirs.retry_batch(batch.id), UnknownBatch),
    ):
        with pytest.raises(error):
            refused()
    assert not theirs.store_again(series.id)
    assert ours.get_job(job.id) is not None and len(ours.list_jobs().jobs) == 2 and len(ours.events(job.id)) == 1
    assert len(ours.search_studies((), 10, 0)) == len(ours.search_instances((), 10, 0)) == 1
    assert len(ours.dicom_deliveries([job.id])) == 1


def test_statements_that_forget_the_tenant_are_narrowed_all_the_same(ledger: Ledger, ours: Ledger, theirs: Ledger) -> None:
    job = ours.submit_job(add_series(ours).id, SPEC)
    theirs.submit_job(add_series(theirs).id, SPEC)
    newer = aliased(Job)
    statements: list[Any] = [
        select(func.count()).where(Job.state == "queued"),
        select(func.count()).select_from(Job),
        select(func.count(Job.id)),
        select(func.count()).select_from(newer),
        select(func.count()).select_from(Event),
        select(func.count()).select_from(DicomInstance).join(DicomSeries, DicomSeries.id == DicomInstance.series),
        select(func.count()).select_from(Event).where(Event.job_id.in_(select(newer.id))),
    ]
    for statement in statements:
        with ledger.read() as whole, ours.read() as narrowed:
            assert (whole.scalar(statement), narrowed.scalar(statement)) == (2, 1), statement
    with theirs.write() as session:
        changed = update(Job).values(stage="seen").returning(Job.tenant)
        assert list(session.scalars(changed)) == ["theirs"]
    untouched = ours.get_job(job.id)
    assert untouched is not None and untouched.stage is None


def test_each_statement_on_a_table_of_tenants_names_the_tenant(ledger: Ledger, ours: Ledger) -> None:
    statements: list[str] = []
    event.listen(ledger._engine, "before_cursor_execute", lambda _c, _cursor, sql, *_more: statements.append(sql))
    series = add_series(ours)
    job = ours.submit_job(series.id, SPEC, "again", "print", queue_cap=5)
    ours.list_jobs(series_uid="1.2.3")
    ours.search_instances((), 10, 0)
    ours.kept_elsewhere("1.2", "1.2.3", ["1.2.3.4"])
    ours.cancel(job.id)
    ours.redeliver(job.id, "x")
    ours.delete_series(series.id, results="delete")
    read = [sql for sql in statements if not sql.lstrip().upper().startswith(("INSERT", "BEGIN", "PRAGMA"))]
    on_tables = [sql for sql in read if any(f" {table}" in sql for table in ("jobs", "series", "dicom_series", "events"))]
    assert len(on_tables) > 8
    # What the unit of work changes by primary key was loaded under the condition.
    by_key = ("UPDATE dicom_series SET", "UPDATE jobs SET key_id")
    assert [sql for sql in on_tables if "tenant = " not in sql and not sql.startswith(by_key)] == []


def test_the_same_uids_content_and_idempotency_keys_do_not_meet(ours: Ledger, theirs: Ledger) -> None:
    mine, other = add_series(ours), add_series(theirs)
    assert ours.kept_elsewhere("9.9", "1.2.3", []) == (True, frozenset())
    add_series(theirs, uid="5.6", sop="5.6.7", study="5")
    assert ours.kept_elsewhere("7.7", "5.6", ["5.6.7"]) == (False, frozenset())
    source, same = ours.source_of("1.2.3"), theirs.source_of("1.2.3")
    assert source is not None and same is not None and (source.id, same.id) == (mine.id, other.id)
    first = ours.submit_job(mine.id, SPEC, "key", "print")
    second = theirs.submit_job(other.id, {"fsu": "L1-L2"}, "key", "another print")
    assert first.id != second.id
    assert ours.submit_job(mine.id, SPEC, "key", "print").id == first.id
    with pytest.raises(IdempotencyConflict):
        ours.submit_job(mine.id, SPEC, "key", "another print")
    ours.submit_batch([JobOrder(mine.id, SPEC)], "key", "print")
    theirs.submit_batch([JobOrder(other.id, SPEC)], "key", "another print")


def test_the_cap_of_a_key_counts_its_own_jobs(ledger: Ledger) -> None:
    row = ledger.create_key("a", tenant="ours", max_queued_jobs=2)[0]
    capped = CallerLedger(ledger, Caller("ours", row.id, max_queued_jobs=2))
    free = CallerLedger(ledger, Caller("ours", "another"))
    series = add_series(capped)
    for _ in range(3):
        free.submit_job(series.id, SPEC, queue_cap=6)
    first = capped.submit_job(series.id, SPEC, queue_cap=6)
    with pytest.raises(QueueFull) as refused:
        capped.submit_batch([JobOrder(series.id, SPEC)] * 2, queue_cap=6)
    assert refused.value.cap == 2
    capped.submit_job(series.id, SPEC, queue_cap=6)
    with pytest.raises(QueueFull):
        capped.submit_job(series.id, SPEC)
    free.submit_job(series.id, SPEC, queue_cap=6)
    with pytest.raises(QueueFull) as tenants:
        free.submit_job(series.id, SPEC, queue_cap=6)
    assert tenants.value.cap == 6
    capped.cancel(first.id)
    assert capped.submit_job(series.id, SPEC, queue_cap=6).state == JobState.QUEUED.value
