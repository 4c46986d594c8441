"""Exit statuses, what goes to which stream, and that nothing half-written stays."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from spinepaint.app.cli import app
from spinepaint.imaging.errors import Refusal
from spinepaint.imaging.reading import read_series
from tests.imaging.series_factory import make_series

EDIT = ["--fsu", "L4-L5", "--pathology", "disc_herniation", "--severity", "small"]
PATIENCE_S = 120.0  # for a process on a busy machine
Pipeline = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("series")
    make_series(folder)
    return folder


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "notes.dcm").write_text("not an image")
    return folder


def spinepaint(*args: object, **env: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "spinepaint.app.cli", *map(str, args)]
    return subprocess.run(argv, capture_output=True, text=True, env={**os.environ, **env}, timeout=PATIENCE_S, check=False)


def use_pipeline(monkeypatch: pytest.MonkeyPatch, pipeline: Pipeline) -> None:
    module = ModuleType("spinepaint.worker.pipeline")
    module.run_pipeline = pipeline  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "spinepaint.worker.pipeline", module)


def paint(source: Path, spec: Mapping[str, Any], out: Path, **options: Any) -> dict[str, Any]:
    """Stands in for the pipeline: the same files, at once."""
    (out / "sample-01" / "series").mkdir(parents=True)
    (out / "sample-01" / "report.json").write_text('{"warnings": ["painted by a stand-in"]}')
    options["progress"]("sample", 0.5)
    return {"spec": dict(spec)}


@pytest.mark.parametrize("arguments", [["--help"], ["check", "--help"], ["inpaint", "--help"], ["serve", "--help"]])
def test_help_never_imports_torch(arguments: list[str]) -> None:
    program = f"import sys; sys.argv = ['spinepaint', *{arguments!r}]\nfrom spinepaint.app.cli import main\n"
    program += "try: main()\nexcept SystemExit as end: assert not end.code\nassert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=False).returncode == 0


def test_check_never_imports_torch(series: Path) -> None:
    program = f"import sys; sys.argv = ['spinepaint', 'check', {str(series)!r}]\nfrom spinepaint.app.cli import main\n"
    program += "try: main()\nexcept SystemExit as end: assert not end.code\nassert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=False).returncode == 0


def test_check_accepts(series: Path) -> None:
    done = spinepaint("check", series, "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 0
    assert set(report) == {"accepted", "chosen_series_uid", "series", "files", "warnings"}
    assert report["accepted"]
    assert [file["verdict"] for file in report["files"]] == ["accepted"] * 9


def test_check_refuses(notes: Path) -> None:
    done = spinepaint("check", notes)
    assert done.returncode == 3
    assert done.stdout.strip().endswith("refused")
    assert json.loads(spinepaint("check", notes, "--json").stdout)["accepted"] is False


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


def test_inpaint_hands_the_resolved_spec_on(monkeypatch: pytest.MonkeyPatch, series: Path, tmp_path: Path) -> None:
    use_pipeline(monkeypatch, paint)
    extra = ["--seed", "7", "--landmark", "-1.5,2,3", "--sigma-mm", "12", "--solver", "ddim", "--steps", "20", "--json"]
    done = CliRunner().invoke(app, ["inpaint", str(series), *EDIT, "--out", str(tmp_path / "new" / "out"), *extra])
    assert done.exit_code == 0
    assert json.loads(done.stdout)["spec"] == {
        "pathology": "disc_herniation", "fsu": "L4-L5", "severity": "small", "seed": 7, "samples": 1,
        "method": "weighted", "solver": "ddim", "steps": 20, "landmark_lps_mm": [-1.5, 2.0, 3.0], "sigma_mm": 12.0,
        "deidentify": False, "new_study": False,
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


FAILING = """
import sys
from types import ModuleType
from spinepaint.app.cli import main
from spinepaint.imaging.errors import Refusal
def run_pipeline(*args, **options): raise {error}
module = ModuleType("spinepaint.worker.pipeline")
module.run_pipeline = run_pipeline
sys.modules["spinepaint.worker.pipeline"] = module
sys.argv = ["spinepaint", *{arguments!r}]
main()
"""


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ("Refusal('missing-slice', 'A slice is missing.')", 3),
        ("RuntimeError('Doe^Jane')", 1),
        ("OSError(28, 'No space left on device', '/out')", 1),
        ("OSError('With tag (7FE0,0010)') from OSError(28, 'No space left on device')", 1),
        ("PermissionError(13, 'Permission denied', '/out')", 1),
        ("KeyboardInterrupt", 1),
    ],
)
@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_exit_status_and_streams(series: Path, tmp_path: Path, error: str, status: int, flags: list[str]) -> None:
    arguments = ["inpaint", str(series), *EDIT, "--out", str(tmp_path / "out"), *flags]
    program = FAILING.format(error=error, arguments=arguments)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert "Traceback" not in done.stderr
    assert "Doe" not in done.stderr + done.stdout
    assert ("The disk is full" in done.stderr) == ("OSError(28" in error)
    assert ("/out" in done.stderr) == ("'/out'" in error)
    if status == 3:
        shown = done.stdout if flags else done.stderr[done.stderr.index("{") :]
        assert json.loads(shown)["type"].endswith("/missing-slice")
    else:
        assert done.stdout == ""


SLOW = """
import signal, sys, time
from pathlib import Path
from types import ModuleType
from spinepaint.app.cli import main
def run_pipeline(source, spec, out, **options):
    begun = Path(sys.argv[-1])
    try:
        begun.write_text("half-written")
        time.sleep(600)
    finally:
        begun.unlink()
module = ModuleType("spinepaint.worker.pipeline")
module.run_pipeline = run_pipeline
sys.modules["spinepaint.worker.pipeline"] = module
sys.argv = ["spinepaint", *{arguments!r}]
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job has it ignored, and hands that on
main()
"""


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_pipeline_clean_up(series: Path, tmp_path: Path, signum: signal.Signals) -> None:
    out = tmp_path / "out"
    program = SLOW.format(arguments=["inpaint", str(series), *EDIT, "--out", str(out)])
    with subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + PATIENCE_S
        while not out.exists():
            assert process.poll() is None, "it ended before it began"
            assert time.monotonic() < deadline, "it never began"
            time.sleep(0.02)
        process.send_signal(signum)
        _, shown = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert "Traceback" not in shown
    assert not out.exists()


def test_phantom_writes_series_that_are_accepted(tmp_path: Path) -> None:
    out = tmp_path / "phantoms"
    assert spinepaint("phantom", out, "--n", 1, "--seed", 3, "--pathology", "disc_herniation").returncode == 0
    truth = json.loads((out / "truth.json").read_text())["phantom-000003"]
    assert [found[0] for found in truth["conditions"].values() if found] == ["disc_herniation"]
    assert spinepaint("check", out / "phantom-000003").returncode == 0
    assert spinepaint("phantom", out, "--n", 1).returncode == 2


def test_phantoms_that_find_no_space_are_not_kept_in_part(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from spinepaint.training import phantom

    def write_series(_: object, folder: Path, *, seed: int) -> None:
        folder.mkdir(parents=True)
        (folder / "IM0001.dcm").write_text("half a phantom")
        if seed == 4:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(phantom, "make_phantom", lambda *_: standin_phantom())
    monkeypatch.setattr(phantom, "write_series", write_series)
    out = tmp_path / "new" / "phantoms"
    done = CliRunner().invoke(app, ["phantom", str(out), "--n", "2", "--seed", "3"])
    assert isinstance(done.exception, OSError)
    assert done.exception.filename == str(out)
    assert list(tmp_path.iterdir()) == []
    assert CliRunner().invoke(app, ["phantom", str(out), "--n", "1", "--seed", "3"]).exit_code == 0
    assert sorted(path.name for path in out.iterdir()) == ["phantom-000003", "truth.json"]


def standin_phantom() -> SimpleNamespace:
    return SimpleNamespace(disc_centres_lps_mm={}, landmarks_lps_mm={}, conditions={}, morphometry={})


def test_train_needs_a_config(tmp_path: Path) -> None:
    assert CliRunner().invoke(app, ["train", "inpainter", "--config", str(tmp_path / "absent.yaml")]).exit_code == 2
    assert CliRunner().invoke(app, ["train", "segmenter", "--config", __file__]).exit_code == 2


def test_the_commands_of_the_contract_are_there() -> None:
    shown = CliRunner().invoke(app, ["--help"]).stdout
    for command in ("inpaint", "check", "localise", "serve", "worker", "phantom", "train", "demo"):
        assert command in shown


def test_choices_are_those_of_the_models() -> None:
    from spinepaint.app.choices import Method, Solver
    from spinepaint.models.inpaint import METHODS
    from spinepaint.models.samplers import SAMPLERS

    assert set(Method) == set(METHODS)
    assert set(Solver) == set(SAMPLERS)
