"""A sample's folder appears whole or not at all, also on a disk that is full."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest

from spinepaint.imaging import writing
from spinepaint.imaging.errors import is_disk_full
from spinepaint.worker.outputs import publish, staging
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
