"""What goes first among a tenant's jobs, and that it changes nothing between tenants."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest

from spinepaint.store import JobOrder, Ledger, Priority, PriorityNotAllowed, Series, jobs
from spinepaint.store.callers import Caller
from spinepaint.store.database import utc_now
from spinepaint.store.priorities import STEP
from spinepaint.store.tenancy import CallerLedger

LOW, NORMAL, HIGH = Priority.LOW, Priority.NORMAL, Priority.HIGH


def submitted(ledger: Ledger, series: Series, priorities: Sequence[Priority], tenant: str = "") -> list[str]:
    return [ledger.submit_job(series.id, {}, tenant=tenant, priority=priority).id for priority in priorities]


def taken(ledger: Ledger, turns: int) -> list[str]:
    claims = [ledger.claim_next("w") for _ in range(turns)]
    return [claim.job_id for claim in claims if claim is not None]


def test_the_urgent_goes_first_and_equals_in_their_order(ledger: Ledger, series: Series) -> None:
    low, first, urgent, second, pressing = submitted(ledger, series, [LOW, NORMAL, HIGH, NORMAL, HIGH])
    assert taken(ledger, 6) == [urgent, pressing, first, second, low]


def test_tenants_take_turns_whatever_they_call_urgent(ledger: Ledger, series: Series) -> None:
    theirs = ledger.add_series(sha256="1" * 64, geometry={}, warnings=[], artifact_key="sources/b/", tenant="b")
    pushing = submitted(ledger, series, [HIGH, HIGH, HIGH])
    (humble,) = submitted(ledger, theirs, [LOW], tenant="b")
    assert taken(ledger, 4) == [pushing[0], humble, *pushing[1:]]


@pytest.mark.parametrize(("waits", "later", "steps"), [(LOW, NORMAL, 1), (NORMAL, HIGH, 1), (LOW, HIGH, 2)])
def test_nothing_is_overtaken_for_ever(
    ledger: Ledger, series: Series, monkeypatch: pytest.MonkeyPatch, waits: Priority, later: Priority, steps: int
) -> None:
    began = utc_now() - timedelta(days=9)
    bound = began + steps * STEP
    moments: dict[str, datetime] = {
        "waits": began,
        "just before": bound - timedelta(seconds=1),
        "just after": bound + timedelta(seconds=1),
    }
    ids = {}
    for name, moment in moments.items():
        monkeypatch.setattr(jobs, "utc_now", lambda moment=moment: moment)
        (ids[name],) = submitted(ledger, series, [waits if name == "waits" else later])
    assert taken(ledger, 3) == [ids["just before"], ids["waits"], ids["just after"]]


def test_items_of_a_batch_have_their_own_and_keep_it_when_they_are_tried_again(ledger: Ledger, series: Series) -> None:
    batch = ledger.submit_batch([JobOrder(series.id, {}, priority=priority) for priority in (NORMAL, LOW, HIGH)])
    normal, low, urgent = (job.id for job in ledger.batch_jobs(batch.id))
    assert taken(ledger, 3) == [urgent, normal, low]
    ledger.cancel_batch(batch.id)
    ledger.retry_batch(batch.id)
    assert taken(ledger, 3) == [urgent, normal, low]


def test_a_job_that_comes_back_keeps_its_place(ledger: Ledger, series: Series) -> None:
    first, urgent = submitted(ledger, series, [NORMAL, HIGH])
    claim = ledger.claim_next("w")
    assert claim is not None and claim.job_id == urgent
    assert ledger.release(urgent, claim.token)
    assert taken(ledger, 2) == [urgent, first]


def test_a_key_may_be_kept_from_the_urgent(ledger: Ledger, series: Series) -> None:
    capped = CallerLedger(ledger, Caller("", "k", max_priority=NORMAL.value))
    assert len(submitted(capped, series, [LOW, NORMAL])) == 2
    with pytest.raises(PriorityNotAllowed) as refused:
        submitted(capped, series, [HIGH])
    assert refused.value.most == "normal"
    with pytest.raises(PriorityNotAllowed):
        capped.submit_batch([JobOrder(series.id, {}), JobOrder(series.id, {}, priority=HIGH)])
    assert len(ledger.list_jobs().jobs) == 2
    assert len(submitted(CallerLedger(ledger, Caller("", "k")), series, [HIGH])) == 1
