"""A migrated ledger for each test: SQLite, or the empty PostgreSQL database that SPINEPAINT_TEST_DATABASE_URL names."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from spinepaint.store import Ledger, Series, migrate
from spinepaint.store.database import open_engine


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
