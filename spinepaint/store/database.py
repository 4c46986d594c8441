"""Engine, sessions and migration: one code for SQLite and PostgreSQL."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry

from spinepaint.store.clock import clock

SCRIPTS = Path(__file__).resolve().parent.parent / "alembic"
BUSY_TIMEOUT_MS = 15_000
SCRUB_TIMEOUT_MS = 200
CONNECTION = {
    "connect_timeout": 5,
    "tcp_user_timeout": 15_000,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}
"""Limits of libpq in seconds, of `tcp_user_timeout` in ms: without them a thread waits for a machine that has gone until the
kernel gives up, a quarter of an hour later where something was sent and never where nothing was."""
POOL_TIMEOUT_S = 10.0
"""How long a thread waits for a connection where all are in use."""
MIGRATION_LOCK = 0x5350494E45  # any constant that no other program's advisory lock uses


def utc_now() -> datetime:
    """The present by the clock that the ledger's users share, timezone-aware."""
    return clock.now()


def _resolve(database_url: str) -> URL:
    url = make_url(database_url)
    if url.drivername in ("postgresql", "postgres"):
        url = url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() == "sqlite":
        if not url.database or url.database == ":memory:":
            raise ValueError("the ledger is shared between processes, so it needs a file, not memory")
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    return url


def _prepare_sqlite(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    # The driver's own BEGIN is deferred: a read that turns into a write then fails at once with
    # "database is locked" whatever the timeout. So it is switched off, and `_begin_sqlite` begins.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA secure_delete=ON")  # what is deleted names patients: it must not stay readable in the file
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    reading = connection.get_execution_options().get("reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def _agree_on_time(connection: Connection) -> None:
    if clock.is_due():
        clock.agree(connection.exec_driver_sql("SELECT clock_timestamp()").scalar_one())


def open_engine(database_url: str) -> Engine:
    """An engine for a SQLite file or PostgreSQL.

    SQLite runs in WAL mode with foreign keys on; each writing transaction takes the write lock when it
    begins and waits up to 15 s for it. A connection to PostgreSQL has the limits of `CONNECTION` of which the URL says nothing.
    Raises ValueError for a SQLite database in memory.
    """
    url = _resolve(database_url)
    options: dict[str, Any] = {}
    if url.get_backend_name() == "postgresql":
        limits = {name: limit for name, limit in CONNECTION.items() if name not in url.query}
        # Nothing is prepared on a connection: behind a pool that gives each transaction another one, as PgBouncer does, what was
        # prepared on one would be missing on the next.
        arguments = limits | {"prepare_threshold": None}
        options = {"pool_pre_ping": True, "pool_timeout": POOL_TIMEOUT_S, "connect_args": arguments}
    # Parameters are hidden because an error's text reaches a log, and they hold reports.
    engine = create_engine(url, pool_recycle=1800, hide_parameters=True, **options)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    else:
        event.listen(engine, "begin", _agree_on_time)
    return engine


def migrate(database_url: str) -> None:
    """Bring the database to the newest schema; processes that start together wait for one another."""
    # Imported here: a gateway migrates in another process and need not hold 11 MB of Alembic for ever.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    engine = open_engine(database_url)
    try:
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    finally:
        engine.dispose()


class Database:
    """Sessions over one engine: one session a call, committed at its edge.

    Safe to share between threads; not to be carried over a fork.
    """

    tenant = ""
    """Whose rows are written where a call does not say it."""

    def __init__(self, database_url: str, *, attempt_limit_s: float = 3600.0) -> None:
        """`attempt_limit_s`: after how many seconds no attempt can still be running; lost files are kept that long."""
        self.attempt_limit = timedelta(seconds=attempt_limit_s)
        self._engine = open_engine(database_url)
        self._writing = sessionmaker(self._engine, expire_on_commit=False)
        self._reading = sessionmaker(self._engine.execution_options(reading=True), expire_on_commit=False)

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session whose transaction commits when the block ends and rolls back when it raises."""
        with self._writing.begin() as session:
            yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that sees one state of the database and takes no write lock; its rows stay usable after it."""
        with self._reading() as session:
            yield session

    def now(self) -> datetime:
        """The present by the database's clock, for those who ask what is due: also a process that has just begun has to know it.

        Raises sqlalchemy.exc.SQLAlchemyError where the database has to be asked, and does not answer.
        """
        if self._engine.dialect.name == "postgresql" and clock.is_due():
            self.ping()
        return utc_now()

    def scrub(self) -> None:
        """Take what was just deleted out of SQLite's write-ahead log too, unless somebody reads at this moment.

        What cannot be taken out now goes with the next deletion or checkpoint. PostgreSQL's vacuum does that by itself.
        """
        if self._engine.dialect.name != "sqlite":
            return
        connection = self._engine.raw_connection()
        cursor = connection.cursor()
        try:
            cursor.execute(f"PRAGMA busy_timeout={SCRUB_TIMEOUT_MS}")
            with suppress(sqlite3.Error):
                cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
            cursor.close()
            connection.close()

    def ping(self) -> None:
        """Raise sqlalchemy.exc.SQLAlchemyError where the database does not answer."""
        with self.read() as session:
            session.execute(text("SELECT 1"))

    def close(self) -> None:
        """Give back every connection."""
        self._engine.dispose()
