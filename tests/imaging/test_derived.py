"""The derived series: the caller's pixels outside the edit, and an honest header."""

import filecmp
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pytest
import SimpleITK
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from spinepaint.imaging.derived import stored_values, write_series
from spinepaint.imaging.pixels import representable_range
from spinepaint.imaging.reading import read_series
from tests.imaging.painted import PROVENANCE, dcentvfy, dciodvfy, edit_of, paint
from tests.imaging.series_factory import make_series

SMALL: dict[str, Any] = {"slices": 5, "rows": 40, "columns": 33}
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "oblique": {"oblique_deg": 17.0},
    "8 bits, odd length": {"dtype": "uint8", "bits_stored": 8, "rows": 41},
    "16 bits": {"bits_stored": 16},
    "signed 16": {"dtype": "int16", "bits_stored": 16},
    "signed 12": {"dtype": "int16", "bits_stored": 12},
    "rescaled": {"slope": 0.4, "intercept": -12.5},
    "rescaled slice by slice": {"slope": (1.0, 2.0, 0.5, 1.5, 3.0), "intercept": (0.0, 1.0, 2.0, 3.0, 4.0)},
    "big endian": {"transfer_syntax": ExplicitVRBigEndian},
    "RLE": {"transfer_syntax": RLELossless},
    "JPEG 2000": {"transfer_syntax": JPEG2000Lossless},
}


def _complaint(line: str) -> str:
    """What dciodvfy says, short of the value it says it about."""
    return line.split(" = <")[0]


def _pixels(paths: Sequence[Path]) -> NDArray[np.int64]:
    """Stored values by plain pydicom."""
    return np.stack([dcmread(path).pixel_array.astype(np.int64) for path in paths])


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_the_output_is_valid_and_identical_outside_the_edit(tmp_path: Path, kind: str) -> None:
    sources = make_series(tmp_path / "in", **{**SMALL, **KINDS[kind]})
    result = paint(tmp_path / "in", tmp_path / "out")
    written = [dcmread(path) for path in result.derived.paths]
    # The MR Image IOD has no rescale. A source that has one keeps it, and what is said of it; that is no error. A slice that
    # needs none has it where its siblings do.
    rescaled = sources if kind.startswith("rescaled") else []
    tolerated = {_complaint(line) for source_path in rescaled for line in dciodvfy(source_path)}
    for path in result.derived.paths:
        said = {_complaint(line) for line in dciodvfy(path)}
        assert said <= tolerated
        assert all(line.startswith("Warning - </Rescale") for line in said)
    assert dcentvfy(*sources, *result.derived.paths) == []

    assert [ds.ImagePositionPatient for ds in written] == [dcmread(path).ImagePositionPatient for path in sources]
    before, after = _pixels(sources), _pixels(result.derived.paths)
    np.testing.assert_array_equal(before[~result.changed], after[~result.changed])
    assert (before[result.changed] != after[result.changed]).mean() > 0.9
    np.testing.assert_array_equal(after, result.derived.stored)

    for k, (source, ds) in enumerate(zip(result.volume.datasets, written, strict=True)):
        assert ds.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        for keyword in ("Rows", "Columns", "BitsStored", "HighBit", "PixelRepresentation"):
            assert ds[keyword].value == source[keyword].value
        assert ds.BitsAllocated == 16  # the one value of the MR Image IOD
        assert (ds.get("RescaleSlope", 1), ds.get("RescaleIntercept", 0)) == (
            source.get("RescaleSlope", 1),
            source.get("RescaleIntercept", 0),
        )
        low, high = representable_range(ds)
        values = np.rint((result.edited[k].astype(float) - result.volume.intercept[k]) / result.volume.slope[k])
        mask = result.changed[k]
        np.testing.assert_array_equal(ds.pixel_array[mask].astype(float), np.clip(values[mask], low, high))
    deepest, brightest = representable_range(written[2])
    middle = written[2].pixel_array[result.changed[2]]
    assert (middle.min(), middle.max()) == (deepest, brightest)  # the edit asked for more than the bits can hold


def test_a_rescale_that_says_nothing_is_not_written(tmp_path: Path) -> None:
    def add(ds: Dataset, _: int) -> None:
        ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = "1", "0", "US"

    make_series(tmp_path / "in", **SMALL, mutate=add)
    result = paint(tmp_path / "in", tmp_path / "out")
    assert all("RescaleSlope" not in ds and "RescaleType" not in ds for ds in result.derived.datasets)
    assert [c for path in result.derived.paths for c in dciodvfy(path)] == []


def test_the_geometry_read_back_by_others_is_the_source_s(tmp_path: Path) -> None:
    sources = make_series(tmp_path / "in", **SMALL, oblique_deg=17.0)
    derived = paint(tmp_path / "in", tmp_path / "out").derived
    assert _by_simpleitk(sources) == _by_simpleitk(derived.paths)
    x, y = (hd.spatial.get_series_volume_positions([dcmread(p) for p in paths]) for paths in (sources, derived.paths))
    assert x == y
    assert sorted(x[1] or []) == list(range(len(sources)))
    assert (
        read_series(tmp_path / "out", allow_synthetic=True).volume.affine.tolist()
        == read_series(tmp_path / "in").volume.affine.tolist()
    )


def _by_simpleitk(paths: Sequence[Path]) -> tuple[Any, ...]:
    image: Any = SimpleITK.ReadImage([str(path) for path in paths])
    return image.GetOrigin(), image.GetSpacing(), image.GetDirection()


def test_a_repeat_gives_the_same_bytes(tmp_path: Path) -> None:
    make_series(tmp_path / "in", **SMALL)
    first, again = paint(tmp_path / "in", tmp_path / "a").derived, paint(tmp_path / "in", tmp_path / "b").derived
    names = [path.name for path in first.paths]
    assert names == [f"IM{k + 1:04d}.dcm" for k in range(5)] == sorted(path.name for path in (tmp_path / "a").iterdir())
    assert filecmp.cmpfiles(tmp_path / "a", tmp_path / "b", names, shallow=False) == (names, [], [])
    assert first.series_uid == again.series_uid


def test_other_work_gets_other_uids(tmp_path: Path) -> None:
    make_series(tmp_path / "in", **SMALL)
    make_series(tmp_path / "other", **SMALL, seed=1)

    def other_pixels(ds: Dataset, _: int) -> None:
        ds.PixelData = b"\1" + ds.PixelData[1:]

    make_series(tmp_path / "same uids, other pixels", **SMALL, mutate=other_pixels)
    series = [
        paint(tmp_path / "in", tmp_path / "1").derived,
        paint(tmp_path / "in", tmp_path / "2", spec={**PROVENANCE.spec, "seed": 8}).derived,
        paint(tmp_path / "in", tmp_path / "3", bundle_sha256="f" * 64).derived,
        paint(tmp_path / "in", tmp_path / "4", new_study=True).derived,
        paint(tmp_path / "other", tmp_path / "5").derived,
        paint(tmp_path / "same uids, other pixels", tmp_path / "6").derived,
    ]
    assert len({s.series_uid for s in series}) == len(series)
    assert len({ds.SOPInstanceUID for s in series for ds in s.datasets}) == 5 * len(series)


def test_bad_arguments_are_named_and_leave_nothing_behind(tmp_path: Path) -> None:
    make_series(tmp_path / "in", **SMALL)
    volume = read_series(tmp_path / "in").volume
    edited, changed = edit_of(volume)
    with pytest.raises(ValueError, match="shapes differ"):
        write_series(tmp_path / "out", volume, edited[1:], changed, PROVENANCE)
    with pytest.raises(ValueError, match="finite"):
        write_series(tmp_path / "out", volume, np.where(changed, np.nan, edited).astype(np.float32), changed, PROVENANCE)
    assert not (tmp_path / "out").exists()
    same = stored_values(volume, np.full_like(edited, np.nan), np.zeros_like(changed))
    np.testing.assert_array_equal(same, volume.stored)


def test_an_interrupted_write_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_series(tmp_path / "in", **SMALL)

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="no space"):
        paint(tmp_path / "in", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
