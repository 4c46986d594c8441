"""A ledger of the first version, with a row in every table, goes through the whole history and works on, and back."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Engine, MetaData, func, select

from spinepaint.store import JobState, Ledger
from spinepaint.store.database import open_engine, utc_now
from spinepaint.store.revisions import migrate_to, schema_state

BEGAN = datetime(2026, 3, 1, 12, 0, 0, 1, UTC)
SPEC = {"fsu": "L4-L5", "pathology": "disc_herniation", "series_uid": "1.2.3", "nested": {"µ": [1, None]}}
FIRST = "0001"


def _job(name: str, state: str, **more: Any) -> dict[str, Any]:
    job = {"id": name, "tenant": "t", "batch_index": 0, "spec": SPEC, "state": state, "progress": 0.0, "attempts": 0}
    return job | {"max_attempts": 3, "created_at": BEGAN, "last_event": 1, "series_id": "s"} | more


def _rows() -> dict[str, list[dict[str, Any]]]:
    """By table, in an order in which they can be inserted."""
    running = {"attempts": 1, "attempt_token": "a", "worker": "w", "started_at": BEGAN, "heartbeat_at": BEGAN}
    ended = {"started_at": BEGAN, "finished_at": BEGAN + timedelta(minutes=1), "attempts": 1}
    jobs = [
        _job("q", "queued", idempotency_key="k", fingerprint="f"),
        _job("r", "running", batch_id="b", **running),
        _job("d", "succeeded", batch_id="b", batch_index=1, report={"spec": SPEC}, result_key="results/d/x/", **ended),
        _job("f", "failed", callback_url="https://example.org/", problem={"type": "x", "status": 500}, **ended),
    ]
    return {
        "series": [
            {"id": "s", "tenant": "t", "sha256": "0" * 64, "geometry": {"shape": [1, 2, 3]}, "warnings": ["w"]}
            | {"artifact_key": "sources/s/", "created_at": BEGAN}
        ],
        "batches": [{"id": "b", "tenant": "t", "idempotency_key": "bk", "fingerprint": "bf", "created_at": BEGAN}],
        "keys": [{"id": "k", "name": "old", "digest": "d", "created_at": BEGAN}],
        "discards": [{"prefix": "results/old/", "due_at": BEGAN}],
        "jobs": jobs,
        "deliveries": [
            {"id": "w", "job_id": "f", "url": "https://example.org/", "state": "owed", "attempts": 0}
            | {"created_at": BEGAN, "due_at": BEGAN}
        ],
        "events": [{"job_id": job["id"], "seq": 1, "at": BEGAN, "type": "state", "data": {"state": "queued"}} for job in jobs],
        "outbox": [{"job_id": "q", "created_at": BEGAN, "due_at": BEGAN}],
    }


def _on_tables(engine: Engine, act: Callable[[Any, MetaData], Any]) -> Any:
    with engine.begin() as connection:
        tables = MetaData()
        tables.reflect(connection)
        return act(connection, tables)


def _fill(connection: Any, tables: MetaData) -> None:
    for name, rows in _rows().items():
        for row in rows:
            connection.execute(tables.tables[name].insert(), row)


def _counts(connection: Any, tables: MetaData) -> dict[str, int]:
    return {name: connection.scalar(select(func.count()).select_from(tables.tables[name])) for name in _rows()}


def test_a_ledger_of_the_first_version_works_on_and_goes_back(database_url: str) -> None:
    engine = open_engine(database_url)
    migrate_to(database_url, FIRST)
    _on_tables(engine, _fill)
    filled = {name: len(rows) for name, rows in _rows().items()}
    assert _on_tables(engine, _counts) == filled
    migrate_to(database_url)
    assert schema_state(database_url).ready
    assert _on_tables(engine, _counts) == filled
    migrate_to(database_url, FIRST)
    assert _on_tables(engine, _counts) == filled
    migrate_to(database_url)
    _works(database_url)
    engine.dispose()


def _works(database_url: str) -> None:
    ledger = Ledger(database_url)
    try:
        assert ledger.submit_job("s", SPEC, "k", "f", tenant="t").id == "q"
        claim = ledger.claim_next("w2")
        assert claim is not None and (claim.job_id, claim.spec, claim.trace_parent) == ("q", SPEC, None)
        assert [lost.job_id for lost in ledger.requeue_stale(utc_now(), timedelta(minutes=1))] == ["r"]
        done = ledger.get_job("d")
        assert done is not None and (done.report, done.created_at, done.key_id) == ({"spec": SPEC}, BEGAN, None)
        assert [webhook.job_id for webhook in ledger.due_webhooks(utc_now())] == ["f"]
        assert ledger.due_receivers(utc_now()) == ["example.org:443"]
        assert {job.id for job in ledger.list_jobs(series_uid="1.2.3").jobs} == {"q", "r", "d", "f"}
        assert ledger.batch_counts(["b"])["b"][JobState.SUCCEEDED] == 1
        assert [event.seq for event in ledger.events("d")] == [1]
        assert "results/old/" in ledger.take_discards(utc_now(), timedelta(minutes=1))
        assert not ledger.has_keys() and ledger.had_keys()  # keys of then have no id in them
        assert ledger.purge_jobs(utc_now()) == 0  # one is owed a webhook, and a batch has not ended
        ledger.delete_job("d", tenant="t")
        assert ledger.events("d") == []
    finally:
        ledger.close()
