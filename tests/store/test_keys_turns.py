"""Whose turn it is."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.dialects import sqlite

from spinepaint.store import Claim, JobState, Ledger, Series, migrate
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


def test_turns_go_round_the_tenants(ledger: Ledger, sources: dict[str, Series]) -> None:
    ids = submit(ledger, sources, "aaaabbc")
    assert served(ledger, 1, finish=False) == "a"
    order = [ids[4], ids[6], ids[1], ids[5], ids[2], ids[3]]
    for most in range(1, 9):
        assert set(ledger.next_turns(most)) <= set(order)
        assert ledger.next_turns(most)[0] == order[0] == ledger.next_turn()
    assert ledger.next_turns(9) == order
    assert ledger.next_turns(3) == order[:3]


class Crowded(Ledger):
    """Before whoever else claims a job, somebody has the one whose turn it is, always."""

    def claim(self, job_id: str, worker: str) -> Claim | None:
        if worker == "one of the crowd":
            first = self.next_turns(1)
            assert first
            assert super().claim(first[0], "always faster") is not None
        return super().claim(job_id, worker)


def test_who_is_always_beaten_to_the_next_turn_draws_another(
    database_url: str, ledger: Ledger, sources: dict[str, Series]
) -> None:
    submit(ledger, sources, "a" * 40 + "b" * 20)
    crowded = Crowded(database_url)
    assert crowded.claim_next("one of the crowd") is not None
    crowded.close()


def test_a_crowd_that_looks_at_once_gets_a_job_each_and_tenants_their_share(postgres: Ledger) -> None:
    sources = {
        tenant: postgres.add_series(sha256="0" * 64, geometry={}, warnings=[], artifact_key=f"sources/{tenant}/", tenant=tenant)
        for tenant in ("a", "b")
    }
    crowd = 15  # as many connections as one process has
    submit(postgres, sources, "a" * 30 + "b" * 30)
    together = threading.Barrier(crowd)

    def take(number: int) -> Claim | None:
        together.wait(60)
        return postgres.claim_next(f"w{number}")

    with ThreadPoolExecutor(crowd) as pool:
        claims = list(pool.map(take, range(crowd)))
    assert len({claim.job_id for claim in claims if claim is not None}) == crowd
    running = postgres.count_states(tenant="a")[JobState.RUNNING]
    assert 0 < running < crowd


def test_no_statement_reads_the_whole_queue(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.sqlite3'}"
    migrate(url)
    ledger = Ledger(url)
    for statement in (waiting_tenants(), first_queued("a", utc_now()), first_queued("a", utc_now(), 256)):
        sql = statement.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True})
        with ledger.read() as session:
            plan = [str(row[3]) for row in session.execute(text(f"EXPLAIN QUERY PLAN {sql}".replace(":", r"\:")))]
        on_jobs = [step for step in plan if " jobs " in step]
        assert on_jobs, plan
        assert all(step.startswith("SEARCH jobs USING") and "state=? AND created_at" not in step for step in on_jobs), plan
        assert all("tenant" in step or "MIN" in step or "state=?" in step for step in on_jobs), plan
    ledger.close()
