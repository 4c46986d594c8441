"""Which series count as T2-weighted."""

from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

from spinepaint.imaging.check_weighting import is_t1, t2_evidence
from spinepaint.imaging.errors import Refusal
from spinepaint.imaging.read_planes import Weighting
from spinepaint.imaging.reading import read_series
from tests.imaging.refusals import refused
from tests.imaging.series_factory import make_series


def test_an_unknown_weighting_needs_the_series_to_be_named(tmp_path: Path) -> None:
    def strip(ds: Dataset, index: int) -> None:
        del ds.EchoTime, ds.SequenceName
        ds.SeriesDescription = "sag"

    path = make_series(tmp_path, slices=5, mutate=strip)[0]
    assert refused(tmp_path).type == "no-sagittal-t2"
    series = read_series(tmp_path, series_uid=str(dcmread(path).SeriesInstanceUID))
    assert "not certain" in series.warnings[0]


@pytest.mark.parametrize(
    ("level", "weighting"),
    [
        ("certain", Weighting(102.0, 3500.0)),
        ("certain", Weighting(80.0, 2000.0)),
        ("likely", Weighting(79.0, 3500.0)),
        ("likely", Weighting(50.0, 3500.0)),
        ("no", Weighting(49.0, 3500.0)),
        ("no", Weighting(102.0, 900.0)),
        ("likely", Weighting(120.0, 1500.0, names=("T2_SPACE_SAG",))),
        ("likely", Weighting(700.0, 5000.0)),
        ("no", Weighting(102.0, 3500.0, inversion=True)),
        ("no", Weighting(102.0, 3500.0, gradient_echo=True)),
        ("no", Weighting(102.0, 3500.0, names=("T2_TIRM_SAG",))),
        ("likely", Weighting(names=("SAG T2 FSE",))),
        ("no", Weighting(names=("SAG T2* GRE",))),
        ("no", Weighting(names=("SAG T1 FSE",))),
        ("unknown", Weighting(names=("SAG",))),
        ("unknown", Weighting(102.0, None)),
    ],
)
def test_t2_is_told_by_its_timing_and_then_by_its_name(level: str, weighting: Weighting) -> None:
    assert t2_evidence(weighting).level == level


def test_t1_is_told_by_its_timing() -> None:
    assert is_t1(Weighting(10.0, 550.0)) and not is_t1(Weighting(102.0, 3500.0)) and not is_t1(Weighting(10.0, None))
    assert not is_t1(Weighting(10.0, 550.0, gradient_echo=True)) and not is_t1(Weighting(10.0, 550.0, inversion=True))


def test_a_t1_series_is_read_where_it_is_wanted(tmp_path: Path) -> None:
    def shorten(ds: Dataset, index: int) -> None:
        ds.EchoTime, ds.RepetitionTime, ds.SeriesDescription, ds.SequenceName = "10", "550", "t1_tse_sag", "tse"

    make_series(tmp_path / "t1", slices=5, rows=32, columns=32, mutate=shorten)
    assert refused(tmp_path / "t1").type == "no-sagittal-t2"
    series = read_series(tmp_path / "t1", allow_t1=True)
    assert "T1 by its times" in series.report.series[0].reason and series.warnings == ()
    make_series(tmp_path / "t2", slices=5, rows=32, columns=32, seed=1)
    with pytest.raises(Refusal, match="2 sagittal T1 and T2 series"):
        read_series(tmp_path, allow_t1=True)
