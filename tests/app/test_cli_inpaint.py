"""What `spinepaint inpaint` takes, hands on and refuses; and what a synthetic series needs of each command."""

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner

from spinepaint.app.cli import app
from spinepaint.imaging.errors import Refusal
from spinepaint.imaging.reading import read_series
from tests.app.commands import EDIT, paint, spinepaint, use_pipeline
from tests.imaging.series_factory import make_series


@pytest.fixture
def series(series_files: list[Path]) -> Path:
    return series_files[0].parent


@pytest.mark.parametrize(
    "arguments",
    [
        ["--fsu", "T1-T2", "--pathology", "disc_herniation", "--severity", "small"],
        ["--fsu", "L4-L5", "--pathology", "scoliosis", "--severity", "small"],
        ["--fsu", "L4-L5", "--pathology", "disc_herniation", "--severity", "severe"],
        [*EDIT, "--landmark", "1,2"],
        [*EDIT, "--landmark", "1,2,nan"],
        [*EDIT, "--landmark", "a,b,c"],
        [*EDIT, "--samples", "0"],
        [*EDIT, "--attempts", "0"],
        [*EDIT, "--attempts", "17"],
        [*EDIT, "--seed", "-1"],
        [*EDIT, "--steps", "0"],
        [*EDIT, "--sigma-mm", "0"],
        [*EDIT, "--solver", "euler"],
        [*EDIT, "--method", "magic"],
        [*EDIT, "--nonsense"],
        EDIT[2:],
    ],
)
def test_inpaint_usage_errors(series: Path, tmp_path: Path, arguments: list[str]) -> None:
    done = CliRunner().invoke(app, ["inpaint", str(series), "--out", str(tmp_path / "out"), *arguments])
    assert done.exit_code == 2
    assert not (tmp_path / "out").exists()


def test_inpaint_of_nothing_is_a_usage_error(tmp_path: Path) -> None:
    done = spinepaint("inpaint", tmp_path / "absent", *EDIT, "--out", tmp_path / "out")
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("out", ["", "file/out"])
def test_an_impossible_place_is_refused_before_any_work(
    monkeypatch: pytest.MonkeyPatch, series: Path, tmp_path: Path, out: str
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    use_pipeline(monkeypatch, paint)
    done = CliRunner().invoke(app, ["inpaint", str(series), *EDIT, "--out", out])
    assert done.exit_code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("command", [["check", ""], ["localise", ""], ["inpaint", "", *EDIT, "--out", "new"]])
def test_an_empty_path_is_not_this_folder(monkeypatch: pytest.MonkeyPatch, series: Path, command: list[str]) -> None:
    monkeypatch.chdir(series)
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 2
    assert "The path is empty" in done.output


def test_inpaint_hands_the_resolved_spec_on(monkeypatch: pytest.MonkeyPatch, series: Path, tmp_path: Path) -> None:
    use_pipeline(monkeypatch, paint)
    extra = ["--seed", "7", "--landmark", "-1.5,2,3", "--sigma-mm", "12", "--solver", "ddim", "--steps", "20", "--json"]
    extra += ["--attempts", "5", "--require-verified"]
    done = CliRunner().invoke(app, ["inpaint", str(series), *EDIT, "--out", str(tmp_path / "new" / "out"), *extra])
    assert done.exit_code == 0
    assert json.loads(done.stdout)["spec"] == {
        "pathology": "disc_herniation", "fsu": "L4-L5", "severity": "small", "seed": 7, "samples": 1,
        "method": "weighted", "solver": "ddim", "steps": 20, "landmark_lps_mm": [-1.5, 2.0, 3.0], "sigma_mm": 12.0,
        "deidentify": False, "new_study": False, "attempts": 5, "require_verified": True,
    }  # fmt: skip
    assert (tmp_path / "new" / "out" / "sample-01" / "report.json").exists()


@pytest.mark.parametrize(
    ("environment", "option", "expected"),
    [("", [], False), ("true", [], True), ("true", ["--no-deidentify"], False), ("", ["--deidentify"], True)],
)
def test_an_option_goes_before_the_deployments_default(
    monkeypatch: pytest.MonkeyPatch, series: Path, tmp_path: Path, environment: str, option: list[str], expected: bool
) -> None:
    use_pipeline(monkeypatch, paint)
    monkeypatch.setenv("SPINEPAINT_DEIDENTIFY", environment or "false")
    done = CliRunner().invoke(
        app, ["inpaint", str(series), *EDIT, "--out", str(tmp_path / "out"), "--new-study", "--json", *option]
    )
    spec = json.loads(done.stdout)["spec"]
    assert (spec["deidentify"], spec["new_study"]) == (expected, True)


def test_a_bad_setting_is_named(monkeypatch: pytest.MonkeyPatch, series: Path, tmp_path: Path) -> None:
    monkeypatch.setenv("SPINEPAINT_DEIDENTIFY", "perhaps")
    done = CliRunner().invoke(app, ["inpaint", str(series), *EDIT, "--out", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert "SPINEPAINT_DEIDENTIFY" in done.output


def test_results_do_not_go_into_the_series_that_they_are_made_of(
    monkeypatch: pytest.MonkeyPatch, series: Path, tmp_path: Path
) -> None:
    use_pipeline(monkeypatch, paint)
    (tmp_path / "link").symlink_to(series)
    before = sorted(series.rglob("*"))
    for source, out in (
        (series, series / "new" / "out"),
        (tmp_path / "link", series / "out"),
        (series, tmp_path / "link" / "out"),
    ):
        done = CliRunner().invoke(app, ["inpaint", str(source), *EDIT, "--out", str(out)])
        assert done.exit_code == 2
        assert "--out" in done.output
        assert "may not lie in SERIES" in done.output
    assert sorted(series.rglob("*")) == before
    beside = CliRunner().invoke(app, ["inpaint", str(series), *EDIT, "--out", f"{series}-painted"])
    assert beside.exit_code == 0


def test_the_bar_ends_full(monkeypatch: pytest.MonkeyPatch, series: Path, tmp_path: Path) -> None:
    use_pipeline(monkeypatch, paint)
    done = CliRunner().invoke(app, ["inpaint", str(series), *EDIT, "--out", str(tmp_path / "out")])
    assert done.exit_code == 0
    assert "100%" in done.output
    assert "50%" not in done.output


def test_inpaint_fills_an_empty_folder_but_not_a_used_one(monkeypatch: pytest.MonkeyPatch, series: Path, tmp_path: Path) -> None:
    use_pipeline(monkeypatch, paint)
    arguments = ["inpaint", str(series), *EDIT, "--out", str(tmp_path)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0
    assert "warning: sample-01: painted by a stand-in" in done.output
    before = sorted(tmp_path.rglob("*"))
    assert CliRunner().invoke(app, arguments).exit_code == 2
    assert sorted(tmp_path.rglob("*")) == before


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic")
    make_series(folder, slices=5, rows=32, columns=32, mutate=lambda ds, _: setattr(ds, "SyntheticData", "YES"))
    return folder


def test_the_refusal_of_a_synthetic_series_names_the_option_that_takes_it(
    monkeypatch: pytest.MonkeyPatch, synthetic: Path, tmp_path: Path
) -> None:
    shown = CliRunner().invoke(app, ["check", str(synthetic)])
    assert shown.exit_code == 3
    assert "--allow-synthetic" in shown.output
    taken = CliRunner().invoke(app, ["check", str(synthetic), "--allow-synthetic"])
    assert taken.exit_code == 0
    assert "warning: The series is already synthetic." in taken.output

    def localise_series(source: Path, *, allow_synthetic: bool, **_: Any) -> dict[str, Any]:
        series = read_series(source, allow_synthetic=allow_synthetic)
        return {"disc_centres_lps_mm": {}, "confidence": {}, "warnings": list(series.warnings)}

    module = ModuleType("spinepaint.worker.localise")
    module.localise_series = localise_series  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "spinepaint.worker.localise", module)
    refused = CliRunner().invoke(app, ["localise", str(synthetic)])
    assert isinstance(refused.exception, Refusal)
    assert "--allow-synthetic" in refused.exception.detail
    assert CliRunner().invoke(app, ["localise", str(synthetic), "--allow-synthetic"]).exit_code == 0

    use_pipeline(monkeypatch, paint)
    arguments = ["inpaint", str(synthetic), *EDIT, "--out", str(tmp_path / "out"), "--allow-synthetic", "--json"]
    assert json.loads(CliRunner().invoke(app, arguments).stdout)["spec"]["allow_synthetic"] is True


@pytest.mark.parametrize("flags", [[], ["--allow-synthetic"]])
def test_what_the_pipeline_will_read_is_read_apart_first(
    monkeypatch: pytest.MonkeyPatch, synthetic: Path, tmp_path: Path, flags: list[str]
) -> None:
    """Synthetic or not: a decoder that crashes on the pixels must not be met here first."""
    from spinepaint.app import checking

    asked = []
    monkeypatch.setattr(checking, "read_apart", lambda *_, **options: asked.append(options["allow_synthetic"]))
    use_pipeline(monkeypatch, paint)
    done = CliRunner().invoke(app, ["inpaint", str(synthetic), *EDIT, "--out", str(tmp_path / "out"), *flags])
    assert done.exit_code == 0
    assert asked == [bool(flags)]
