"""What is asked often of a ledger that has kept millions of jobs finds its rows by an index, and does not read them all."""

from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from spinepaint.store import Ledger, migrate
from spinepaint.store.callers import Caller
from spinepaint.store.database import utc_now
from spinepaint.store.tenancy import CallerLedger

NOW = utc_now()
Ask = Callable[[Ledger], Any]


def plan(folder: Path, ask: Ask) -> list[str]:
    """How SQLite goes about each of the statements with which a ledger asks, a line a step."""
    url = f"sqlite:///{folder / 'ledger.sqlite3'}"
    migrate(url)
    asked: list[tuple[str, Any]] = []
    with closing(Ledger(url)) as ledger:
        event.listen(ledger._engine, "before_cursor_execute", lambda _c, _cursor, sql, values, *_: asked.append((sql, values)))
        ask(ledger)
        statements = [(sql, values) for sql, values in asked if sql.lstrip().startswith(("SELECT", "WITH", "DELETE"))]
        with ledger.read() as session:
            connection = session.connection()
            steps = [row for sql, values in statements for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values)]
    return [str(row[3]) for row in steps]


@pytest.mark.parametrize(
    ("ask", "by"),
    [
        (lambda ledger: ledger.list_jobs(series_uid="1.2"), ["ix_jobs_series_uid", "ix_dicom_series_series_uid"]),
        (lambda ledger: ledger.list_batches(), ["ix_batches_tenant_created_at"]),
    ],
    ids=["jobs of a series", "batches"],
)
def test_lists(tmp_path: Path, ask: Ask, by: list[str]) -> None:
    steps = plan(tmp_path, lambda ledger: ask(CallerLedger(ledger, Caller("a"))))
    assert all(any(index in step for step in steps) for index in by), steps
    assert not [step for step in steps if step.startswith("SCAN ") and "(" not in step], steps


@pytest.mark.parametrize(
    ("ask", "table", "by"),
    [
        (lambda ledger: ledger.purge_series(NOW), "series", "SEARCH series USING INDEX ix_series_created_at"),
        (lambda ledger: ledger.purge_jobs(NOW), "batches", "SEARCH batches USING INDEX ix_batches_created_at"),
        (lambda ledger: ledger.figures(NOW), "deliveries", "SCAN deliveries USING COVERING INDEX"),
        (lambda ledger: ledger.due_receivers(NOW), "deliveries", "SEARCH deliveries USING"),
        (lambda ledger: ledger.due_receivers(NOW, "a"), "deliveries", "SEARCH deliveries USING"),
        (lambda ledger: ledger.due_webhooks(NOW, "a"), "deliveries", "SEARCH deliveries USING INDEX"),
        (lambda ledger: ledger.take_discards(NOW, timedelta(0)), "discards", "SEARCH discards USING INDEX ix_discards_take_at"),
        (lambda ledger: ledger.prune_announcements(NOW), "outbox", "SEARCH outbox USING COVERING INDEX"),
    ],
    ids=["old series", "old batches", "figures", "receivers", "more receivers", "webhooks", "deletions", "messages"],
)
def test_what_is_looked_for_again_and_again(tmp_path: Path, ask: Ask, table: str, by: str) -> None:
    steps = plan(tmp_path, ask)
    on_table = [step for step in steps if f" {table} " in f"{step} "]
    assert on_table and all(step.startswith(by) for step in on_table), steps
    assert "USE TEMP B-TREE FOR ORDER BY" not in steps
