import json
import multiprocessing
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session

from spinepaint.store import Delivery, DicomSeries, Ledger, Priority, migrate
from spinepaint.store.database import SCRIPTS, open_engine
from spinepaint.store.models import Base


def test_the_migrations_make_the_tables_of_the_models(database_url: str) -> None:
    migrate(database_url)
    engine = open_engine(database_url)
    with engine.begin() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []
    engine.dispose()


def test_migrating_again_changes_nothing(database_url: str) -> None:
    migrate(database_url)
    migrate(database_url)
    engine = open_engine(database_url)
    with engine.begin() as connection:
        assert connection.scalar(text("SELECT count(*) FROM alembic_version")) == 1
    engine.dispose()


def test_names_that_were_kept_before_are_found_by_every_group(database_url: str) -> None:
    engine = open_engine(database_url)
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    attributes = {"00100010": {"vr": "PN", "Value": [{"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎"}]}}
    old = "INSERT INTO dicom_series (id, tenant, study_uid, series_uid, digest, instances, attributes, created_at)"
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
        values = {"attributes": json.dumps(attributes), "at": "2026-01-01 00:00:00.000000"}
        connection.execute(text(f"{old} VALUES (1, '', '1.2', '1.2.1', 'd', 1, :attributes, :at)"), values)
        instance = "(series, sop_instance_uid, sop_class_uid, transfer_syntax_uid, artifact_key, size, attributes, layout)"
        connection.execute(text(f"INSERT INTO dicom_instances {instance} VALUES (1, '1.2.1.1', '', '', '', 1, '{{}}', '{{}}')"))
    migrate(database_url)
    with Session(engine) as session:
        (row,) = session.scalars(select(DicomSeries))
        assert (row.patient_name_ideographic, row.patient_name_phonetic, row.stored_at.year) == ("山田^太郎", None, 2026)
        assert session.scalar(text("SELECT count(*) FROM dicom_instances")) == 1
    engine.dispose()


def test_processes_that_start_together_migrate_once(database_url: str) -> None:
    spawn = multiprocessing.get_context("spawn")
    starters = [spawn.Process(target=migrate, args=(database_url,)) for _ in range(3)]
    for starter in starters:
        starter.start()
    for starter in starters:
        starter.join(120)
    assert [starter.exitcode for starter in starters] == [0, 0, 0]


def test_the_scripts_travel_with_the_package() -> None:
    assert SCRIPTS.parent.name == "spinepaint"
    assert list((SCRIPTS / "versions").glob("0001_*.py"))


def test_sqlite_waits_for_other_writers_and_keeps_references(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'new folder' / 'ledger.sqlite3'}")
    with engine.begin() as connection:
        assert connection.scalar(text("PRAGMA journal_mode")) == "wal"
        assert connection.scalar(text("PRAGMA foreign_keys")) == 1
        assert connection.scalar(text("PRAGMA busy_timeout")) == 15_000
    engine.dispose()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_database_in_memory_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="shared between processes"):
        open_engine(url)


def test_signals_of_operation_come_and_go_and_leave_debts_alone(database_url: str) -> None:
    engine = open_engine(database_url)
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    job = "INSERT INTO jobs (id, tenant, batch_index, spec, state, progress, attempts, max_attempts, created_at, last_event)"
    owed = "INSERT INTO deliveries (id, job_id, url, state, attempts, created_at)"
    at = {"at": "2026-01-01 00:00:00.000000"}
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0003")
        connection.execute(text(f"{job} VALUES ('j', '', 0, '{{}}', 'failed', 0, 1, 1, :at, 1)"), at)
        connection.execute(text(f"{owed} VALUES ('d', 'j', 'https://example.org', 'owed', 2, :at)"), at)
    migrate(database_url)
    with Session(engine) as session:
        (delivery,) = session.scalars(select(Delivery))
        assert (delivery.id, delivery.attempts, delivery.problem) == ("d", 2, None)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0003")
        assert connection.scalar(text("SELECT attempts FROM deliveries")) == 2
    migrate(database_url)
    engine.dispose()


def test_jobs_of_before_priorities_keep_their_order_and_what_refers_to_them(database_url: str) -> None:
    engine = open_engine(database_url)
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    job = "INSERT INTO jobs (id, tenant, batch_index, spec, state, progress, attempts, max_attempts, created_at, last_event)"
    event = "INSERT INTO events (job_id, seq, at, type, data) VALUES ('early', 1, :at, 'state', '{}')"
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0006")
        for name, at in (("late", "2026-03-01 12:00:00.000002"), ("early", "2026-03-01 12:00:00.000001")):
            values = f"('{name}', '', 0, '{{}}', 'queued', 0, 0, 3, :at, 1)"
            connection.execute(text(f"{job} VALUES {values}"), {"at": f"{at}{_utc(engine)}"})
        connection.execute(text(event), {"at": f"2026-03-01 12:00:00.000001{_utc(engine)}"})
    migrate(database_url)
    ledger = Ledger(database_url)
    try:
        assert ledger.next_turn() == "early"
        early = ledger.get_job("early")
        assert early is not None and early.priority == Priority.NORMAL
        assert early.queue_rank == pytest.approx(early.created_at.timestamp(), abs=1e-6)
        assert [row.seq for row in ledger.events("early")] == [1]
    finally:
        ledger.close()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0006")
        assert connection.scalar(text("SELECT count(*) FROM jobs")) == 2
        assert connection.scalar(text("SELECT count(*) FROM events")) == 1
    migrate(database_url)
    engine.dispose()


def _utc(engine: Engine) -> str:
    """What a time ends with where a database takes the session's zone for one that names none."""
    return "" if engine.dialect.name == "sqlite" else "+00"
