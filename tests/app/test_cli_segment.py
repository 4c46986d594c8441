"""`spinepaint segment`: what it prints, and what it will not do."""

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from spinepaint.app.cli import app

REPORT = {"structures": {"L4": {"volume_ml": 31.5, "mean_uncertainty": 0.02}}, "warnings": ["look twice"]}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The arguments that the command hands on, to a stand-in without torch."""
    given: dict[str, Any] = {}

    def segment_series(source: Path, out: Path, spec: object, **options: Any) -> dict[str, Any]:
        given.update(options, source=source, out=out, spec=vars(spec))
        options["progress"]("segment", 0.5)
        return REPORT

    module = ModuleType("spinepaint.worker.segment")
    module.segment_series, module.SegmentSpec = segment_series, SimpleNamespace  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "spinepaint.worker.segment", module)
    monkeypatch.setattr("spinepaint.app.checking.survive_reading", lambda *_, **__: None)
    return given


def test_the_options_reach_the_worker(asked: dict[str, Any], series_files: list[Path], tmp_path: Path) -> None:
    arguments = ["segment", str(series_files[0].parent), "--out", str(tmp_path / "out"), "--steps", "30", "--samples", "4"]
    done = CliRunner().invoke(app, [*arguments, "--seed", "5", "--json"])
    assert done.exit_code == 0
    assert json.loads(done.stdout) == REPORT
    assert asked["spec"] == {"diffusion": True, "steps": 30, "samples": 4, "seed": 5}
    shown = CliRunner().invoke(app, [*arguments, "--plain"])
    assert "L4" in shown.stdout and "31.50 ml" in shown.stdout and "look twice" in shown.stderr
    assert asked["spec"]["diffusion"] is False


@pytest.mark.usefixtures("asked")
def test_results_go_to_a_folder_of_their_own(series_files: list[Path], tmp_path: Path) -> None:
    source = series_files[0].parent
    inside = CliRunner().invoke(app, ["segment", str(source), "--out", str(source / "out")])
    assert inside.exit_code == 2 and "SERIES" in inside.stderr
    (tmp_path / "kept").write_text("mine")
    taken = CliRunner().invoke(app, ["segment", str(source), "--out", str(tmp_path)])
    assert taken.exit_code == 2 and "not empty" in taken.stderr


@pytest.mark.parametrize("wrong", [("--seed", "-1"), ("--steps", "1001"), ("--samples", "0"), ("--bundle", "")])
def test_what_cannot_be_done_is_refused_before_anything_is_read(
    wrong: tuple[str, str], asked: dict[str, Any], series_files: list[Path], tmp_path: Path
) -> None:
    done = CliRunner().invoke(app, ["segment", str(series_files[0].parent), "--out", str(tmp_path / "out"), *wrong])
    assert done.exit_code == 2
    assert wrong[0] in done.stderr
    assert asked == {}
    assert not (tmp_path / "out").exists()
