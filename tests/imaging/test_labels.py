"""The segmentation and the report: valid, in place, about the synthetic series, and the same each time."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom import Dataset, dcmread

from spinepaint.imaging.derived import write_series
from spinepaint.imaging.labels import write_edit_segmentation, write_measurement_report
from spinepaint.imaging.provenance import Provenance
from spinepaint.imaging.vocabulary import FSU_CODES, PATHOLOGY_CODES, SEVERITIES, SEVERITY_CODES, Pathology, Severity
from tests.imaging.enhanced_factory import make_enhanced
from tests.imaging.painted import PROVENANCE, Painted, dcentvfy, dciodvfy, entity_complaints, paint
from tests.imaging.series_factory import make_series

MEASUREMENTS = {"canal_ap_before": 14.25, "canal_ap_after": 9.5, "protrusion_after": 4.5}


def write_labels(painted: Painted, folder: Path, provenance: Provenance = PROVENANCE) -> tuple[Path, Path]:
    edit, report = folder / "edit.dcm", folder / "report.dcm"
    write_edit_segmentation(edit, painted.derived, painted.volume, painted.changed, provenance)
    write_measurement_report(report, painted.derived, painted.volume, provenance, MEASUREMENTS)
    return edit, report


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Painted:
    folder = tmp_path_factory.mktemp("labels")
    make_series(folder / "in", slices=6, rows=48, columns=40, oblique_deg=12.0)
    return paint(folder / "in", folder / "out")


@pytest.fixture(scope="module")
def enhanced(tmp_path_factory: pytest.TempPathFactory) -> Painted:
    folder = tmp_path_factory.mktemp("enhanced")
    make_enhanced(folder / "in.dcm", slices=6, rows=48, columns=40, frame_order=(2, 0, 1, 5, 4, 3))
    return paint(folder / "in.dcm", folder / "out")


@pytest.mark.parametrize(("pathology", "severity"), [(p, s) for p, severities in SEVERITIES.items() for s in severities])
@pytest.mark.parametrize("kind", ["painted", "enhanced"])
def test_both_labels_of_every_condition_are_valid(
    tmp_path: Path, request: pytest.FixtureRequest, kind: str, pathology: Pathology, severity: Severity
) -> None:
    source: Painted = request.getfixturevalue(kind)
    edit, report = write_labels(source, tmp_path, replace(PROVENANCE, pathology=pathology, severity=severity))
    assert dciodvfy(edit) == []
    assert dciodvfy(report) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["edit.dcm", "report.dcm"]


def test_the_labels_and_the_series_agree_about_patient_and_study(tmp_path: Path, painted: Painted) -> None:
    edit, report = write_labels(painted, tmp_path)
    assert entity_complaints(*painted.derived.paths, edit, report) == []
    complaints = dcentvfy(*painted.derived.paths, edit, report)
    missing = {line.split(" - ")[2].split(" ")[0] for line in complaints if "Missing SOPInstanceUID" in line}
    assert missing == {ds.SOPInstanceUID for ds in painted.volume.datasets}  # the source, which was not handed over


@pytest.mark.parametrize("kind", ["painted", "enhanced"])
def test_the_segmentation_lies_where_the_edit_was(tmp_path: Path, request: pytest.FixtureRequest, kind: str) -> None:
    source: Painted = request.getfixturevalue(kind)
    edit, _ = write_labels(source, tmp_path)
    segmentation = hd.seg.segread(edit)
    volume = segmentation.get_volume(combine_segments=True)
    # Independent of the order of slices: every voxel of the segmentation, carried into the source by patient millimetres.
    inside = np.argwhere(volume.array > 0).astype(float)
    points = volume.map_indices_to_reference(inside)
    index = np.rint(source.volume.to_index(points)).astype(int)
    np.testing.assert_allclose(source.volume.to_patient(index.astype(float)), points, atol=1e-3)
    found = np.zeros_like(source.changed)
    found[tuple(index.T)] = True
    np.testing.assert_array_equal(found, source.changed)
    assert segmentation.NumberOfFrames == source.changed.any(axis=(1, 2)).sum()  # empty frames are left out


def test_the_segmentation_says_what_it_is(tmp_path: Path, painted: Painted) -> None:
    edit, _ = write_labels(painted, tmp_path)
    ds = dcmread(edit)
    assert (ds.Modality, ds.SegmentationType) == ("SEG", "BINARY")
    assert (ds.SyntheticData, ds.ContentQualification) == ("YES", "RESEARCH")
    assert ds.ContributingEquipmentSequence[0].PurposeOfReferenceCodeSequence[0].CodeValue == "109100"
    assert ds.FrameOfReferenceUID == painted.volume.datasets[0].FrameOfReferenceUID
    (segment,) = ds.SegmentSequence
    assert segment.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == PATHOLOGY_CODES[PROVENANCE.pathology].meaning
    assert segment.AnatomicRegionSequence[0].CodeValue == FSU_CODES[PROVENANCE.fsu].value
    assert PROVENANCE.bundle_sha256 in segment.SegmentationAlgorithmIdentificationSequence[0].AlgorithmParameters
    assert segment.SegmentationAlgorithmIdentificationSequence[0].AlgorithmFamilyCodeSequence[0].CodeValue == "123110"
    used = {
        item.ReferencedSOPInstanceUID
        for group in ds.PerFrameFunctionalGroupsSequence
        for item in group.DerivationImageSequence[0].SourceImageSequence
    }
    assert used == {d.SOPInstanceUID for d, mask in zip(painted.derived.datasets, painted.changed, strict=True) if mask.any()}


def _tree(ds: Dataset) -> Iterator[Dataset]:
    yield ds
    for item in ds.get("ContentSequence", []):
        yield from _tree(item)


def _named(item: Dataset, code: str) -> list[Dataset]:
    return [child for child in item.get("ContentSequence", []) if child.ConceptNameCodeSequence[0].CodeValue == code]


def lengths(items: list[Dataset]) -> dict[tuple[str, str, str], float]:
    """Every length of a report in mm, by time point, name and site."""
    found = {}
    for group in (item for item in items if _named(item, "C2348792")):  # Time Point, UMLS
        for item in group.ContentSequence:
            if item.ValueType == "NUM" and item.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue == "mm":
                name = item.ConceptNameCodeSequence[0].CodeValue
                (site,) = _named(item, "363698007")
                key = (_named(group, "C2348792")[0].TextValue, name, site.ConceptCodeSequence[0].CodeValue)
                found[key] = float(item.MeasuredValueSequence[0].NumericValue)
    return found


def test_every_code_is_one_that_any_reader_knows(tmp_path: Path, painted: Painted) -> None:
    for path in write_labels(painted, tmp_path):
        schemes = {str(element.value) for element in dcmread(path).iterall() if element.keyword == "CodingSchemeDesignator"}
        assert schemes <= {"SCT", "DCM", "UCUM", "UMLS", "I10", "RFC5646"}


@pytest.mark.parametrize("kind", ["painted", "enhanced"])
def test_the_report_says_pathology_severity_level_landmark_and_measures(
    tmp_path: Path, request: pytest.FixtureRequest, kind: str
) -> None:
    source: Painted = request.getfixturevalue(kind)
    _, path = write_labels(source, tmp_path)
    report = hd.sr.srread(path)
    assert (report.SyntheticData, report.ContentQualification, report.Modality) == ("YES", "RESEARCH", "SR")
    items = list(_tree(dcmread(path)))
    (group,) = [item for item in items if _named(item, "121071")]
    codes = {
        item.ConceptNameCodeSequence[0].CodeValue: item.ConceptCodeSequence[0]
        for item in group.ContentSequence
        if item.ValueType == "CODE"
    }
    # Finding (121071, DCM), Severity (246112005, SCT), Finding Site (363698007, SCT)
    assert codes["121071"].CodeMeaning == PATHOLOGY_CODES[PROVENANCE.pathology].meaning
    assert codes["246112005"].CodeMeaning == SEVERITY_CODES[PROVENANCE.severity].meaning
    assert codes["363698007"].CodeValue == FSU_CODES[PROVENANCE.fsu].value

    points = [item for item in items if item.get("ValueType") == "SCOORD3D"]
    assert len(points) == 2  # one a time point, at the same place
    for point in points:
        assert point.GraphicType == "POINT"
        np.testing.assert_allclose(point.GraphicData, PROVENANCE.landmark_lps_mm, atol=1e-4)
        assert point.ReferencedFrameOfReferenceUID == source.derived.datasets[0].FrameOfReferenceUID

    assert lengths(items) == {
        ("after the edit", "131197000", "61853006"): 9.5,  # Depth of the Vertebral canal
        ("after the edit", "121206", FSU_CODES[PROVENANCE.fsu].value): 4.5,  # Distance, of the disc
        ("before the edit", "131197000", "61853006"): 14.25,
    }
    middle = len(source.derived.stored) // 2
    (image,) = {
        (item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID, item.ReferencedSOPSequence[0].get("ReferencedFrameNumber"))
        for item in items
        if item.get("ValueType") == "IMAGE"
    }
    slices = source.volume.to_index(np.array(PROVENANCE.landmark_lps_mm))
    assert round(slices[0]) in (middle - 1, middle)
    on = source.derived.datasets[0 if kind == "enhanced" else round(slices[0])]
    assert image == (on.SOPInstanceUID, round(slices[0]) + 1 if kind == "enhanced" else None)
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    (series,) = study.ReferencedSeriesSequence
    assert (study.StudyInstanceUID, series.SeriesInstanceUID) == (source.derived.study_uid, source.derived.series_uid)
    named = {item.ReferencedSOPInstanceUID for item in series.ReferencedSOPSequence}
    assert named == {ds.SOPInstanceUID for ds in source.derived.datasets}


def test_a_repeat_gives_the_same_bytes_and_no_clock_is_read(tmp_path: Path, painted: Painted) -> None:
    first, again = write_labels(painted, tmp_path / "a"), write_labels(painted, tmp_path / "b")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    for path in first:
        ds = dcmread(path)
        dates = {str(element.value) for element in ds.iterall() if element.VR in ("DA", "DT") and element.value}
        assert dates <= {"20200102", "19700101"}  # the source's study and the patient's birth
        assert ds.ContentDate == "20200102"


def test_series_numbers_and_uids_do_not_collide(tmp_path: Path, painted: Painted) -> None:
    objects = [painted.volume.datasets[0], painted.derived.datasets[0], *map(dcmread, write_labels(painted, tmp_path))]
    for keyword in ("SeriesInstanceUID", "SOPInstanceUID", "SeriesNumber"):
        assert len({str(ds[keyword].value) for ds in objects}) == 4
    assert len({ds.StudyInstanceUID for ds in objects}) == 1


def test_values_that_highdicom_would_refuse_come_through_as_they_are(tmp_path: Path) -> None:
    def odd(ds: Dataset, _: int) -> None:
        ds.PatientSex, ds.PatientName, ds.StudyTime = "U", "Größe", ""
        ds.pop("ContentDate")
        ds.pop("ContentTime")

    make_series(tmp_path / "in", slices=5, rows=40, columns=40, mutate=odd)
    for path in write_labels(paint(tmp_path / "in", tmp_path / "out"), tmp_path / "labels"):
        ds = dcmread(path)
        assert (ds.PatientSex, str(ds.PatientName), ds.StudyTime) == ("U", "Größe", "")
        assert (ds.ContentDate, ds.ContentTime) == ("20200102", "101213")


def test_a_report_without_measures_is_still_a_report(tmp_path: Path, painted: Painted) -> None:
    write_measurement_report(tmp_path / "report.dcm", painted.derived, painted.volume, PROVENANCE, {})
    assert dciodvfy(tmp_path / "report.dcm") == []


def test_what_cannot_be_labelled_is_refused_and_leaves_nothing(tmp_path: Path, painted: Painted) -> None:
    volume, derived = painted.volume, painted.derived
    with pytest.raises(ValueError, match="empty"):
        write_edit_segmentation(tmp_path / "edit.dcm", derived, volume, np.zeros_like(painted.changed), PROVENANCE)
    with pytest.raises(ValueError, match="shape"):
        write_edit_segmentation(tmp_path / "edit.dcm", derived, volume, painted.changed[1:], PROVENANCE)
    away = replace(PROVENANCE, landmark_lps_mm=(500.0, 0.0, 0.0))
    with pytest.raises(ValueError, match="outside the series"):
        write_measurement_report(tmp_path / "report.dcm", derived, volume, away, MEASUREMENTS)
    with pytest.raises(ValueError, match="finite"):
        write_measurement_report(tmp_path / "report.dcm", derived, volume, PROVENANCE, {"canal_ap_after": float("nan")})
    for unknown in ("canal_ap", "canal_ap_sometimes", "width_after"):
        with pytest.raises(ValueError, match="has a code"):
            write_measurement_report(tmp_path / "report.dcm", derived, volume, PROVENANCE, {unknown: 1.0})
    assert list(tmp_path.iterdir()) == []


def test_an_untouched_series_can_be_written_but_not_segmented(tmp_path: Path, painted: Painted) -> None:
    nothing = np.zeros_like(painted.changed)
    derived = write_series(tmp_path, painted.volume, painted.edited, nothing, PROVENANCE)
    np.testing.assert_array_equal(derived.stored, painted.volume.stored)
    with pytest.raises(ValueError, match="empty"):
        write_edit_segmentation(tmp_path / "edit.dcm", derived, painted.volume, nothing, PROVENANCE)


def test_a_series_without_slice_thickness_is_labelled_too(tmp_path: Path) -> None:
    make_series(tmp_path / "in", slices=5, rows=40, columns=40, mutate=lambda ds, _: ds.pop("SliceThickness"))
    for path in write_labels(paint(tmp_path / "in", tmp_path / "out"), tmp_path / "labels"):
        assert dciodvfy(path) == []


@pytest.mark.parametrize(("verified", "said"), [(True, ["52101004"]), (False, ["42425007"]), (None, [])])
def test_the_report_says_whether_the_finding_was_seen(
    tmp_path: Path, painted: Painted, verified: bool | None, said: list[str]
) -> None:
    path = tmp_path / "report.dcm"
    write_measurement_report(path, painted.derived, painted.volume, PROVENANCE, MEASUREMENTS, verified=verified)
    contexts = [context for item in _tree(dcmread(path)) for context in _named(item, "111012")]
    assert [context.ConceptCodeSequence[0].CodeValue for context in contexts] == said
