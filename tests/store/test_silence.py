"""Who is silent, asked on PostgreSQL of rows that somebody holds and of a server that only answers readers."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from spinepaint.store import Job, Ledger, migrate
from spinepaint.store.figures import Memory
from spinepaint.store.signal_models import Worker

MINUTE = timedelta(minutes=1)


@pytest.fixture
def tokens(postgres: Ledger) -> list[str]:
    """Of two attempts that run."""
    series = postgres.add_series(sha256="0" * 64, geometry={}, warnings=[], artifact_key="sources/a/")
    claims = [postgres.claim(postgres.submit_job(series.id, {}).id, "w") for _ in range(2)]
    return [claim.token for claim in claims if claim is not None]


@pytest.fixture
def standby(postgres_url: str) -> Iterator[Ledger]:
    """The same ledger by a connection that may not write."""
    ledger = Ledger(f"{postgres_url}&options=-c%20default_transaction_read_only%3Don")
    yield ledger
    ledger.close()


def test_an_attempt_stuck_in_the_middle_of_a_statement_holds_nobody_up(postgres: Ledger, tokens: list[str]) -> None:
    later = postgres.now() + 2 * MINUTE
    assert sorted(postgres.silent_attempts(later, MINUTE)) == sorted(tokens)
    with postgres.write() as stuck:
        stuck.scalar(select(Job).where(Job.attempt_token == tokens[0]).with_for_update())
        assert postgres.silent_attempts(later, MINUTE) == tokens[1:]
        lost = postgres.requeue_stale(later, MINUTE, tokens[1:])
    assert [attempt.token for attempt in lost] == tokens[1:]


def test_of_a_file_that_cannot_be_written_nobody_is_said_to_be_silent(tmp_path: Path) -> None:
    """SQLite gives whoever asks its lock for writing on a full disk, too; only to write says what is the matter."""
    url = f"sqlite:///{tmp_path / 'ledger.sqlite3'}"
    migrate(url)
    ledger = Ledger(url)
    series = ledger.add_series(sha256="0" * 64, geometry={}, warnings=[], artifact_key="sources/a/")
    claim = ledger.claim(ledger.submit_job(series.id, {}).id, "w")
    ledger.attend("w", Memory(1))
    later = ledger.now() + 2 * MINUTE
    assert claim is not None and ledger.silent_attempts(later, MINUTE) == [claim.token]
    with ledger.write() as session:
        for table in ("workers", "jobs"):
            refuse = f"BEFORE UPDATE ON {table} BEGIN SELECT RAISE(FAIL, 'disk is full'); END"
            session.execute(text(f"CREATE TRIGGER full_{table} {refuse}"))
    with pytest.raises(DBAPIError):
        ledger.seen_at("w")
    with pytest.raises(DBAPIError):
        ledger.silent_attempts(later, MINUTE)
    ledger.close()


def test_when_a_worker_was_seen_is_said_though_it_is_stuck_saying_so(postgres: Ledger) -> None:
    assert postgres.seen_at("w") is None
    postgres.attend("w", Memory(1))
    seen_at = postgres.seen_at("w")
    assert seen_at is not None
    with postgres.write() as stuck:
        stuck.scalar(select(Worker).where(Worker.name == "w").with_for_update())
        assert postgres.seen_at("w") == seen_at
    postgres.attend("w", Memory(1))
    again = postgres.seen_at("w")
    assert again is not None and again > seen_at


def test_of_a_ledger_that_only_answers_readers_nobody_is_said_to_be_silent(
    postgres: Ledger, standby: Ledger, tokens: list[str]
) -> None:
    postgres.attend("w", Memory(1))
    assert standby.count_workers(standby.now() - MINUTE) == 1
    with pytest.raises(DBAPIError, match="read-only"):
        standby.seen_at("w")
    with pytest.raises(DBAPIError, match="read-only"):
        standby.silent_attempts(standby.now() + 2 * MINUTE, MINUTE)
