"""Whether the ledger is as fast with 10,000 queued jobs as with 10: `python -m bench.queue`.

Each call is made in turn on a ledger with few and on one with many waiting jobs of the same five tenants, and medians are
compared. Exits with 1 where one takes more than `--limit` times as long with many. What tells the exact number of jobs reads an
index entry a job: of that it is judged how many milliseconds more it takes (`--more-ms`).
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from sqlalchemy import text

from bench.ratios import Case, Ratio, compare, over, table
from bench.servers import Servers
from spinepaint.store import Claim, Job, JobState, Ledger, migrate
from spinepaint.store.callers import Caller
from spinepaint.store.database import utc_now
from spinepaint.store.figures import Memory
from spinepaint.store.jobs import JobOrder
from spinepaint.store.tenancy import CallerLedger
from spinepaint.worker.reaper import MESSAGES_A_WORKER

FEW, MANY, LIMIT = 10, 10_000, 1.5
TENANTS = ("a", "b", "c", "d", "e")
SPEC = {"pathology": "disc_herniation", "fsu": "L4-L5", "severity": "small", "series_uid": "1.2.3"}
ALIVE = timedelta(minutes=1)
COUNTED = frozenset({"figures for /metrics"})
"""What tells how many jobs there are: nobody waits for it but who scrapes."""
MORE_MS = 5.0
DONE = 60
CAP = 20_000
_AT_ONCE = 2_000


@dataclass(frozen=True)
class Place:
    """A ledger with jobs of five tenants, the first of whom has all but a few."""

    ledger: Ledger
    series: dict[str, str]
    key_id: str
    some_job: str

    @property
    def owner(self) -> CallerLedger:
        """As who has most of the queue sees it."""
        return CallerLedger(self.ledger, Caller(TENANTS[0], self.key_id, CAP))

    @property
    def other(self) -> CallerLedger:
        """As somebody with one or two jobs in it sees it."""
        return CallerLedger(self.ledger, Caller(TENANTS[-1]))


@contextmanager
def filled(database_url: str, jobs: int) -> Iterator[Place]:
    """A ledger in which `jobs` wait, some have been done, and a worker is there."""
    migrate(database_url)
    ledger = Ledger(database_url)
    try:
        series = {
            tenant: ledger.add_series(sha256="0" * 64, geometry={}, warnings=[], artifact_key=f"s/{tenant}/", tenant=tenant).id
            for tenant in TENANTS
        }
        _do_some(ledger, series[TENANTS[0]])
        for tenant in TENANTS[1:]:
            ledger.submit_batch([JobOrder(series[tenant], SPEC)], tenant=tenant)
        key, _secret = ledger.create_key("bench", tenant=TENANTS[0], max_queued_jobs=CAP)
        owner = CallerLedger(ledger, Caller(TENANTS[0], key.id, CAP))
        for left in range(jobs - len(TENANTS) + 1, 0, -_AT_ONCE):
            owner.submit_batch([JobOrder(series[TENANTS[0]], SPEC)] * min(left, _AT_ONCE))
        ledger.mark_announced([owed.id for owed in ledger.pending_announcements(limit=2 * MANY)])
        ledger.attend("worker", Memory(1 << 30))
        some_job = ledger.list_jobs(state=JobState.QUEUED, limit=1).jobs[0].id
        _analyse(ledger)
        yield Place(ledger, series, key.id, some_job)
    finally:
        ledger.close()


def _do_some(ledger: Ledger, series_id: str) -> None:
    for _ in range(DONE):
        job = ledger.submit_job(series_id, SPEC, tenant=TENANTS[0])
        claim = ledger.claim(job.id, "worker")
        assert claim is not None
        ledger.succeed(job.id, claim.token, {"timings_s": {"sample": 1.0}}, "results/")


def _analyse(ledger: Ledger) -> None:
    """What autovacuum does within a minute of a running deployment."""
    if ledger._engine.dialect.name == "postgresql":
        with ledger._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))


def cases(place: Place) -> dict[str, Case]:
    """What is asked of a ledger while jobs wait, by name."""
    ledger, owner, other = place.ledger, place.owner, place.other

    def release(claim: object) -> None:
        assert isinstance(claim, Claim)
        ledger.release(claim.job_id, claim.token)

    def forget(job: object) -> None:
        assert isinstance(job, Job)
        owner.cancel(job.id)
        ledger.delete_job(job.id)

    def submit() -> Job:
        return owner.submit_job(place.series[TENANTS[0]], SPEC, queue_cap=CAP)

    first = owner.list_jobs(limit=5)
    return {
        "list a page": Case(lambda: owner.list_jobs(limit=5)),
        "list the next page": Case(lambda: owner.list_jobs(limit=5, cursor=first.next_cursor)),
        "list the queued": Case(lambda: owner.list_jobs(state=JobState.QUEUED, limit=5)),
        "list the succeeded": Case(lambda: owner.list_jobs(state=JobState.SUCCEEDED, limit=5)),
        "list as another tenant": Case(lambda: other.list_jobs(limit=5)),
        "look a job up": Case(lambda: owner.get_job(place.some_job)),
        "submit, under a cap": Case(submit, forget),
        "whose turn it is": Case(ledger.next_turn),
        "claim": Case(lambda: ledger.claim_next("worker"), release),
        "Retry-After": Case(lambda: owner.queue(utc_now() - ALIVE)),
        "Retry-After, another tenant": Case(lambda: other.queue(utc_now() - ALIVE)),
        "figures for /metrics": Case(lambda: ledger.figures(utc_now() - ALIVE)),
        "reaper: stale jobs": Case(lambda: ledger.requeue_stale(utc_now(), ALIVE)),
        "reaper: depth of the queue": Case(lambda: ledger.queue_depth(most=MESSAGES_A_WORKER)),
        "reaper: the outbox": Case(ledger.pending_announcements),
    }


def measure(few_url: str, many_url: str, *, few: int = FEW, many: int = MANY, rounds: int = 100) -> list[Ratio]:
    """Medians of every case on two ledgers that are filled for it.

    SQLite works in this thread, so its CPU time is all that a call costs but the waits for the disk, which are the same on
    both sides; PostgreSQL works elsewhere, and there the time is by the clock on the wall.
    """
    clock = time.thread_time if few_url.startswith("sqlite") else time.perf_counter
    with filled(few_url, few) as small, filled(many_url, many) as large:
        little, much = cases(small), cases(large)
        return [compare(name, little[name], much[name], rounds, clock=clock) for name in little]


def slow(ratios: Sequence[Ratio], limit: float, more_ms: float) -> list[Ratio]:
    """Those that take too long with many: more than `limit` times as long, and where they count, `more_ms` longer too."""
    return [one for one in over(ratios, limit) if one.name not in COUNTED or one.large_ms - one.small_ms > more_ms]


def main(words: Sequence[str] | None = None) -> int:
    """Measure SQLite and PostgreSQL; 1 where a ratio is over the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=MANY)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--limit", type=float, default=LIMIT)
    parser.add_argument("--more-ms", type=float, default=MORE_MS)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), action="append")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(words)
    figures: dict[str, list[Ratio]] = {}
    for database in asked.database or ("sqlite", "postgresql"):
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="spinepaint-")))
            if database == "sqlite":
                urls = [f"sqlite:///{folder / name}.sqlite3" for name in ("few", "many")]
            else:
                urls = stack.enter_context(Servers(folder)).postgres("few", "many")
            figures[database] = measure(*urls, many=asked.jobs, rounds=asked.rounds)
        print(f"\n{database}: {FEW} and {asked.jobs} queued jobs, medians of {asked.rounds}\n")
        print(table(("call", "few_ms", "many_ms", "ratio"), _rows(figures[database])))
    late = {database: [one.name for one in slow(ratios, asked.limit, asked.more_ms)] for database, ratios in figures.items()}
    if asked.json:
        told = {"limit": asked.limit, "slow": late} | {database: _rows(ratios) for database, ratios in figures.items()}
        asked.json.write_text(json.dumps(told, indent=1) + "\n")
    for database, names in late.items():
        for name in names:
            print(f"fails: {name} takes too long with {asked.jobs} jobs ({database})", file=sys.stderr)
    return 1 if any(late.values()) else 0


def _rows(ratios: Sequence[Ratio]) -> list[dict[str, object]]:
    return [{"call": r.name, "few_ms": r.small_ms, "many_ms": r.large_ms, "ratio": r.ratio} for r in ratios]


if __name__ == "__main__":
    sys.exit(main())
