from collections.abc import Callable
from datetime import timedelta
from typing import Any

from sqlalchemy import select

from spinepaint.store import JobOrder, Ledger, Series, result_prefix
from spinepaint.store.audit import AuditEntry, AuditQuery
from spinepaint.store.callers import Caller, Touched
from spinepaint.store.database import utc_now
from spinepaint.store.tenancy import CallerLedger
from tests.store.test_keys_tenancy import SPEC, add_series


def told(entry: AuditEntry) -> tuple[str | None, str | None, str | None]:
    return entry.series_sha256, entry.job_id, entry.batch_id


def test_an_entry_says_who_what_when_and_which_series(ledger: Ledger) -> None:
    began = utc_now()
    caller = Caller("ours", "key-1")
    job = CallerLedger(ledger, caller).submit_job(add_series(CallerLedger(ledger, Caller("ours"))).id, SPEC)
    ledger.record_audit(tenant="ours", key_id="key-1", action="POST /v1/jobs", status=202, touched=caller.touched)
    (entry,) = ledger.list_audit()
    assert (entry.tenant, entry.key_id, entry.action, entry.status) == ("ours", "key-1", "POST /v1/jobs", 202)
    assert told(entry) == ("a" * 64, job.id, None)
    assert began <= entry.at <= utc_now()


def test_what_is_touched_is_what_was_read_made_or_deleted(ledger: Ledger) -> None:
    def touched_by(step: Callable[[Ledger], object]) -> Touched:
        caller = Caller("ours")
        step(CallerLedger(ledger, caller))
        return caller.touched

    first = Caller("ours")
    series = add_series(CallerLedger(ledger, first))
    job = CallerLedger(ledger, Caller("ours")).submit_job(series.id, SPEC)
    assert first.touched.series == {series.id: "a" * 64}
    assert touched_by(lambda mine: mine.get_job(job.id)).jobs == {job.id: series.id}
    assert touched_by(lambda mine: mine.search_series((), 10, 0)) == Touched()
    retrieved = touched_by(lambda mine: mine.locate("1.2"))
    ledger.record_audit(tenant="ours", key_id=None, action="GET", status=200, touched=retrieved)
    assert [told(entry) for entry in ledger.list_audit()] == [("a" * 64, None, None)]
    ledger.cancel(job.id)
    deleted = touched_by(lambda mine: mine.delete_series(series.id, results="keep"))
    ledger.record_audit(tenant="ours", key_id=None, action="DELETE", status=204, touched=deleted)
    assert told(ledger.list_audit()[0]) == ("a" * 64, job.id, None)


def test_a_batch_is_told_as_one(ledger: Ledger) -> None:
    caller = Caller("ours")
    mine = CallerLedger(ledger, caller)
    series = add_series(mine)
    batch = mine.submit_batch([JobOrder(series.id, SPEC)] * 3)
    ledger.record_audit(tenant="ours", key_id=None, action="POST", status=202, touched=caller.touched)
    assert [told(entry) for entry in ledger.list_audit()] == [("a" * 64, None, batch.id)]


def test_the_trail_is_read_by_key_series_time_and_page(ledger: Ledger) -> None:
    for number in range(5):
        ledger.record_audit(tenant="ours", key_id=f"key-{number % 2}", action=str(number), status=200)
    ledger.record_audit(tenant="theirs", key_id="key-0", action="secret", status=200)
    assert [entry.action for entry in ledger.list_audit(limit=2)] == ["secret", "4"]
    mine = CallerLedger(ledger, Caller("ours"))
    assert [entry.action for entry in mine.list_audit(AuditQuery(key_id="key-0"))] == ["4", "2", "0"]
    page = mine.list_audit(limit=2)
    assert [entry.action for entry in mine.list_audit(AuditQuery(before=page[-1].id))] == ["2", "1", "0"]
    assert mine.list_audit(AuditQuery(since=utc_now())) == []
    assert mine.list_audit(AuditQuery(series_sha256="0" * 64)) == []


def test_only_what_is_old_is_removed_and_nothing_can_be_changed(ledger: Ledger) -> None:
    ledger.record_audit(tenant="", key_id=None, action="kept", status=200)
    with ledger.write() as session:
        session.add(AuditEntry(at=utc_now() - timedelta(days=10), tenant="", action="old", status=200))
    assert ledger.prune_audit(utc_now() - timedelta(days=9)) == 1
    assert [entry.action for entry in ledger.list_audit()] == ["kept"]
    assert {name for name in dir(ledger) if "audit" in name} == {"record_audit", "list_audit", "prune_audit"}


def sendings(ledger: Ledger, action: str) -> list[tuple[Any, ...]]:
    found = [entry for entry in reversed(ledger.list_audit()) if entry.action == action]
    return [(entry.tenant, entry.key_id, entry.status, entry.series_sha256, entry.job_id, entry.batch_id) for entry in found]


def test_each_try_to_send_something_is_told_as_the_doing_of_the_jobs_key(ledger: Ledger, series: Series) -> None:
    ours = CallerLedger(ledger, Caller("", "k"))
    secret = "https://example.org/Doe-Jane"
    batch = ours.submit_batch([JobOrder(series.id, {}, secret, "pacs")])
    (job,) = ledger.batch_jobs(batch.id)
    claim = ledger.claim(job.id, "w")
    assert claim is not None and ledger.succeed(job.id, claim.token, {}, result_prefix(job.id, claim.token))
    problem = {"type": "x", "title": "Doe^Jane", "status": 502}
    for retry_after, fault in ((timedelta(0), problem), (None, None)):
        (webhook,), (delivery,) = ledger.due_webhooks(utc_now()), ledger.due_dicom_deliveries(utc_now())
        taken, sent = ledger.take_webhook(webhook, timedelta(0)), ledger.take_dicom_delivery(delivery, timedelta(0))
        assert taken is not None and sent is not None
        assert ledger.hold_dicom_delivery(sent, timedelta(0))  # is nothing to tell of
        if fault is not None:
            assert ledger.fail_webhook(taken, fault, retry_after) and ledger.fail_dicom_delivery(sent, fault, retry_after)
        else:
            assert ledger.end_webhook(taken) and ledger.end_dicom_delivery(sent)
        assert not ledger.end_webhook(webhook)  # of another try: nothing is recorded, and nothing told
    whose = ("", "k")
    what = (series.sha256, job.id, batch.id)
    assert sendings(ledger, "webhook") == [(*whose, 502, *what), (*whose, 0, *what)]
    assert sendings(ledger, "delivery pacs") == [(*whose, 502, *what), (*whose, 0, *what)]
    with ledger.read() as session:
        written = str(session.execute(select(AuditEntry.__table__)).all())
    assert "Doe" not in written and "example" not in written
