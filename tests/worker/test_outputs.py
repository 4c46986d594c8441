"""A sample's folder appears whole or not at all, also on a disk that is full."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest

from spinepaint.imaging import writing
from spinepaint.imaging.errors import Refusal, is_disk_full
from spinepaint.worker.staging import publish, staging, why_not_out
from tests.imaging.painted import paint
from tests.imaging.series_factory import make_series


class FullDisk:
    """A file that takes so many bytes and no more."""

    def __init__(self, path: Path, space: int) -> None:
        self._file = path.open("wb")
        self._space = space

    def write(self, data: bytes) -> int:
        self._space -= len(data)
        if self._space < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    def fill(space: int) -> None:
        def dcmwrite(path: Path, dataset: pydicom.Dataset, **options: Any) -> None:
            pydicom.dcmwrite(FullDisk(path, space), dataset, **options)

        monkeypatch.setattr(writing, "dcmwrite", dcmwrite)

    return fill


def write_a_sample(source: Path, out: Path) -> None:
    with staging(out) as folder:
        paint(source, folder / "sample-01")
        publish(folder, out)


@pytest.mark.parametrize("space", [100, 3000])  # in the header, and in the pixels, where pydicom wraps the system's error
def test_a_full_disk_is_told_with_its_place_and_nothing_stays(
    tmp_path: Path, full_disk: Callable[[int], None], space: int
) -> None:
    make_series(tmp_path / "in", slices=5, rows=40, columns=33)
    out = tmp_path / "new" / "out"
    full_disk(space)
    with pytest.raises(OSError, match="The disk is full") as raised:
        write_a_sample(tmp_path / "in", out)
    assert (raised.value.errno, raised.value.filename) == (errno.ENOSPC, str(out))
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_only_a_lack_of_space_is_called_so(tmp_path: Path) -> None:
    assert is_disk_full(OSError(errno.ENOSPC, "No space left on device"))
    assert not is_disk_full(OSError(errno.EACCES, "Permission denied"))
    with pytest.raises(PermissionError), staging(tmp_path / "out"):
        raise PermissionError(errno.EACCES, "Permission denied", "a file")
    assert not (tmp_path / "out").exists()


def test_what_a_killed_run_left_behind_neither_hinders_nor_stays(tmp_path: Path) -> None:
    (tmp_path / ".spinepaint-abc" / "sample-01").mkdir(parents=True)
    assert why_not_out(tmp_path) is None
    with staging(tmp_path) as folder:
        (folder / "sample-01").mkdir()
        publish(folder, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["sample-01"]


def test_the_staging_folder_of_a_run_that_goes_on_is_left_alone(tmp_path: Path) -> None:
    with staging(tmp_path) as folder:
        with pytest.raises(Refusal, match="Another run") as raised, staging(tmp_path):
            pass
        assert raised.value.type == "output-exists"
        assert folder.is_dir()
    with staging(tmp_path):
        pass


def test_without_locks_a_left_staging_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(handle: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    with staging(tmp_path / "new"):
        pass
    left = tmp_path / "old" / ".spinepaint-abc"
    left.mkdir(parents=True)
    with pytest.raises(Refusal) as raised, staging(left.parent):
        pass
    assert left.name in raised.value.detail
    assert left.is_dir()


def test_a_place_that_cannot_be_written_to_is_told_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    assert str(why_not_out(tmp_path / "file" / "a" / "b")).endswith("file is not a folder")
    assert str(why_not_out(tmp_path)).endswith("is not empty")
    assert why_not_out(tmp_path / "a" / "b") is None
    monkeypatch.setattr("os.access", lambda path, how: False)
    assert str(why_not_out(tmp_path / "a" / "b")).endswith("may not be written to")
