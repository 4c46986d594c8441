"""docs/10-runbook.md, Restore: its own lines, over a newer schema, and over a bucket's volume that holds something else."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import psycopg
import pytest

from tests.docker.described import ROOT
from tests.docker.parts import Parts
from tests.docker.recovery import database_restored, dumped, on_the_bucket_s_volume

OLD = "0001"
DISCARD = "INSERT INTO discards (prefix, due_at) VALUES ('old', now())"
KEPT = "SELECT prefix FROM discards"
SCHEMA = "SELECT string_agg(relname, ',' ORDER BY relname) FROM pg_class WHERE relnamespace = 'public'::regnamespace"


@pytest.fixture
def parts() -> Iterator[Parts]:
    """PostgreSQL with a database of an older version, in which something stands."""
    with ExitStack() as stack:
        # Not below pytest's folder, which only its user may enter: PostgreSQL has a user of its own.
        parts = Parts(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="spinepaint-"))), stack)
        parts.start_postgres()
        done = parts.once("migrate", "migrate", "--to", OLD)
        assert done.returncode == 0, done.stderr
        ask(parts, DISCARD)
        yield parts


def ask(parts: Parts, statement: str, database: str = "spinepaint") -> str:
    done = parts.tool("psql", f"--dbname={database}", "--tuples-only", "--no-align", f"--command={statement}")
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().strip()


def test_an_old_dump_is_restored_over_a_newer_schema(parts: Parts) -> None:
    dump = dumped(parts)
    assert parts.once("migrate", "migrate").returncode == 0
    schema = ask(parts, SCHEMA)
    ask(parts, "DELETE FROM discards")
    # A dump that breaks off costs nothing: what is there stays until another has been read whole.
    assert not database_restored(parts, dump[: len(dump) // 2])
    assert ask(parts, KEPT) == ""
    password = (parts.secrets / "postgres_password").read_text()
    login = {"host": str(parts.folder / "postgres"), "user": "spinepaint", "password": password, "dbname": "spinepaint"}
    with closing(psycopg.connect(**login)):  # somebody who was not stopped is in nobody's way
        assert database_restored(parts, dump)
    assert ask(parts, KEPT) == "old"
    assert ask(parts, SCHEMA) == schema
    assert parts.once("migrate", "migrate", "--check").returncode == 0
    assert ask(parts, "SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY 1", "postgres") == "postgres\nspinepaint"


def test_a_bucket_s_volume_holds_its_copy_and_nothing_else(tmp_path: Path) -> None:
    data, backup = tmp_path / "volume", tmp_path / "copies"
    (data / "filerldb2").mkdir(parents=True)
    backup.mkdir()
    (data / "filerldb2" / "000001.log").write_text(5000 * "then")
    assert on_the_bucket_s_volume("Back up", data, backup)
    (data / "filerldb2" / "000002.log").write_text("since")
    (data / ".hidden").mkdir()
    assert on_the_bucket_s_volume("Restore", data, backup)
    assert [str(path.relative_to(data)) for path in sorted(data.rglob("*"))] == ["filerldb2", "filerldb2/000001.log"]
    copy = (backup / "objects.tar").read_bytes()
    (backup / "objects.tar").write_bytes(copy[: len(copy) // 2])
    assert not on_the_bucket_s_volume("Restore", data, backup)  # a copy that breaks off
    assert (data / "filerldb2" / "000001.log").read_text() == 5000 * "then"


def test_a_step_that_fails_ends_the_steps_also_where_all_are_pasted_at_once() -> None:
    text = (ROOT / "docs" / "10-runbook.md").read_text()
    block = next(block for block in text.split("```\n") if "pg_restore" in block)
    *chained, last = [line.split("  #")[0].strip() for line in block.splitlines()]
    assert all(line.endswith(" &&") for line in chained)
    assert last == "docker compose run --rm migrate"
