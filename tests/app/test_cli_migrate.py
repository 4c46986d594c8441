"""`spinepaint migrate`, and what a command says where an extra of the package is not installed."""

import os
import sqlite3
import subprocess
import sys
import tomllib
from contextlib import closing
from importlib.metadata import distribution
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from spinepaint.app.cli.missing import MODULES, why_missing
from spinepaint.store.database import SCRIPTS
from tests.app.commands import PATIENCE_S, spinepaint

ROOT = Path(__file__).parents[2]


def history() -> list[str]:
    """The revisions, the newest first."""
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    return [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]


def tables(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def test_an_empty_database_is_not_ready_and_then_is(tmp_path: Path) -> None:
    check = spinepaint("migrate", "--check", "--data", tmp_path)
    assert check.returncode == 1
    assert f"schema none, this version needs {history()[0]}" in check.stderr
    assert "jobs" not in tables(tmp_path / "ledger.sqlite3")
    done = spinepaint("migrate", "--data", tmp_path)
    assert (done.returncode, done.stderr.strip()) == (0, f"schema none -> {history()[0]}")
    assert "jobs" in tables(tmp_path / "ledger.sqlite3")
    assert spinepaint("migrate", "--check", "--data", tmp_path).returncode == 0
    assert f"{history()[0]} -> {history()[0]}" in spinepaint("migrate", "--data", tmp_path).stderr


def test_each_step_back_and_forth(tmp_path: Path) -> None:
    spinepaint("migrate", "--data", tmp_path)
    whole = tables(tmp_path / "ledger.sqlite3")
    newest = history()[0]
    for revision in history()[1:]:
        assert spinepaint("migrate", "--to", revision, "--data", tmp_path).stderr.strip().endswith(f"-> {revision}")
        assert spinepaint("migrate", "--check", "--data", tmp_path).returncode == 1
    done = spinepaint("migrate", "--data", tmp_path)
    assert done.stderr.strip() == f"schema {history()[-1]} -> {newest}"
    assert tables(tmp_path / "ledger.sqlite3") == whole


def test_a_database_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    spinepaint("migrate", "--data", tmp_path)
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite3")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    for arguments in ([], ["--to", history()[-1]]):
        done = spinepaint("migrate", *arguments, "--data", tmp_path)
        assert done.returncode == 1
        assert "knows no schema 9999" in done.stderr
    assert spinepaint("migrate", "--check", "--data", tmp_path).returncode == 1
    assert "jobs" in tables(tmp_path / "ledger.sqlite3")


@pytest.mark.parametrize("revision", ["base", "nonsense", ""])
def test_a_revision_that_does_not_exist(tmp_path: Path, revision: str) -> None:
    spinepaint("migrate", "--data", tmp_path)
    done = spinepaint("migrate", "--to", revision, "--data", tmp_path)
    assert done.returncode == 1
    assert "knows no schema" in done.stderr
    assert "jobs" in tables(tmp_path / "ledger.sqlite3")


def test_a_database_that_does_not_answer_is_said_without_its_password(tmp_path: Path) -> None:
    url = "postgresql://someone:hunter2@127.0.0.1:1/spinepaint"
    done = spinepaint("migrate", "--check", "--data", tmp_path, SPINEPAINT_DATABASE_URL=url)
    assert done.returncode == 1
    assert "does not answer" in done.stderr
    assert "hunter2" not in done.stderr
    assert spinepaint("migrate", "--check", "--to", "0001").returncode == 2


def test_a_gateway_alone_needs_the_broker_of_its_workers(tmp_path: Path) -> None:
    done = spinepaint("serve", "--no-worker", "--data", tmp_path)
    assert done.returncode == 2
    assert "SPINEPAINT_BROKER_URL" in done.stderr


WITHOUT = """
import sys
class Gone:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Gone())
{program}
"""


def without(names: tuple[str, ...], program: str) -> subprocess.CompletedProcess[str]:
    """A Python in which these modules are not installed."""
    argv = [sys.executable, "-c", WITHOUT.format(names=set(names), program=program)]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=PATIENCE_S, env={**os.environ})


def command(*arguments: object) -> str:
    return (
        f"sys.argv = ['spinepaint', *{[str(argument) for argument in arguments]!r}]\nfrom spinepaint.app.cli import main\nmain()"
    )


def test_the_gateway_and_the_reader_need_no_package_of_the_worker() -> None:
    program = "import spinepaint.app.serve, spinepaint.app.reading_tasks, spinepaint.app.cli, spinepaint.store.revisions\n"
    program += "from spinepaint.imaging import reading"
    done = without(MODULES["worker"] + MODULES["train"], program)
    assert done.returncode == 0, done.stderr


def test_commands_name_the_extra_that_they_need(tmp_path: Path, series_files: list[Path]) -> None:
    environment = "import os; os.environ['SPINEPAINT_BROKER_URL'] = 'redis://127.0.0.1:1'\n"
    out = tmp_path / "out"
    edit = ["--fsu", "L4-L5", "--pathology", "disc_herniation", "--severity", "small", "--out", out]
    for arguments in (
        ["worker"],
        ["localise", series_files[0].parent],
        ["inpaint", series_files[0].parent, *edit],
        ["segment", series_files[0].parent, "--out", out],
    ):
        done = without(
            MODULES["worker"], environment + command(*arguments, *(["--data", tmp_path] if arguments == ["worker"] else []))
        )
        assert done.returncode == 1, arguments
        assert "pip install 'spinepaint[worker]'" in done.stderr
        assert "Traceback" not in done.stderr
    assert not out.exists()


def test_serving_with_a_worker_says_so_before_it_starts(tmp_path: Path) -> None:
    done = without((), "import spinepaint.app.cli.missing as missing\nmissing.MODULES['worker'] = ('no_such_module',)\n"
                       + command("serve", "--data", tmp_path / "data"))  # fmt: skip
    assert done.returncode == 1
    assert "a worker needs no_such_module" in done.stderr
    assert "--no-worker" in done.stderr
    assert not (tmp_path / "data").exists()


def test_what_is_imported_already_is_not_missing() -> None:
    # kombu puts a module without a spec in its own place.
    done = without((), "import kombu\nfrom spinepaint.app.cli.missing import why_no_worker\nassert why_no_worker() is None")
    assert done.returncode == 0, done.stderr


def test_a_module_of_no_extra_is_no_extra_s() -> None:
    assert why_missing(ModuleNotFoundError("No module named 'fastapi'", name="fastapi")) is None
    assert "spinepaint[train]" in str(why_missing(ModuleNotFoundError("No module named 'yaml'", name="yaml")))


@pytest.mark.parametrize("extra", ["worker", "train"])
def test_the_modules_are_those_of_the_packages_of_the_extra(extra: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {line.partition(">")[0].partition("[")[0] for line in project["optional-dependencies"][extra]}
    brought = set()
    for name in names:
        files = distribution(name).files or []
        brought |= {file.parts[0].removesuffix(".py") for file in files if file.suffix == ".py"}
    # kombu comes with Celery, and the worker imports it by itself.
    assert set(MODULES[extra]) - {"kombu"} <= brought
    for name in names:
        files = distribution(name).files or []
        assert {file.parts[0] for file in files} & set(MODULES[extra]), name
