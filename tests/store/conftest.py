"""A migrated ledger for each test: SQLite, or the empty PostgreSQL database that SPINEPAINT_TEST_DATABASE_URL names.

And a PostgreSQL of the tests' own, for what only shows where several write at a time.
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from spinepaint.store import Ledger, Series, migrate
from spinepaint.store.database import open_engine
from spinepaint.store.models import Base
from tests.chaos.servers import Postgres


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    url = os.environ.get("SPINEPAINT_TEST_DATABASE_URL")
    if not url:
        return f"sqlite:///{tmp_path / 'ledger.sqlite3'}"
    engine = open_engine(url)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    return url


@pytest.fixture
def ledger(database_url: str) -> Iterator[Ledger]:
    migrate(database_url)
    ledger = Ledger(database_url)
    yield ledger
    ledger.close()


@pytest.fixture
def series(ledger: Ledger) -> Series:
    return ledger.add_series(sha256="0" * 64, geometry={"shape": [17, 4, 4]}, warnings=[], artifact_key="sources/a/")


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="spinepaint-store-") as name:
        Path(name).chmod(0o755)  # as root the server runs as another user
        postgres = Postgres(Path(name) / "postgres")
        migrate(postgres.url)
        yield postgres.url
        postgres.close()


@pytest.fixture
def postgres(postgres_url: str) -> Iterator[Ledger]:
    """An empty ledger on PostgreSQL."""
    ledger = Ledger(postgres_url)
    with ledger.write() as session:
        for table in reversed(Base.metadata.sorted_tables):
            session.execute(table.delete())
    yield ledger
    ledger.close()
