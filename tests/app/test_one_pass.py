"""The dry run by command and by HTTP, uploads and the pipeline give one verdict, since they are one pass."""

import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydicom import Dataset

from spinepaint.imaging import reading
from spinepaint.imaging.errors import Refusal
from spinepaint.settings import Settings
from tests.imaging.enhanced_factory import make_enhanced
from tests.imaging.refusals import assign
from tests.imaging.series_factory import make_series

Make = Callable[[Path], object]


def small(folder: Path, **options: Any) -> list[Path]:
    return make_series(folder, slices=options.pop("slices", 6), rows=32, columns=32, **options)


def with_others(folder: Path) -> None:
    small(folder)
    small(folder, seed=1, plane="axial")
    (folder / "notes.txt").write_bytes(b"hello")


def with_a_gap(folder: Path) -> None:
    small(folder, slices=7)[3].unlink()


def cut_short(folder: Path) -> None:
    path = small(folder)[2]
    path.write_bytes(path.read_bytes()[:-500])


def of_t1(folder: Path) -> None:
    small(folder, echo_time_ms=11, repetition_time_ms=600)


def of_several(folder: Path) -> None:
    small(folder)
    small(folder, seed=1)


def synthetic(folder: Path) -> None:
    def mark(ds: Dataset, index: int) -> None:
        assign(SyntheticData="YES")(ds)

    small(folder, mutate=mark)


def nothing(folder: Path) -> None:
    (folder / "notes.txt").write_bytes(b"hello")


def enhanced(folder: Path) -> None:
    make_enhanced(folder / "one.dcm", slices=6, rows=32, columns=32)


SOURCES: dict[str, tuple[str | None, Make]] = {
    "sound": (None, small),
    "sound among others": (None, with_others),
    "Enhanced": (None, enhanced),
    "a gap": ("missing-slice", with_a_gap),
    "cut short": ("truncated-pixels", cut_short),
    "T1": ("no-sagittal-t2", of_t1),
    "several": ("several-series", of_several),
    "synthetic": ("already-synthetic", synthetic),
    "no DICOM": ("no-dicom", nothing),
}


def zipped(folder: Path) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, path.name)
    return content.getvalue()


def check_by_command(source: Path) -> "subprocess.CompletedProcess[str]":
    argv = [sys.executable, "-m", "spinepaint.app.cli", "check", str(source), "--json"]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("kind", "as_zip"), [*((kind, False) for kind in SOURCES), ("sound among others", True), ("cut short", True)]
)
def test_four_ways_in_one_verdict(client: TestClient, tmp_path: Path, kind: str, as_zip: bool) -> None:
    slug, make = SOURCES[kind]
    folder = tmp_path / "source"
    folder.mkdir()
    make(folder)
    source = folder
    files = [("files", (path.name, path.read_bytes())) for path in sorted(folder.iterdir())]
    if as_zip:
        source = tmp_path / "source.zip"
        source.write_bytes(zipped(folder))
        files = [("files", ("source.zip", source.read_bytes()))]
    here = reading.check(source)
    assert (here.refusal.type if here.refusal else None) == slug

    command = check_by_command(source)
    assert command.returncode == (3 if slug else 0)
    assert json.loads(command.stdout) == here.as_dict()

    dry = client.post("/v1/series:check", files=files)
    assert dry.status_code == 200
    assert in_any_order(dry.json()) == in_any_order(here.as_dict())

    upload = client.post("/v1/series", files=files)
    with pytest.raises(Refusal) if slug else nothing_raised() as raised:
        series = reading.read_series(source)  # what the pipeline calls
    if slug:
        assert upload.json()["type"].endswith(f"/{slug}")
        assert upload.json()["detail"] == raised.value.detail
        named = {e.file for e in raised.value.instances}
        if not here.series:  # an upload is told of each file, as the dry run tells it
            named = named or {verdict.file for verdict in here.files}
        assert {entry["file"] for entry in upload.json().get("instances", [])} == named
    else:
        assert upload.json()["series_uid"] == series.series_uid == here.chosen_series_uid
        assert upload.json()["warnings"] == list(series.warnings) == list(here.warnings)


class nothing_raised:  # noqa: N801 - it stands beside pytest.raises
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


def in_any_order(report: dict[str, Any]) -> dict[str, Any]:
    """Uploads lie in the order they came in, a folder is read in that of the names."""
    return report | {"files": sorted(report["files"], key=json.dumps), "series": sorted(report["series"], key=json.dumps)}


def test_the_command_has_the_caps_of_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small(tmp_path)
    monkeypatch.setenv("SPINEPAINT_CAPS__UPLOAD_FILES", "3")
    command = subprocess.run(
        [sys.executable, "-m", "spinepaint.app.cli", "check", str(tmp_path), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert command.returncode == 3
    assert "upload_files is 3" in json.loads(command.stdout)["warnings"][0]


CRASH = "import os; from spinepaint.app import reader; reader._answer = lambda *_: os.abort()"
STARVE = "from spinepaint.app import reader; reader._answer = lambda *_: len(bytearray(2**33))"
# How each process that reads goes on once it is spoilt: the one that is started for a command, and the gateway's, which forks.
GOES_ON = {
    "spinepaint.app.reader": "import sys; sys.stdout.write(reader.answer_text(sys.stdin.read()))",
    "spinepaint.app.warm_reader": (
        "import socket, sys; from spinepaint.app import warm_reader; warm_reader._serve(socket.socket(fileno=int(sys.argv[1])))"
    ),
}


@pytest.mark.parametrize(("spoilt", "slug"), [(CRASH, "upload-unreadable"), (STARVE, "over-cap-reader-memory-bytes")])
def test_a_reader_that_dies_or_starves_is_a_verdict_by_every_way(
    client: TestClient, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoilt: str, slug: str
) -> None:
    from spinepaint.app import checking

    start, started = subprocess.Popen, set()

    def start_instead(argv: list[str], **options: Any) -> Any:
        (reads,) = GOES_ON.keys() & set(argv)
        started.add(reads)
        return start([sys.executable, "-c", f"{spoilt}; {GOES_ON[reads]}", argv[-1]], **options)

    monkeypatch.setattr(subprocess, "Popen", start_instead)
    paths = small(tmp_path / "s")
    report = checking.check_apart(tmp_path / "s", None, settings.caps)
    assert report["accepted"] is False
    assert {entry["file"] for entry in report["files"]} == {path.name for path in paths}
    assert {entry["verdict"] for entry in report["files"]} == {"refused"}
    with pytest.raises(Refusal) as refused:
        checking.survive_reading(tmp_path / "s", None, settings.caps)
    assert refused.value.type == slug
    files = [("files", (path.name, path.read_bytes())) for path in paths]
    dry = client.post("/v1/series:check", files=files)
    assert dry.status_code == 200
    assert {entry["file"] for entry in dry.json()["files"]} == {path.name for path in paths}
    upload = client.post("/v1/series", files=files)
    assert upload.json()["type"].endswith(f"/{slug}")
    assert list((settings.data_dir / "incoming").iterdir()) == []
    assert started == GOES_ON.keys()


def test_what_is_against_a_source_is_left_to_the_reading_itself(tmp_path: Path, settings: Settings) -> None:
    from spinepaint.app import checking

    nothing(tmp_path)
    checking.survive_reading(tmp_path, None, settings.caps)
