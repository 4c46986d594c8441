"""Uploads are read in a process of their own."""

import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from spinepaint.app import reader
from spinepaint.app.checking import check_apart
from spinepaint.imaging import reading
from spinepaint.imaging.caps import Caps
from spinepaint.imaging.errors import Refusal
from tests.imaging.refusals import full_disk


def test_what_is_read_apart_is_what_would_be_read_here(series_files: list[Path]) -> None:
    folder = series_files[0].parent
    found = reader.read_apart("read", folder, None, Caps())
    series = reading.read_series(folder)
    assert found["sha256"] == series.sha256
    assert found["geometry"]["affine"] == series.volume.affine.tolist()
    assert sorted(file["name"] for file in found["files"]) == sorted(path.name for path in series_files)
    assert reader.read_apart("check", folder, None, Caps()) == reading.check(folder).as_dict()


def test_refusals_arrive_whole(series_files: list[Path], tmp_path: Path) -> None:
    for path in series_files:
        (tmp_path / path.name).write_bytes(path.read_bytes()[: -2000 if path == series_files[2] else None])
    with pytest.raises(Refusal) as there:
        reader.read_apart("read", tmp_path, None, Caps())
    with pytest.raises(Refusal) as here:
        reading.read_series(tmp_path)
    assert there.value == here.value
    assert there.value.instances[0].file == series_files[2].name


def test_the_caps_go_along(series_files: list[Path]) -> None:
    with pytest.raises(Refusal) as refused:
        reader.read_apart("read", series_files[0].parent, None, Caps(upload_files=3))
    assert refused.value.status == 413


def test_a_full_disk_is_told_as_that_and_not_as_a_damaged_upload(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, zipped: bytes
) -> None:
    source = tmp_path / "a.zip"
    source.write_bytes(zipped)
    monkeypatch.setattr(reader, "limit_memory", lambda _bytes: None)  # this process is that of the tests
    monkeypatch.setattr("spinepaint.imaging.read_zip._LARGE", 0)
    monkeypatch.setattr("spinepaint.imaging.read_zip.TemporaryFile", full_disk)
    (tmp_path / "spill").mkdir()
    for task in ("read", "check"):
        with pytest.raises(Refusal) as refused:
            reader.read_apart(task, source, None, Caps(), spill=tmp_path / "spill", answer_to=reader.answer_text)
        assert (refused.value.type, refused.value.status) == ("disk-full", 503)


@pytest.mark.parametrize("program", ["import os; os.abort()", "raise SystemExit(1)", "import time; time.sleep(60)"])
def test_a_reader_that_crashes_or_hangs_is_a_refusal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str) -> None:
    run = subprocess.run

    def run_instead(argv: list[str], **options: Any) -> Any:
        return run([sys.executable, "-c", program], **options)

    monkeypatch.setattr(subprocess, "run", run_instead)
    monkeypatch.setattr(reader, "TIMEOUT_S", 2.0)
    with pytest.raises(Refusal) as refused:
        reader.read_apart("read", tmp_path, None, Caps())
    assert refused.value.type == "upload-unreadable"


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_reader_that_is_told_to_stop_says_nothing_of_the_upload(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, signum: int
) -> None:
    """Whoever stops a service tells all of its processes."""
    run = subprocess.run

    # A process passes on what it ignores, as nohup does of SIGHUP; this one has to be ended by it all the same.
    program = f"import os, signal; signal.signal({signum}, signal.SIG_DFL); os.kill(os.getpid(), {signum})"

    def run_instead(argv: list[str], **options: Any) -> Any:
        return run([sys.executable, "-c", program], **options)

    monkeypatch.setattr(subprocess, "run", run_instead)
    for read in (partial(reader.read_apart, "read"), check_apart):
        with pytest.raises(Refusal) as refused:
            read(tmp_path, None, Caps())
        assert (refused.value.status, refused.value.type) == (503, "stopping")
