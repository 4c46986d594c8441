"""De-identified outputs hold nothing of what the source said about persons, places, devices and times."""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import DataElement, Dataset, dcmread
from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.sr.codedict import codes
from pydicom.uid import UID

from spinepaint.imaging.confidentiality import ACTIONS, HARMLESS_TEXTS, HARMLESS_VRS, cleaned
from spinepaint.imaging.deidentification import Pseudonyms, deidentified, deidentified_series
from spinepaint.imaging.derived import write_series
from spinepaint.imaging.errors import Refusal
from spinepaint.imaging.labels import write_edit_segmentation, write_measurement_report
from spinepaint.imaging.mr_attributes import CLASSIC, ENHANCED
from spinepaint.imaging.reading import read_series
from tests.imaging.enhanced_factory import make_enhanced
from tests.imaging.painted import PROVENANCE, dciodvfy, edit_of, entity_complaints
from tests.imaging.series_factory import make_series

SMALL: dict[str, Any] = {"slices": 5, "rows": 40, "columns": 33}
PERSON = ("Zwiebel", "19610203", "040411.5", "1961", "ZW-77")
TOLD = {"LO": "Zwiebel", "SH": "Zwiebel", "LT": "Zwiebel", "ST": "Zwiebel", "UT": "Zwiebel", "UC": "Zwiebel", "PN": "Zwiebel^Z",
        "DA": "19610203", "TM": "040411.5", "DT": "19610203040411.5", "AE": "Zwiebel", "AS": "061Y", "UI": "1.2.3.4.1961",
        "UR": "http://Zwiebel"}  # fmt: skip


def tell_everything(ds: Dataset, *_: object) -> None:
    """Put a person into every text, date and UID that a written MR image may have, and into sequences and private tags."""
    spared = {"SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID",
              "FrameOfReferenceUID", "ImagedNucleus", "RescaleType"}  # fmt: skip
    for keyword in (CLASSIC | ENHANCED) - spared - HARMLESS_TEXTS:
        vr = dictionary_VR(tag_for_keyword(keyword) or 0)
        if vr in TOLD:
            ds.add_new(keyword, vr, TOLD[vr])
        elif vr == "SQ" and keyword not in ds:
            ds.add_new(keyword, "SQ", [_told_item()])
    ds.PositionReferenceIndicator = "Zwiebel's spine"
    ds.PatientID, ds.IssuerOfPatientID, ds.PatientSex, ds.PatientBodyMassIndex = "ZW-77", "Zwiebel", "F", "19.61"
    ds.private_block(0x0029, "ZWIEBEL", create=True).add_new(0x10, "LO", "Zwiebel")


def _told_item() -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "T-1", "99LOCAL", "a local code"
    item.InstitutionName = item.OperatorsName = item.TextValue = "Zwiebel"
    item.DateTime, item.UID = "19610203040411.5", "1.2.3.4.1961"
    return item


def tell_enhanced(ds: Dataset) -> None:
    tell_everything(ds)
    for group in (ds.SharedFunctionalGroupsSequence[0], *ds.PerFrameFunctionalGroupsSequence):
        for element in list(group):
            for item in element.value if element.VR == "SQ" else []:
                item.FrameComments = item.ImageComments = item.FrameLabel = "Zwiebel"
                item.private_block(0x0029, "ZWIEBEL", create=True).add_new(0x10, "LO", "Zwiebel")
    for group in ds.PerFrameFunctionalGroupsSequence:
        group.FrameContentSequence[0].FrameReferenceDateTime = TOLD["DT"]
        group.FrameContentSequence[0].FrameAcquisitionDateTime = TOLD["DT"]


def write_all(source: Path, out: Path, key: str = "", **options: Any) -> list[Path]:
    """The series and its labels, de-identified."""
    series = deidentified_series(read_series(source), Pseudonyms(key))
    edited, changed = edit_of(series.volume)
    derived = write_series(out, series.volume, edited, changed, PROVENANCE, **options)
    write_edit_segmentation(out / "edit.dcm", derived, series.volume, changed, PROVENANCE)
    write_measurement_report(out / "report.dcm", derived, series.volume, PROVENANCE, {"canal_ap_after": 9.5})
    return [*derived.paths, out / "edit.dcm", out / "report.dcm"]


def _uids(ds: Dataset) -> Iterator[str]:
    for element in [*ds.file_meta, *ds.iterall()]:
        if element.VR == "UI" and element.value:
            yield from map(str, element.value if element.VM > 1 else [element.value])


@pytest.fixture(scope="module", params=["classic", "enhanced"])
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], list[Path]]:
    """A source that tells everything, and what was written of it."""
    folder = tmp_path_factory.mktemp("told")
    if request.param == "classic":
        sources = make_series(folder / "in", **SMALL, mutate=tell_everything)
    else:
        (folder / "in").mkdir()
        sources = [make_enhanced(folder / "in" / "a.dcm", **SMALL, mutate=tell_enhanced)]
    return sources, write_all(folder / "in", folder / "out")


def test_no_byte_of_the_output_is_about_the_person(told: tuple[list[Path], list[Path]]) -> None:
    sources, written = told
    assert all(word.encode() in sources[0].read_bytes() for word in PERSON)  # the test itself can fail
    for path in written:
        data = path.read_bytes()
        assert [word for word in PERSON if word.lower().encode() in data.lower()] == []


def test_no_uid_of_the_source_is_in_the_output(told: tuple[list[Path], list[Path]]) -> None:
    sources, written = told
    original = {uid for path in sources for uid in _uids(dcmread(path)) if not uid.startswith("1.2.840.10008.")}
    assert len(original) > 3
    assert not original & {uid for path in written for uid in _uids(dcmread(path))}


@pytest.mark.parametrize("new_study", [False, True])
@pytest.mark.parametrize("kind", ["classic", "enhanced"])
def test_the_objects_are_valid_and_agree(tmp_path: Path, kind: str, new_study: bool) -> None:
    if kind == "classic":
        sources = make_series(tmp_path / "in", **SMALL)
    else:
        (tmp_path / "in").mkdir()
        sources = [make_enhanced(tmp_path / "in" / "a.dcm", **SMALL)]
    written = write_all(tmp_path / "in", tmp_path / "out", new_study=new_study)
    assert [line for path in written for line in dciodvfy(path)] == []
    assert entity_complaints(*written) == []
    (study,) = {dcmread(path).StudyInstanceUID for path in written}
    assert (study == Pseudonyms().uid(dcmread(sources[0]).StudyInstanceUID)) == (not new_study)


def test_the_objects_say_that_they_are_deidentified_and_still_that_they_are_synthetic(
    told: tuple[list[Path], list[Path]],
) -> None:
    for path in told[1]:
        ds = dcmread(path)
        assert (ds.PatientIdentityRemoved, ds.LongitudinalTemporalInformationModified) == ("YES", "REMOVED")
        (code,) = ds.DeidentificationMethodCodeSequence
        assert (code.CodeValue, code.CodingSchemeDesignator) == ("113100", "DCM")
        assert code.CodeMeaning == codes.cid7050.BasicApplicationConfidentialityProfile.meaning
        assert "PS3.15" in ds.DeidentificationMethod
        assert re.fullmatch(r"SP-[0-9A-F]{12}", ds.PatientID)
        assert (str(ds.PatientName), ds.PatientBirthDate, ds.PatientSex) == (f"SYNTHETIC^{ds.PatientID}", "", "")
        assert (ds.SyntheticData, ds.ContentQualification) == ("YES", "RESEARCH")
        ours = ds.ContributingEquipmentSequence[-1]
        assert ours.PurposeOfReferenceCodeSequence[0].CodeValue == "109100"
        assert PROVENANCE.bundle_sha256 in ours.ContributionDescription
        assert not ds.get("PositionReferenceIndicator")
        if ds.Modality == "MR":
            assert ds.ImageType[0] == "DERIVED"
            assert ds.SeriesDescription == "SYNTHETIC L4-L5 disc herniation, moderate large"


def test_references_still_hold_together(told: tuple[list[Path], list[Path]]) -> None:
    sources, written = told
    objects = [dcmread(path) for path in written]
    assert len({ds.StudyInstanceUID for ds in objects}) == len({ds.FrameOfReferenceUID for ds in objects[:-1]}) == 1
    named = {uid for ds in objects for uid in _uids(ds)}
    pseudonyms = Pseudonyms()
    for source in map(dcmread, sources):
        assert {pseudonyms.uid(source.SOPInstanceUID), pseudonyms.uid(source.SeriesInstanceUID)} <= named
    assert objects[0].StudyInstanceUID == pseudonyms.uid(dcmread(sources[0]).StudyInstanceUID)


def test_the_pixels_and_the_geometry_stay(told: tuple[list[Path], list[Path]]) -> None:
    sources = told[0]
    volume = read_series(sources[0].parent).volume
    same = deidentified(volume, Pseudonyms())
    np.testing.assert_array_equal(same.stored, volume.stored)
    np.testing.assert_array_equal(same.affine, volume.affine)
    edit, changed = dcmread(told[1][-2]), edit_of(volume)[1]
    assert int(edit.pixel_array.sum()) == changed.sum()


def test_pseudonyms_follow_from_the_original_and_the_key(tmp_path: Path) -> None:
    make_series(tmp_path / "in", **SMALL)
    make_series(tmp_path / "other study", **SMALL, mutate=lambda ds, _: setattr(ds, "StudyInstanceUID", UID("1.2.3.9")))
    read = {
        (name, key, again): dcmread(write_all(tmp_path / name, tmp_path / f"{name}{key}{again}", key)[0])
        for name, key, again in (("in", "", 0), ("in", "", 1), ("in", "k", 0), ("other study", "", 0), ("other study", "k", 0))
    }
    assert (tmp_path / "in0" / "IM0001.dcm").read_bytes() == (tmp_path / "in1" / "IM0001.dcm").read_bytes()
    for keyword in ("PatientID", "StudyInstanceUID", "SOPInstanceUID"):
        values = {name: read[name][keyword].value for name in read}
        assert values["in", "", 0] != values["in", "k", 0]
    # With a key the studies of a patient stay together; without one a Patient ID could be found by trying all there are.
    assert read["in", "k", 0].PatientID == read["other study", "k", 0].PatientID
    assert read["in", "", 0].PatientID != read["other study", "", 0].PatientID


def test_burned_in_annotation_is_refused_by_its_instances(tmp_path: Path) -> None:
    def burn_in(ds: Dataset, index: int) -> None:
        ds.BurnedInAnnotation = "YES" if index == 2 else "NO"

    paths = make_series(tmp_path / "in", **SMALL, mutate=burn_in)
    volume = read_series(tmp_path / "in").volume
    with pytest.raises(Refusal) as raised:
        deidentified(volume, Pseudonyms())
    assert raised.value.type == "burned-in-annotation"
    assert [entry.sop_instance_uid for entry in raised.value.instances] == [volume.datasets[2].SOPInstanceUID]
    assert [entry.file for entry in raised.value.instances] == [paths[2].name]


@pytest.mark.parametrize("said", ["yes", "Y", "MAYBE", "some!", "YES\\NO"])
def test_whatever_does_not_deny_burned_in_annotation_is_taken_for_it(tmp_path: Path, said: str) -> None:
    make_series(tmp_path / "in", **SMALL, mutate=lambda ds, _: ds.add(DataElement(0x00280301, "LO", said)))
    with pytest.raises(Refusal) as raised:
        deidentified(read_series(tmp_path / "in").volume, Pseudonyms())
    assert raised.value.type == "burned-in-annotation"


def test_burned_in_annotation_that_is_denied_or_empty_passes(tmp_path: Path) -> None:
    def deny(ds: Dataset, index: int) -> None:
        ds.BurnedInAnnotation = ["NO", "no", "", None, "NO"][index]

    make_series(tmp_path / "in", **SMALL, mutate=deny)
    assert deidentified(read_series(tmp_path / "in").volume, Pseudonyms()).datasets


def test_a_text_is_not_kept_for_the_representation_that_its_file_gives_it(tmp_path: Path) -> None:
    def mutate(ds: Dataset, _: int) -> None:
        for keyword in ("PositionReferenceIndicator", "ProtocolName", "ImageComments", "OperatorsName"):
            ds.add(DataElement(tag_for_keyword(keyword) or 0, "CS", "ZWIEBEL"))
        item = Dataset()
        for tag in (0x00080104, 0x00089998):  # Code Meaning, and what no dictionary knows
            item.add(DataElement(tag, "CS", "ZWIEBEL"))
        ds.AnatomicRegionSequence = [item]

    make_series(tmp_path / "in", **SMALL, mutate=mutate)
    for ds in deidentified(read_series(tmp_path / "in").volume, Pseudonyms()).datasets:
        assert "ProtocolName" not in ds
        assert 0x00089998 not in ds.AnatomicRegionSequence[0]
    source = Dataset()
    mutate(source, 0)
    assert "ZWIEBEL" not in str(cleaned(source, UID))  # nor where nothing looked at it before


def test_an_earlier_deidentification_is_replaced_and_an_earlier_synthesiser_kept(tmp_path: Path) -> None:
    def earlier(ds: Dataset, _: int) -> None:
        ds.PatientIdentityRemoved, ds.DeidentificationMethod = "YES", "by Zwiebel"
        item, purpose = Dataset(), Dataset()
        purpose.CodeValue, purpose.CodingSchemeDesignator, purpose.CodeMeaning = "109100", "DCM", "Synthesizing Equipment"
        item.Manufacturer, item.InstitutionName, item.PurposeOfReferenceCodeSequence = "Other", "Zwiebel", [purpose]
        ds.ContributingEquipmentSequence = [item]

    make_series(tmp_path / "in", **SMALL, mutate=earlier)
    volume = deidentified(read_series(tmp_path / "in", allow_synthetic=True).volume, Pseudonyms())
    ds = volume.datasets[0]
    assert "Zwiebel" not in str(ds)
    assert ds.ContributingEquipmentSequence[0].Manufacturer == "Other"
    assert ds.ContributingEquipmentSequence[0].PurposeOfReferenceCodeSequence[0].CodeValue == "109100"


def test_what_the_reader_warned_of_loses_names_but_not_sense(tmp_path: Path) -> None:
    make_series(tmp_path / "in", **SMALL)
    series = read_series(tmp_path / "in")
    name = series.report.files[0].file
    told = (
        f"{name} was not opened (locked)",
        "The series 1.2.276.0.7230010.3.1 was left out",
        "t2_tse_sag is odd",
        "Slices overlap.",
    )
    assert deidentified_series(dataclasses.replace(series, warnings=told), Pseudonyms()).warnings == ("Slices overlap.",)


def test_the_table_is_the_standards() -> None:
    expected = {"PatientName": "empty", "PatientAge": "remove", "StudyInstanceUID": "uid", "FrameReferenceDateTime": "dummy",
                "AcquisitionDate": "empty", "StationName": "dummy", "ReferencedImageSequence": "uid"}  # fmt: skip
    assert {keyword: ACTIONS[tag_for_keyword(keyword) or 0] for keyword in expected} == expected
    assert len(ACTIONS) > 600


def test_whatever_the_table_knows_goes_and_so_does_every_text_that_nobody_knows() -> None:
    for tag, action in ACTIONS.items():
        vr = dictionary_VR(tag) if keyword_for_tag(tag) else "UN"
        if vr not in TOLD:
            continue
        for nested in (False, True):
            inner, outer = Dataset(), Dataset()
            inner.add(DataElement(tag, vr, TOLD[vr]))
            outer.PlanePositionSequence = [inner]
            clean = cleaned(outer if nested else inner, lambda uid: UID("2.25.1"))
            assert str(TOLD[vr]) not in str(clean), (keyword_for_tag(tag), action)
    unknown = Dataset()
    unknown.add_new(0x00089998, "LO", "Zwiebel")
    unknown.add_new(0x60003000, "OW", b"Zwiebel ")
    unknown.add_new(0x50000040, "LO", "Zwiebel")
    assert len(cleaned(unknown, UID)) == 0
    assert not {"LO", "SH", "PN", "DA", "TM", "DT", "UN", "OB", "OW"} & HARMLESS_VRS
