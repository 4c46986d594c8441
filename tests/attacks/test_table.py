"""docs/14-attacks.md is true: every test, setting, default and CVE in it is there."""

import ast
import re
from pathlib import Path

from spinepaint.settings import Settings
from tests.attacks.test_versions import MENDED

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "14-attacks.md").read_text()
LISTED = {"CVE-2026-32711", "CVE-2026-56445", "CVE-2026-42561", "CVE-2025-32434"} | {f"CVE-2026-{n}" for n in range(5437, 5446)}


def names_in(path: Path) -> set[str]:
    """The names of the tests of a file."""
    return {
        node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_every_named_test_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", DOCUMENT)
    assert len(named) > 60
    missing = {f"{path}::{name}" for path, name in named if not (ROOT / path).is_file() or name not in names_in(ROOT / path)}
    assert missing == set()
    assert len(re.findall(r"tests/[\w/]+\.py::", DOCUMENT)) == len(named)


def test_every_test_of_this_folder_is_named() -> None:
    found = {(path.name, name) for path in Path(__file__).parent.glob("test_*.py") for name in names_in(path)}
    tests = {(path, name) for path, name in found if name.startswith("test_") and path != "test_table.py"}
    named = set(re.findall(r"`tests/attacks/([\w/]+\.py)::(\w+)`", DOCUMENT))
    assert len(named & tests) > 30
    assert named <= tests


def test_every_row_has_an_answer_and_a_test() -> None:
    rows = [line.split(" | ") for line in DOCUMENT.splitlines() if line.startswith("| ") and "tests/" in line]
    assert len(rows) > 35
    for row in rows:
        assert len(row) == 3 and all(cell.strip(" |") for cell in row), row


def test_every_cve_that_was_to_be_looked_at_is_there() -> None:
    told = set(re.findall(r"CVE-\d{4}-\d+", DOCUMENT))
    assert told >= LISTED
    assert set(MENDED) <= told


def test_every_cap_is_a_setting_with_the_default_that_is_told() -> None:
    fields = Settings.model_fields
    caps = {name: getattr(Settings().caps, name) for name in vars(Settings().caps)}
    rows = [line.strip("| ").split(" | ") for line in DOCUMENT.splitlines() if line.startswith("| `SPINEPAINT_")]
    assert len(rows) == 11
    for names, defaults, _what in rows:
        settings = [name.lower() for name in re.findall(r"`SPINEPAINT_(\w+)`", names)]
        amounts = [_amount(text) for text in defaults.split(", ")]
        found = [caps[n.removeprefix("caps__")] if n.startswith("caps__") else fields[n].default for n in settings]
        assert found == amounts, names


def _amount(text: str) -> float:
    number, _, unit = text.partition(" ")
    factor = {"": 1, "s": 1, "KiB": 2**10, "MiB": 2**20, "Mi": 2**20, "GiB": 2**30}[unit]
    return float(number.replace(",", "")) * factor
