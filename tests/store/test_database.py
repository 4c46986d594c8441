"""What a ledger's connections are opened with, and how long they wait."""

import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import TimeoutError as NoneFree

from spinepaint.store import Ledger, database
from spinepaint.store.database import CONNECTION, open_engine


class Seen(Exception):
    """Instead of a connection: what it would have been opened with."""


def opened_with(url: str) -> dict[str, Any]:
    engine = open_engine(url)

    def see(_dialect: Any, _record: Any, _args: Any, named: dict[str, Any]) -> None:
        raise Seen(named)

    event.listen(engine, "do_connect", see)
    with pytest.raises(Seen) as seen:
        engine.connect()
    return dict(seen.value.args[0])


def test_a_connection_has_limits_and_what_the_url_says_of_them_goes_first() -> None:
    named = opened_with("postgresql://u@127.0.0.1/ledger")
    assert {name: named[name] for name in CONNECTION} == CONNECTION
    assert CONNECTION["connect_timeout"] == 5
    assert CONNECTION["tcp_user_timeout"] == 15_000
    said = opened_with("postgresql://u@127.0.0.1/ledger?connect_timeout=60&keepalives_idle=7&sslmode=require")
    assert {name: said[name] for name in ("connect_timeout", "keepalives_idle", "sslmode")} == {
        "connect_timeout": "60",
        "keepalives_idle": "7",
        "sslmode": "require",
    }
    assert said["tcp_user_timeout"] == 15_000


def test_libpq_knows_the_limits(postgres: Ledger) -> None:
    with postgres.read() as session:
        connection: Any = session.connection().connection.dbapi_connection
        assert connection is not None
        parameters = connection.info.get_parameters()
    assert {name: parameters[name] for name in CONNECTION} == {name: str(limit) for name, limit in CONNECTION.items()}


def test_a_thread_waits_for_a_free_connection_no_longer_than_it_may(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert database.POOL_TIMEOUT_S == 10.0
    monkeypatch.setattr(database, "POOL_TIMEOUT_S", 0.1)
    engine = open_engine(postgres_url)
    held = [engine.connect() for _ in range(15)]
    began = time.monotonic()
    with pytest.raises(NoneFree):
        engine.connect()
    assert time.monotonic() - began < 10.0  # SQLAlchemy's own patience is 30 s
    for connection in held:
        connection.close()
    engine.dispose()


def test_sqlite_is_given_none_of_them(tmp_path: Path) -> None:
    named = opened_with(f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
    assert not set(named) & set(CONNECTION)


def test_nothing_stays_prepared_on_a_connection_that_a_pooler_may_give_to_another(postgres: Ledger) -> None:
    for _ in range(20):  # psycopg prepares by itself what came five times
        postgres.list_jobs(limit=5)
    with postgres.read() as session:
        assert session.scalar(text("SELECT count(*) FROM pg_prepared_statements")) == 0
