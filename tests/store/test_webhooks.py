"""Webhooks that the ledger owes: when, to whom, and what a sender that lost one can still do."""

from datetime import timedelta

import pytest

from spinepaint.store import Delivery, JobOrder, Ledger, Series
from spinepaint.store.database import utc_now

MINUTE = timedelta(minutes=1)
HOOK = "https://example.org/hook"


def ended(ledger: Ledger, series: Series) -> Delivery:
    job = ledger.submit_job(series.id, {}, callback_url=HOOK)
    claim = ledger.claim(job.id, "w")
    assert claim is not None
    assert ledger.due_webhooks(utc_now()) == []
    assert ledger.succeed(job.id, claim.token, {}, "results/")
    assert ledger.succeed(job.id, claim.token, {}, "results/")
    (owed,) = ledger.due_webhooks(utc_now())
    assert (owed.job_id, owed.url, owed.attempts) == (job.id, HOOK, 0)
    return owed


def test_a_webhook_is_owed_once_the_job_ended_and_sent_by_one(ledger: Ledger, series: Series) -> None:
    owed = ended(ledger, series)
    taken = ledger.take_webhook(owed, MINUTE)
    assert taken is not None
    assert ledger.take_webhook(owed, MINUTE) is None
    assert ledger.due_webhooks(utc_now()) == []
    assert ledger.holds_webhook(taken)
    assert ledger.end_webhook(taken)
    assert ledger.due_webhooks(utc_now() + 2 * MINUTE) == []
    assert not ledger.holds_webhook(taken)
    row = ledger.webhooks([owed.job_id])[owed.job_id]
    assert (row.state, row.problem, row.delivered_at is not None) == ("delivered", None, True)


def test_a_sender_that_was_taken_for_dead_changes_nothing(ledger: Ledger, series: Series) -> None:
    owed = ended(ledger, series)
    late = ledger.take_webhook(owed, timedelta(0))
    (again,) = ledger.due_webhooks(utc_now())
    second = ledger.take_webhook(again, MINUTE)
    assert late is not None
    assert second is not None
    assert second.attempts == 2
    assert not ledger.holds_webhook(late)
    assert not ledger.end_webhook(late)
    assert not ledger.fail_webhook(late, {}, None)
    assert ledger.end_webhook(second)
    assert not ledger.fail_webhook(second, {}, MINUTE)


def test_a_failure_is_kept_until_a_try_succeeds(ledger: Ledger, series: Series) -> None:
    taken = ledger.take_webhook(ended(ledger, series), MINUTE)
    assert taken is not None
    assert ledger.fail_webhook(taken, {"detail": "busy"}, MINUTE)
    assert ledger.due_webhooks(utc_now()) == []
    (again,) = ledger.due_webhooks(utc_now() + 2 * MINUTE)
    assert again.problem == {"detail": "busy"}
    last = ledger.take_webhook(again, MINUTE)
    assert last is not None
    assert ledger.fail_webhook(last, {"detail": "gone"}, None)
    row = ledger.webhooks([taken.job_id])[taken.job_id]
    assert (row.state, row.problem, row.due_at) == ("given_up", {"detail": "gone"}, None)


def test_every_way_to_end_owes_the_webhook(ledger: Ledger, series: Series) -> None:
    finished = []
    for way in ("fail", "cancel", "stop"):
        job = ledger.submit_job(series.id, {}, callback_url=HOOK, max_attempts=1)
        claim = ledger.claim(job.id, way)
        assert claim is not None
        if way == "fail":
            ledger.fail(job.id, claim.token, {}, retry=True)
        elif way == "cancel":
            ledger.cancel(job.id)
        else:
            ledger.requeue_worker("stop")
        finished.append(job.id)
    assert {delivery.job_id for delivery in ledger.due_webhooks(utc_now())} == set(finished)


def test_a_deleted_job_takes_its_webhook_along(ledger: Ledger, series: Series) -> None:
    taken = ledger.take_webhook(ended(ledger, series), MINUTE)
    assert taken is not None
    ledger.delete_job(taken.job_id)
    assert not ledger.holds_webhook(taken)
    assert not ledger.end_webhook(taken)


def owe(ledger: Ledger, series: Series, url: str, count: int) -> None:
    batch = ledger.submit_batch([JobOrder(series.id, {}, url)] * count)
    ledger.cancel_batch(batch.id)


def test_each_receiver_is_found_however_much_is_owed_to_another(ledger: Ledger, series: Series) -> None:
    for url, count in (("https://b.example/1", 150), ("https://C.example:8443/x", 2), ("https://a.example./2?key=1", 1)):
        owe(ledger, series, url, count)
    now = utc_now()
    every = ["a.example:443", "b.example:443", "c.example:8443"]
    assert ledger.due_receivers(now) == every
    assert ledger.due_receivers(now, after="b.example:443") == every[2:]
    assert ledger.due_receivers(now, limit=2) == every[:2]
    assert [webhook.url for webhook in ledger.due_webhooks(now, "a.example:443")] == ["https://a.example./2?key=1"]
    assert len(ledger.due_webhooks(now, "b.example:443", limit=200)) == 150
    (last,) = ledger.due_webhooks(now, "a.example:443")
    taken = ledger.take_webhook(last, MINUTE)
    assert taken is not None
    assert ledger.due_receivers(now) == every[1:]
    assert ledger.end_webhook(taken)
    assert ledger.due_receivers(now + 2 * MINUTE) == every[1:]


@pytest.mark.parametrize("url", ["", "nonsense", "https://[", "https://a:b", "https://" + "a." * 1000 + "org"])
def test_no_address_keeps_a_job_from_ending(ledger: Ledger, series: Series, url: str) -> None:
    owe(ledger, series, url, 1)
    (receiver,) = ledger.due_receivers(utc_now())
    assert len(receiver) <= 300
    assert [webhook.url for webhook in ledger.due_webhooks(utc_now(), receiver)] == [url]
