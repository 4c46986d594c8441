"""Exit statuses, what goes to which stream, and that nothing half-written stays."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from spinepaint.app.cli import app
from tests.app.commands import EDIT, PATIENCE_S, spinepaint


@pytest.fixture
def series(series_files: list[Path]) -> Path:
    return series_files[0].parent


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "notes.dcm").write_text("not an image")
    return folder


@pytest.mark.parametrize("arguments", [["--help"], ["check", "--help"], ["inpaint", "--help"], ["serve", "--help"]])
def test_help_never_imports_torch(arguments: list[str]) -> None:
    program = f"import sys; sys.argv = ['spinepaint', *{arguments!r}]\nfrom spinepaint.app.cli import main\n"
    program += "try: main()\nexcept SystemExit as end: assert not end.code\nassert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=False).returncode == 0


def test_check_never_imports_torch(series: Path) -> None:
    program = f"import sys; sys.argv = ['spinepaint', 'check', {str(series)!r}]\nfrom spinepaint.app.cli import main\n"
    program += "try: main()\nexcept SystemExit as end: assert not end.code\nassert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=False).returncode == 0


def test_check_accepts(series: Path, series_files: list[Path]) -> None:
    done = spinepaint("check", series, "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 0
    assert set(report) == {"accepted", "chosen_series_uid", "series", "files", "warnings"}
    assert report["accepted"]
    assert [file["verdict"] for file in report["files"]] == ["accepted"] * len(series_files)


def test_check_refuses(notes: Path) -> None:
    done = spinepaint("check", notes)
    assert done.returncode == 3
    assert done.stdout.strip().endswith("refused")
    assert json.loads(spinepaint("check", notes, "--json").stdout)["accepted"] is False


FAILING = """
import sys
from types import ModuleType
from spinepaint.app.cli import main
from spinepaint.imaging.errors import DiskFull, NotVerified, Refusal
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
        ("NotVerified('not-verified', 'The result does not show it.', status=500)", 1),
        ("RuntimeError('Doe^Jane')", 1),
        ("OSError(28, 'No space left on device', '/out')", 1),
        ("OSError('With tag (7FE0,0010)') from OSError(28, 'No space left on device')", 1),
        ("DiskFull from OSError(28, 'No space left on device')", 1),
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
    if status == 3 or "NotVerified" in error:
        shown = done.stdout if flags else done.stderr[done.stderr.index("{") :]
        assert json.loads(shown)["type"].endswith("/missing-slice" if status == 3 else "/not-verified")
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
    write_text = Path.write_text

    def write_what_fits(path: Path, *arguments: Any, **options: Any) -> int:
        if path.name == "truth.json":  # the last to be written
            raise OSError(28, "No space left on device")
        return write_text(path, *arguments, **options)

    monkeypatch.setattr(Path, "write_text", write_what_fits)
    out = tmp_path / "new" / "phantoms"
    done = CliRunner().invoke(app, ["phantom", str(out), "--n", "1", "--seed", "3"])
    assert isinstance(done.exception, OSError)
    assert done.exception.filename == str(out)
    assert list(tmp_path.iterdir()) == []


def test_train_needs_a_config(tmp_path: Path) -> None:
    assert CliRunner().invoke(app, ["train", "inpainter", "--config", str(tmp_path / "absent.yaml")]).exit_code == 2
    assert CliRunner().invoke(app, ["train", "radiologist", "--config", __file__]).exit_code == 2


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
