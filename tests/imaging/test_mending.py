"""What a source says that DICOM does not allow: no output carries it over, and none dies of it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import DataElement, Dataset, dcmread
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.uid import ImplicitVRLittleEndian

from spinepaint.imaging.conformance import findings
from spinepaint.imaging.labels import write_edit_segmentation, write_measurement_report
from spinepaint.imaging.reading import check, read_series
from tests.imaging.enhanced_factory import make_enhanced
from tests.imaging.painted import PROVENANCE, Painted, dciodvfy, entity_complaints, paint
from tests.imaging.refusals import assign, refused
from tests.imaging.series_factory import Mutation, make_series

SMALL: dict[str, Any] = {"slices": 5, "rows": 40, "columns": 33}
SAYS = "DICOM does not allow the value"


def spoil(vr: str | None = None, only: int | None = None, **values: Any) -> Mutation:
    """Give elements a value unchecked; `vr` for one that the dictionary does not give them, `only` for one slice alone."""

    def mutate(ds: Dataset, index: int) -> None:
        for keyword, value in values.items() if only in (None, index) else ():
            tag = tag_for_keyword(keyword) or 0
            ds[tag] = DataElement(tag, vr or "LO", value)

    return mutate


def write_all(source: Path, out: Path) -> tuple[Painted, list[Path]]:
    """A synthetic series and both of its labels."""
    result = paint(source, out)
    write_edit_segmentation(out / "edit.dcm", result.derived, result.volume, result.changed, PROVENANCE)
    write_measurement_report(out / "report.dcm", result.derived, result.volume, PROVENANCE, {"canal_ap_after": 9.5})
    return result, [*result.derived.paths, out / "edit.dcm", out / "report.dcm"]


def spoilt(folder: Path, mutate: Mutation, transfer_syntax: str = ImplicitVRLittleEndian) -> list[Path]:
    """A series whose files, implicit ones, do not say which value representation their values are meant to have."""
    return make_series(folder, **SMALL, mutate=mutate, transfer_syntax=transfer_syntax)


ILLEGAL: dict[str, dict[str, str]] = {
    "Series Number": {"SeriesNumber": "rubbish!", "InstanceNumber": "99999999999999", "SliceThickness": "too thick!"},
    "Spacing Between Slices": {"SpacingBetweenSlices": "rubbish!", "SliceLocation": "a\\b", "WindowCenter": "middling!"},
    "Patient's Weight": {"PatientWeight": "rubbish!", "NumberOfAverages": "1,5", "SAR": "x!", "FlipAngle": "1_0"},
    "Study Date": {"StudyDate": "notadate", "PatientBirthDate": "20200231", "StudyTime": "noon", "ContentDate": "1999"},
    "Frame of Reference UID": {"FrameOfReferenceUID": "1.2.03.4", "ProtocolName": "a\\b", "PatientSex": "FEMALE?"},
}


@pytest.mark.parametrize("named", ILLEGAL)
def test_an_illegal_value_is_left_out_of_every_object_with_a_warning_that_does_not_quote_it(tmp_path: Path, named: str) -> None:
    spoilt(tmp_path / "in", spoil(**ILLEGAL[named]))
    (warning,) = [line for line in check(tmp_path / "in").warnings if "Left out" in line and SAYS in line]
    assert named in warning
    assert not any(value in warning for value in ILLEGAL[named].values())
    _, written = write_all(tmp_path / "in", tmp_path / "out")
    assert [line for path in written for line in dciodvfy(path) if "DICOMDIR" not in line] == []
    assert entity_complaints(*written) == []


@pytest.mark.parametrize("thickness", ["0", "-4"])
def test_a_thickness_that_no_slice_has_is_left_out(tmp_path: Path, thickness: str) -> None:
    spoilt(tmp_path / "in", spoil(SliceThickness=thickness))
    _, written = write_all(tmp_path / "in", tmp_path / "out")
    assert dcmread(written[0])["SliceThickness"].value is None
    assert [line for path in written for line in dciodvfy(path)] == []


def test_what_one_slice_says_wrong_no_slice_says(tmp_path: Path) -> None:
    spoilt(tmp_path / "in", spoil(only=2, PatientWeight="heavy"))
    assert all("PatientWeight" not in ds for ds in read_series(tmp_path / "in").volume.datasets)


def test_the_representation_that_is_written_is_the_dictionarys(tmp_path: Path) -> None:
    def mutate(ds: Dataset, index: int) -> None:
        spoil("SH", SeriesNumber="3", StudyDate="20200304")(ds, index)
        spoil("CS", PositionReferenceIndicator="ILIAC")(ds, index)
        spoil("LO", PatientName="Other^Invented")(ds, index)

    make_series(tmp_path / "in", **SMALL, mutate=mutate)
    _, written = write_all(tmp_path / "in", tmp_path / "out")
    for path in written:
        assert all(e.VR in dictionary_VR(e.tag).split(" or ") for e in dcmread(path).iterall())
        assert dciodvfy(path) == []
    ds = dcmread(written[0])
    assert (ds.SeriesNumber, ds.StudyDate, ds.PatientName) == (1003, "20200304", "Other^Invented")
    assert ds.PositionReferenceIndicator == "ILIAC"
    assert not any(SAYS in line for line in check(tmp_path / "in").warnings)  # nothing was lost


def test_text_of_another_representation_is_judged_by_the_dictionarys(tmp_path: Path) -> None:
    make_series(tmp_path / "in", **SMALL, mutate=spoil("OB", PatientID=b"Zwiebel "))
    assert any("Patient ID" in line and SAYS in line for line in check(tmp_path / "in").warnings)
    assert paint(tmp_path / "in", tmp_path / "out").derived.datasets[0].PatientID is None


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
def test_a_uid_with_a_leading_zero_is_refused(tmp_path: Path, keyword: str) -> None:
    def mutate(ds: Dataset, index: int) -> None:
        setattr(ds, keyword, f"1.2.840.01.5.{index if keyword == 'SOPInstanceUID' else 7}")

    make_series(tmp_path / "in", **SMALL, mutate=mutate)
    refusal = refused(tmp_path / "in")
    assert (refusal.type, len(refusal.instances)) == ("missing-uid", 5)


def test_decimals_of_too_many_digits_are_written_with_sixteen_and_place_the_same_series(tmp_path: Path) -> None:
    def lengthen(ds: Dataset, index: int) -> None:
        for keyword in ("ImagePositionPatient", "PixelSpacing", "ImageOrientationPatient"):
            spoil(**{keyword: [f"{float(value):.18f}" for value in ds[keyword].value]})(ds, index)
        spoil(SliceLocation="36.5000000000000000012")(ds, index)

    make_series(tmp_path / "plain", **SMALL, oblique_deg=7.0)
    make_series(tmp_path / "in", **SMALL, oblique_deg=7.0, mutate=lengthen, transfer_syntax=ImplicitVRLittleEndian)
    result, written = write_all(tmp_path / "in", tmp_path / "out")
    assert [line for path in written for line in dciodvfy(path)] == []
    assert findings(written) == []
    again = read_series(tmp_path / "out", allow_synthetic=True).volume
    plain = read_series(tmp_path / "plain").volume
    np.testing.assert_allclose(again.affine, result.volume.affine, rtol=0, atol=1e-10)
    np.testing.assert_allclose(again.affine, plain.affine, rtol=0, atol=1e-10)
    label = dcmread(written[-2])
    orientation = label.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient
    assert list(map(float, orientation)) == list(map(float, dcmread(written[0]).ImageOrientationPatient))
    assert result.derived.datasets[0].SliceLocation == 36.5


@pytest.mark.parametrize("number", [2**31 - 1, 2**31 - 1001, 2**31 - 1500])
def test_the_series_numbers_of_all_objects_are_legal_and_differ(tmp_path: Path, number: int) -> None:
    make_series(tmp_path / "in", **SMALL, mutate=lambda ds, _: assign(SeriesNumber=number)(ds))
    _, written = write_all(tmp_path / "in", tmp_path / "out")
    numbers = [dcmread(path).SeriesNumber for path in written[-3:]]
    assert len({*numbers, number}) == 4
    assert all(0 < each < 2**31 for each in numbers)
    assert [line for path in written[-3:] for line in dciodvfy(path)] == []


def test_a_description_beyond_ascii_is_cut_by_its_bytes_between_characters(tmp_path: Path) -> None:
    make_series(tmp_path / "in", **SMALL, series_description="désc 山山山山山山山")
    result = paint(tmp_path / "in", tmp_path / "out")
    said = dcmread(result.derived.paths[0]).SeriesDescription
    assert said.startswith("SYNTHETIC L4-L5 disc herniation, moderate large: d")
    assert 60 < len(said.encode()) <= 64
    assert "�" not in said
    assert dciodvfy(result.derived.paths[0]) == []
    assert findings(result.derived.paths) == []


def test_text_that_its_character_set_cannot_say_is_written_all_the_same(tmp_path: Path) -> None:
    def mutate(ds: Dataset, _: int) -> None:
        ds.SpecificCharacterSet = "ISO_IR 999"
        ds.PatientComments = "Grüße"

    make_series(tmp_path / "in", **SMALL, mutate=mutate)
    result = paint(tmp_path / "in", tmp_path / "out")
    assert dcmread(result.derived.paths[0]).SpecificCharacterSet == "ISO_IR 192"
    assert dciodvfy(result.derived.paths[0]) == []


def test_values_inside_the_functional_groups_are_looked_at_too(tmp_path: Path) -> None:
    def mutate(ds: Dataset) -> None:
        frame = ds.PerFrameFunctionalGroupsSequence[1]
        frame.FrameContentSequence[0]["FrameAcquisitionDateTime"] = DataElement(0x00189074, "DT", "at noon")
        ds["ContentDate"] = DataElement(0x00080023, "DA", "today")

    (tmp_path / "in").mkdir()
    make_enhanced(tmp_path / "in" / "a.dcm", **SMALL, mutate=mutate)
    left, replaced = [line for line in check(tmp_path / "in").warnings if SAYS in line]
    assert ("Frame Acquisition DateTime" in left, "Content Date" in replaced) == (True, True)
    ds = dcmread(paint(tmp_path / "in", tmp_path / "out").derived.paths[0])
    assert ds.ContentDate == "19000101"
    assert not any("FrameAcquisitionDateTime" in g.FrameContentSequence[0] for g in ds.PerFrameFunctionalGroupsSequence[1:2])


def test_a_rescale_is_kept_or_dropped_by_the_series(tmp_path: Path) -> None:
    make_series(tmp_path / "in", **SMALL, slope=[1.0, 1.5, 2.0, 1.0, 3.0], intercept=[0.0, 1.0, 0.0, 0.0, -4.0])
    derived = paint(tmp_path / "in", tmp_path / "out").derived
    said = [(float(ds.RescaleSlope), float(ds.RescaleIntercept), ds.RescaleType) for ds in derived.datasets]
    assert said == [(1, 0, "US"), (1.5, 1, "US"), (2, 0, "US"), (1, 0, "US"), (3, -4, "US")]


@pytest.mark.parametrize(
    "change",
    [
        lambda ds, _: assign(PatientID="OTHER-1", PatientName="Other^Patient")(ds),
        lambda ds, _: assign(StudyDate="20210304")(ds),
        lambda ds, _: assign(ImagePositionPatient=[float(v) + 1 for v in ds.ImagePositionPatient])(ds),
        lambda ds, _: assign(PixelSpacing=["0.8", "0.8"])(ds),
    ],
)
def test_sources_of_the_same_uids_that_differ_in_their_headers_give_other_uids(tmp_path: Path, change: Mutation) -> None:
    make_series(tmp_path / "a", **SMALL)
    make_series(tmp_path / "b", **SMALL, mutate=change)
    one, other = (paint(tmp_path / name, tmp_path / f"out {name}").derived for name in "ab")
    assert one.series_uid != other.series_uid
    assert {ds.SOPInstanceUID for ds in one.datasets}.isdisjoint(ds.SOPInstanceUID for ds in other.datasets)


def test_the_same_source_gives_the_same_uids_however_it_is_encoded_and_named(tmp_path: Path) -> None:
    make_series(tmp_path / "a", **SMALL)
    for n, path in enumerate(make_series(tmp_path / "b", **SMALL, transfer_syntax=ImplicitVRLittleEndian)):
        path.rename(path.with_name(f"{(n * 7) % 5}.bin"))
    one, other = (paint(tmp_path / name, tmp_path / f"out {name}").derived for name in "ab")
    assert [ds.SOPInstanceUID for ds in one.datasets] == [ds.SOPInstanceUID for ds in other.datasets]
