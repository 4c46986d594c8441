"""Every way in which one instance of a sound series can be spoilt, and the refusal that names it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from spinepaint.imaging.caps import Caps
from spinepaint.imaging.reading import check, read_series
from tests.imaging.refusals import assign, refused, remove
from tests.imaging.series_factory import make_series

SPOILT = 3


def make_colour(ds: Dataset) -> None:
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
    ds.PixelData = bytes(3 * ds.Rows * ds.Columns)


def use_floats(ds: Dataset) -> None:
    ds.FloatPixelData = bytes(4 * ds.Rows * ds.Columns)
    ds.BitsAllocated = 32
    del ds.PixelData


def overfill(ds: Dataset) -> None:
    ds.PixelData = np.full(ds.Rows * ds.Columns, 5000, "<u2").tobytes()


def contribute_equipment(ds: Dataset) -> None:
    code, item = Dataset(), Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "109100", "DCM", "Synthesizing Equipment"
    item.Manufacturer, item.PurposeOfReferenceCodeSequence = "Another", [code]
    ds.ContributingEquipmentSequence = [item]


def lose_length(ds: Dataset) -> None:
    ds.PixelData = ds.PixelData[:-64]


INSTANCE_FAULTS: dict[str, tuple[str, Callable[[Dataset], None]]] = {
    "no pixel data": ("no-pixels", remove("PixelData")),
    "no rows": ("no-pixels", remove("Rows")),
    "rows too large": ("pixel-length", assign(Rows=60000)),
    "short pixels": ("pixel-length", lose_length),
    "colour": ("colour", make_colour),
    "palette": ("colour", assign(PhotometricInterpretation="PALETTE COLOR")),
    "inverted": ("inverted-greyscale", assign(PhotometricInterpretation="MONOCHROME1")),
    "floats": ("unsupported-pixels", use_floats),
    "more bits than allocated": ("unsupported-pixels", assign(BitsStored=17, HighBit=16)),
    "high bit elsewhere": ("unsupported-pixels", assign(HighBit=15)),
    "values beyond the bits stored": ("unsupported-pixels", overfill),
    "zero slope": ("bad-rescale", assign(RescaleSlope="0", RescaleIntercept="0")),
    "slope beyond single precision": ("bad-rescale", assign(RescaleSlope="1e38", RescaleIntercept="0")),
    "vanishing slope": ("bad-rescale", assign(RescaleSlope="1e-40", RescaleIntercept="0")),
    "boundless intercept": ("bad-rescale", assign(RescaleSlope="1", RescaleIntercept="-1e300")),
    "no pixel spacing above zero": ("bad-geometry", assign(PixelSpacing=[0, 0.9])),
    "pixels of a metre": ("bad-geometry", assign(PixelSpacing=[1000, 1000])),
    "modality LUT": ("modality-lut", assign(ModalityLUTSequence=[Dataset()])),
    "synthetic data": ("already-synthetic", assign(SyntheticData="YES")),
    "synthesizing equipment": ("already-synthetic", contribute_equipment),
    "no orientation": ("missing-geometry", remove("ImageOrientationPatient")),
    "no position": ("missing-geometry", remove("ImagePositionPatient")),
    "no pixel spacing": ("missing-geometry", remove("PixelSpacing")),
    "axial slice": ("mixed-orientation", assign(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])),
    "localizer of another spacing": ("mixed-matrix", assign(PixelSpacing=[1.1, 1.1])),
    "another frame of reference": ("mixed-frame-of-reference", assign(FrameOfReferenceUID="1.2.3")),
    "another study": ("mixed-study", assign(StudyInstanceUID="1.2.3")),
    "another patient": ("mixed-patient", assign(PatientID="OTHER")),
    "signed": ("mixed-pixels", assign(PixelRepresentation=1)),
    "a T1 slice": ("mixed-weighting", assign(EchoTime="11", RepetitionTime="600")),
    "no SOP Instance UID": ("missing-uid", remove("SOPInstanceUID")),
}


@pytest.mark.parametrize(("slug", "spoil"), INSTANCE_FAULTS.values(), ids=INSTANCE_FAULTS)
def test_a_spoilt_instance_is_named(tmp_path: Path, slug: str, spoil: Callable[[Dataset], None]) -> None:
    def mutate(ds: Dataset, index: int) -> None:
        if index == SPOILT:
            spoil(ds)

    paths = make_series(tmp_path, slices=7, rows=32, columns=32, mutate=mutate)
    refusal = refused(tmp_path)
    assert refusal.type == slug
    assert [entry.file for entry in refusal.instances] == [paths[SPOILT].name]
    ds = dcmread(paths[SPOILT])
    assert refusal.instances[0].sop_instance_uid == ds.get("SOPInstanceUID")
    assert refusal.instances[0].reason


def test_two_files_of_one_uid_and_other_content_are_refused(tmp_path: Path) -> None:
    make_series(tmp_path / "1", slices=5)
    other = make_series(tmp_path / "2", slices=5, mutate=lambda ds, _: assign(PatientAge="051Y")(ds))
    for path in other[1:]:
        path.unlink()
    refusal = refused(tmp_path)
    assert refusal.type == "duplicate-instance"
    assert refusal.instances[0].file == other[0].name


def test_both_files_of_one_uid_are_named_and_their_series_is_refused_with_them(tmp_path: Path) -> None:
    slices = make_series(tmp_path, slices=5, rows=32, columns=32)
    make_series(tmp_path / "axial", slices=5, rows=32, columns=32, seed=1, plane="axial")
    ds = dcmread(slices[2])
    ds.PatientAge = "051Y"
    ds.save_as(tmp_path / "other.dcm")
    refusal = refused(tmp_path)
    reason = "another file, {}, has the same SOP Instance UID and other content"
    told = {slices[2].name: reason.format("other.dcm"), "other.dcm": reason.format(slices[2].name)}
    assert {entry.file: entry.reason for entry in refusal.instances} == told
    report = check(tmp_path)
    assert sorted(series.verdict for series in report.series) == ["ignored", "refused"]
    verdicts = {file.file: (file.verdict, file.reason) for file in report.files}
    assert len(report.files) == len(verdicts) == 11
    assert {name for name, (verdict, _) in verdicts.items() if verdict == "refused"} == {"other.dcm", *(p.name for p in slices)}
    assert {name: verdicts[name][1] for name in told} == told
    assert verdicts[slices[0].name][1] == f"its series: {refusal}"


def test_synthetic_series_are_taken_where_asked_for(tmp_path: Path) -> None:
    make_series(tmp_path, slices=5, mutate=lambda ds, _: assign(SyntheticData="YES")(ds))
    assert refused(tmp_path).type == "already-synthetic"
    assert "already synthetic" in read_series(tmp_path, allow_synthetic=True).warnings[0]


def test_pixels_are_capped_before_they_are_read(tmp_path: Path) -> None:
    make_series(tmp_path, slices=5, rows=32, columns=32)
    refusal = refused(tmp_path, caps=Caps(pixels_per_series=5 * 32 * 32 - 1))
    assert refusal.type == "over-cap-pixels-per-series"
    assert "pixels_per_series" in refusal.title
