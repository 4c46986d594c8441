"""How the tests spoil a data set, or have the disk full, and look at the refusal that follows."""

from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest
from pydicom import Dataset

from spinepaint.imaging.caps import DEFAULT_CAPS, Caps
from spinepaint.imaging.errors import Refusal
from spinepaint.imaging.reading import check, read_series


def refused(source: Path, *, caps: Caps = DEFAULT_CAPS) -> Refusal:
    """The refusal of a source, once `check` was seen to say the same."""
    with pytest.raises(Refusal) as raised:
        read_series(source, caps=caps)
    report = check(source, caps=caps)
    assert not report.accepted
    assert report.chosen_series_uid is None
    assert report.refusal is not None
    assert report.refusal.type == raised.value.type
    assert str(raised.value) == report.as_dict()["warnings"][0]
    # What is said of the files and of the series is the same verdict: only a choice between sound series leaves them sound.
    assert "accepted" not in {file.verdict for file in report.files}
    assert "accepted" not in {series.verdict for series in report.series} or raised.value.type == "several-series"
    return raised.value


def assign(**values: object) -> Callable[[Dataset], None]:
    """A mutation that sets elements."""

    def mutate(ds: Dataset) -> None:
        for keyword, value in values.items():
            setattr(ds, keyword, value)

    return mutate


def remove(*keywords: str) -> Callable[[Dataset], None]:
    """A mutation that removes elements."""

    def mutate(ds: Dataset) -> None:
        for keyword in keywords:
            delattr(ds, keyword)

    return mutate


def full_disk(dir: Path | None = None) -> IO[bytes]:
    """In place of `TemporaryFile`: a file of a disk without any space, as Linux has one."""
    return Path("/dev/full").open("r+b")
