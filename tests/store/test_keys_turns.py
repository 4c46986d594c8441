"""Whose turn it is."""

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.dialects import sqlite

from spinepaint.store import Ledger, Series, migrate
from spinepaint.store.database import utc_now
from spinepaint.store.turns import first_queued, waiting_tenants

SPEC = {"fsu": "L4-L5"}


@pytest.fixture
def sources(ledger: Ledger) -> dict[str, Series]:
    return {
        tenant: ledger.add_series(sha256="0" * 64, geometry={}, warnings=[], artifact_key=f"sources/{tenant}/", tenant=tenant)
        for tenant in ("a", "b", "c")
    }


def submit(ledger: Ledger, sources: dict[str, Series], tenants: str) -> list[str]:
    return [ledger.submit_job(sources[tenant].id, SPEC, tenant=tenant).id for tenant in tenants]


def served(ledger: Ledger, turns: int, *, finish: bool) -> str:
    """The tenants of the jobs that are claimed one after the other; each is finished before the next, or runs on."""
    found = ""
    for _ in range(turns):
        claim = ledger.claim_next("w")
        assert claim is not None
        job = ledger.get_job(claim.job_id)
        assert job is not None
        found += job.tenant
        if finish:
            ledger.fail(claim.job_id, claim.token, {"type": "x", "title": "x", "status": 500}, retry=False)
    return found


def test_a_lone_tenant_is_served_in_order(ledger: Ledger, sources: dict[str, Series]) -> None:
    ids = submit(ledger, sources, "aaa")
    claims = [ledger.claim_next("w") for _ in range(4)]
    assert [claim and claim.job_id for claim in claims] == [*ids, None]


def test_one_worker_goes_round(ledger: Ledger, sources: dict[str, Series]) -> None:
    submit(ledger, sources, "aaaaaabbc")
    assert served(ledger, 9, finish=True) == "abcabaaaa"


def test_many_workers_are_shared(ledger: Ledger, sources: dict[str, Series]) -> None:
    submit(ledger, sources, "aaaaaabb")
    assert served(ledger, 4, finish=False) == "abab"
    submit(ledger, sources, "c")
    assert served(ledger, 2, finish=False) == "ca"


def test_who_comes_late_does_not_wait_behind_all(ledger: Ledger, sources: dict[str, Series]) -> None:
    submit(ledger, sources, "aaaaa")
    assert served(ledger, 2, finish=True) == "aa"
    submit(ledger, sources, "b")
    assert served(ledger, 2, finish=True) == "ba"


def test_a_job_that_waits_for_its_next_attempt_is_passed_over_until_then(ledger: Ledger, sources: dict[str, Series]) -> None:
    first, second = submit(ledger, sources, "aa")
    claim = ledger.claim_next("w")
    assert claim is not None and claim.job_id == first
    ledger.fail(first, claim.token, {"type": "x", "title": "x", "status": 500}, retry=True, retry_after=timedelta(hours=1))
    again = ledger.claim_next("w")
    assert again is not None and again.job_id == second
    assert ledger.next_turn() is None
    assert [row.job_id for row in ledger.pending_announcements(utc_now() + timedelta(hours=2))][-1] == first
    ledger.mark_announced([row.id for row in ledger.pending_announcements(utc_now() + timedelta(hours=2))])
    assert ledger.next_turn() == first


def test_a_worker_that_is_beaten_to_a_job_takes_the_next(
    ledger: Ledger, sources: dict[str, Series], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = submit(ledger, sources, "aa")
    seen = iter([first, second])
    monkeypatch.setattr(Ledger, "next_turn", lambda _self: next(seen, None))
    ledger.claim(first, "faster")
    claim = ledger.claim_next("w")
    assert claim is not None and claim.job_id == second
    assert ledger.claim_next("w") is None


def test_no_statement_reads_the_whole_queue(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.sqlite3'}"
    migrate(url)
    ledger = Ledger(url)
    for statement in (waiting_tenants(), first_queued("a", utc_now())):
        sql = statement.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True})
        with ledger.read() as session:
            plan = [str(row[3]) for row in session.execute(text(f"EXPLAIN QUERY PLAN {sql}".replace(":", r"\:")))]
        on_jobs = [step for step in plan if " jobs " in step]
        assert on_jobs, plan
        assert all(step.startswith("SEARCH jobs USING") and "state=? AND created_at" not in step for step in on_jobs), plan
        assert all("tenant" in step or "MIN" in step or "state=?" in step for step in on_jobs), plan
    ledger.close()
