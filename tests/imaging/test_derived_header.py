"""What a derived image says about itself: every mark of its origin, and nothing that is no longer true."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import highdicom as hd
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import UID, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless

from spinepaint.imaging.derived import write_series
from spinepaint.imaging.mr_attributes import CLASSIC, ENHANCED, TYPE_2
from spinepaint.imaging.reading import read_series
from tests.imaging.painted import PROVENANCE, Painted, dcentvfy, dciodvfy, edit_of, paint
from tests.imaging.series_factory import make_series

SMALL: dict[str, Any] = {"slices": 5, "rows": 40, "columns": 33}


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Painted:
    folder = tmp_path_factory.mktemp("painted")
    make_series(folder / "in", **SMALL, oblique_deg=8.0)
    return paint(folder / "in", folder / "out")


def test_every_row_of_the_table_of_marks(painted: Painted) -> None:
    for source, path in zip(painted.volume.datasets, painted.derived.paths, strict=True):
        ds = dcmread(path)
        assert ds.preamble == b"\0" * 128
        assert list(ds.ImageType) == ["DERIVED", "SECONDARY", "OTHER"]
        assert ds["SyntheticData"].value == "YES"
        assert ds["SyntheticData"].VR == "CS"
        assert ds.ContentQualification == "RESEARCH"

        (equipment,) = ds.ContributingEquipmentSequence
        assert (equipment.Manufacturer, equipment.SoftwareVersions) == ("Spinepaint", "0.1.0")
        assert equipment.ManufacturerModelName
        assert _code(equipment.PurposeOfReferenceCodeSequence) == ("109100", "DCM", "Synthesizing Equipment")
        assert "phantom" in equipment.ContributionDescription
        assert PROVENANCE.bundle_sha256 in equipment.ContributionDescription

        assert _code(ds.DerivationCodeSequence) == ("123110", "DCM", "Artificial Intelligence")
        for word in ("disc herniation", "L4-L5", "(0.0, 4.5, -9.0) mm", "seed 7", "solver pndm"):
            assert word in ds.DerivationDescription
        (image,) = ds.SourceImageSequence
        assert (image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID) == (source.SOPClassUID, source.SOPInstanceUID)
        assert image.SpatialLocationsPreserved == "YES"
        assert _code(image.PurposeOfReferenceCodeSequence)[:2] == ("121322", "DCM")
        (series,) = ds.ReferencedSeriesSequence
        assert series.SeriesInstanceUID == source.SeriesInstanceUID
        assert [item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence] == [source.SOPInstanceUID]

        assert ds.StudyInstanceUID == source.StudyInstanceUID == painted.derived.study_uid
        assert ds.FrameOfReferenceUID == source.FrameOfReferenceUID
        assert ds.SeriesInstanceUID == painted.derived.series_uid != source.SeriesInstanceUID
        assert ds.SOPInstanceUID != source.SOPInstanceUID
        assert ds.SeriesNumber == source.SeriesNumber + 1000
        assert ds.SeriesDescription == "SYNTHETIC L4-L5 disc herniation, moderate large: t2_tse_sag"
        for keyword in ("PatientID", "PatientName", "StudyDate", "SeriesDate", "SeriesTime", "ContentDate", "ContentTime",
                        "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "WindowCenter", "WindowWidth",
                        "EchoTime", "RepetitionTime", "InstanceNumber"):  # fmt: skip
            assert ds[keyword].value == source[keyword].value


def _code(sequence: Sequence[Dataset]) -> tuple[str, str, str]:
    (item,) = sequence
    return item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning


def _request(ds: Dataset, _: int) -> None:
    item = Dataset()
    item.RequestedProcedureID = "R1"
    item.private_block(0x0045, "GEMS", create=True).add_new(0x01, "LO", "secret")
    ds.RequestAttributesSequence = [item]


def _vendor_values(ds: Dataset, index: int) -> None:
    """What real sources carry and an edited copy may not."""
    ds.private_block(0x0029, "SIEMENS CSA HEADER", create=True).add_new(0x10, "OB", b"secret")
    _request(ds, index)
    ds.add_new("SmallestImagePixelValue", "US", 3)
    ds.add_new("LargestImagePixelValue", "US", 4095)
    ds.PixelPresentation, ds.PresentationIntentType, ds.ConversionType = "MONOCHROME", "FOR PRESENTATION", "WSD"
    ds.QualityControlSubject = "YES"
    icon = Dataset()
    icon.Rows = icon.Columns = 1
    ds.IconImageSequence = [icon]
    ds.add_new(0x60000010, "US", 8)
    referenced = Dataset()
    referenced.ReferencedSOPClassUID, referenced.ReferencedSOPInstanceUID = ds.SOPClassUID, "1.2.3"
    ds.ReferencedImageSequence = [referenced]
    ds.PixelPaddingValue = 0
    ds.LossyImageCompression, ds.LossyImageCompressionRatio, ds.LossyImageCompressionMethod = "01", "8", "ISO_15444_1"
    ds.ImageType = ["DERIVED", "PRIMARY", "OTHER"]
    ds.preamble = b"#!/bin/sh" + b"\n" * 119


def test_vendor_values_and_other_iods_do_not_come_along(tmp_path: Path) -> None:
    make_series(tmp_path / "in", **SMALL, mutate=_vendor_values)
    result = paint(tmp_path / "in", tmp_path / "out")
    for path in result.derived.paths:
        raw, ds = path.read_bytes(), dcmread(path)
        assert b"secret" not in raw
        assert b"SIEMENS CSA" not in raw
        assert b"/bin/sh" not in raw
        assert not any(element.tag.is_private for element in ds.iterall())
        assert not any(element.tag.group >> 8 == 0x60 for element in ds)
        for keyword in ("SmallestImagePixelValue", "LargestImagePixelValue", "PixelPresentation", "PresentationIntentType",
                        "ConversionType", "QualityControlSubject", "IconImageSequence", "ReferencedImageSequence"):  # fmt: skip
            assert keyword not in ds
        assert ds.RequestAttributesSequence[0].RequestedProcedureID == "R1"
        assert ds.PixelPaddingValue == 0
        assert (ds.LossyImageCompression, ds.LossyImageCompressionRatio, ds.LossyImageCompressionMethod) == (
            "01",
            8,
            "ISO_15444_1",
        )
        assert dciodvfy(path) == []


def test_a_new_study_leaves_the_real_order_behind(tmp_path: Path) -> None:
    sources = make_series(tmp_path / "in", **SMALL, mutate=_request)
    result = paint(tmp_path / "in", tmp_path / "out", new_study=True)
    ds = dcmread(result.derived.paths[0])
    source = result.volume.datasets[0]
    assert ds.StudyInstanceUID == result.derived.study_uid != source.StudyInstanceUID
    assert ds.AccessionNumber == ""
    assert "RequestAttributesSequence" not in ds
    assert "ReferencedSeriesSequence" not in ds
    assert ds.FrameOfReferenceUID == source.FrameOfReferenceUID
    assert ds.PatientID == source.PatientID
    (study,) = ds.StudiesContainingOtherReferencedInstancesSequence
    assert study.StudyInstanceUID == source.StudyInstanceUID
    assert study.ReferencedSeriesSequence[0].SeriesInstanceUID == source.SeriesInstanceUID
    assert [c for path in result.derived.paths for c in dciodvfy(path)] == []
    assert dcentvfy(*sources, *result.derived.paths) == []


def test_what_a_research_release_stripped_is_put_in_empty(tmp_path: Path) -> None:
    def strip(ds: Dataset, _: int) -> None:
        for keyword in (*TYPE_2, "FrameOfReferenceUID", "SeriesNumber", "EchoTrainLength", "SeriesDescription"):
            ds.pop(keyword, None)
        ds.PatientName, ds.PatientID = "X^Y", "X"

    make_series(tmp_path / "in", **SMALL, mutate=strip)
    first, again = paint(tmp_path / "in", tmp_path / "out").derived, paint(tmp_path / "in", tmp_path / "b", version="2").derived
    ds = dcmread(first.paths[0])
    assert ds.StudyDate == ""
    assert ds.SeriesNumber == 1000
    assert ds["EchoTrainLength"].value is None
    assert ds.SeriesDescription == "SYNTHETIC L4-L5 disc herniation, moderate large"
    assert ds.FrameOfReferenceUID == again.datasets[-1].FrameOfReferenceUID
    assert [c for path in first.paths for c in dciodvfy(path) if "DICOMDIR" not in c] == []


def test_instance_numbers_that_repeat_are_counted_anew(tmp_path: Path) -> None:
    make_series(tmp_path / "in", **SMALL, mutate=lambda ds, _: setattr(ds, "InstanceNumber", 1))
    derived = paint(tmp_path / "in", tmp_path / "out").derived
    assert [ds.InstanceNumber for ds in derived.datasets] == [1, 2, 3, 4, 5]


def test_a_name_from_the_data_reaches_no_path_and_survives_its_character_set(tmp_path: Path) -> None:
    def name(ds: Dataset, _: int) -> None:
        ds.PatientName, ds.SeriesDescription = "Wäre^Anna", "../../größe"

    make_series(tmp_path / "in", **SMALL, mutate=name)
    derived = paint(tmp_path / "in", tmp_path / "out").derived
    assert [path.parent for path in derived.paths] == [tmp_path / "out"] * 5
    assert not any("Anna" in str(path) for path in tmp_path.rglob("*"))
    ds = dcmread(derived.paths[0])
    assert ds.PatientName == "Wäre^Anna"
    assert ds.SeriesDescription.endswith("../../größe"[: 64 - 50])
    assert dciodvfy(derived.paths[0]) == []


def test_every_kept_attribute_is_one_of_its_iod() -> None:
    standard = Path(hd.__file__).parent / "_standard"
    iods, modules = (json.loads((standard / f"{name}_map.json").read_text()) for name in ("iod_module", "module_attribute"))
    for iod, keywords in (("mr-image", CLASSIC), ("enhanced-mr-image", ENHANCED)):
        known = {a["keyword"] for module in iods[iod] for a in modules[module["key"]] if not a["path"]}
        assert keywords - known == set()


@pytest.mark.parametrize(
    ("syntax", "method"),
    [(JPEGBaseline8Bit, "ISO_10918_1"), (JPEGExtended12Bit, "ISO_10918_1"), (JPEGLSNearLossless, "ISO_14495_1")],
)
def test_a_source_that_came_lossy_and_does_not_say_so_is_called_lossy(tmp_path: Path, syntax: UID, method: str) -> None:
    make_series(tmp_path / "in", **SMALL)
    volume = read_series(tmp_path / "in").volume
    for ds in volume.datasets:
        ds.file_meta.TransferSyntaxUID = syntax
    edited, changed = edit_of(volume)
    derived = write_series(tmp_path / "out", volume, edited, changed, PROVENANCE)
    assert {(ds.LossyImageCompression, ds.LossyImageCompressionMethod) for ds in derived.datasets} == {("01", method)}


def test_a_series_that_was_never_lossy_is_not_called_so(painted: Painted) -> None:
    assert all("LossyImageCompression" not in ds for ds in painted.derived.datasets)


def test_an_earlier_contributor_is_kept_before_ours(tmp_path: Path) -> None:
    def deidentified(ds: Dataset, _: int) -> None:
        item, purpose = Dataset(), Dataset()
        purpose.CodeValue, purpose.CodingSchemeDesignator, purpose.CodeMeaning = "109104", "DCM", "De-identifying Equipment"
        item.Manufacturer, item.PurposeOfReferenceCodeSequence = "Other", [purpose]
        ds.ContributingEquipmentSequence = [item]

    make_series(tmp_path / "in", **SMALL, mutate=deidentified)
    for ds in paint(tmp_path / "in", tmp_path / "out").derived.datasets:
        assert [item.Manufacturer for item in ds.ContributingEquipmentSequence] == ["Other", "Spinepaint"]


def test_words_of_any_bundle_fit_their_attributes(tmp_path: Path) -> None:
    make_series(tmp_path / "in", **SMALL)
    spec = {**PROVENANCE.spec, "method": "weighted\\\n" * 200}
    result = paint(
        tmp_path / "in", tmp_path / "out", bundle_name="Bündel\\x" * 300, version="1.2.3.dev4+g0123456789abcdef" * 4, spec=spec
    )
    assert [c for path in result.derived.paths for c in dciodvfy(path)] == []
    assert dcentvfy(*(tmp_path / "in").iterdir(), *result.derived.paths) == []
