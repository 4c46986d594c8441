"""Each rule of our own check finds the fault it is for, and finds none in what is written."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ImplicitVRLittleEndian

from spinepaint.imaging.conformance import findings, main
from tests.imaging.enhanced_factory import make_enhanced
from tests.imaging.painted import paint
from tests.imaging.series_factory import make_series
from tests.imaging.test_labels import write_labels

Spoil = Callable[[Dataset], object]


@pytest.fixture
def output(tmp_path: Path) -> list[Path]:
    make_series(tmp_path / "in", slices=5, rows=32, columns=32)
    painted = paint(tmp_path / "in", tmp_path / "out")
    return [*painted.derived.paths, *write_labels(painted, tmp_path / "out")]


@pytest.fixture
def enhanced(tmp_path: Path) -> list[Path]:
    painted = paint(make_enhanced(tmp_path / "in.dcm", slices=5, rows=32, columns=32), tmp_path / "out")
    return [*painted.derived.paths, *write_labels(painted, tmp_path / "out")]


def spoil(path: Path, change: Spoil) -> None:
    ds = dcmread(path)
    change(ds)
    ds.save_as(path)


def put(**values: object) -> Spoil:
    return lambda ds: [setattr(ds, keyword, value) for keyword, value in values.items()]


def drop(keyword: str) -> Spoil:
    return lambda ds: ds.pop(keyword)


def recode(keyword: str, value: str, scheme: str = "DCM") -> Spoil:
    def change(ds: Dataset) -> None:
        item = next(item for item in ds.iterall() if item.keyword == keyword).value[0]
        item.CodeValue, item.CodingSchemeDesignator = value, scheme

    return change


def lengthen(ds: Dataset) -> None:
    ds.add_new("EchoTime", "DS", "102.00000000000000001")


def private(ds: Dataset) -> None:
    ds.private_block(0x0029, "VENDOR", create=True).add_new(0x10, "LO", "x")


IMAGE: list[tuple[Spoil, str]] = [
    (put(SyntheticData="RUBBISH"), "SyntheticData is 'RUBBISH', not 'YES'"),
    (drop("SyntheticData"), "SyntheticData is None"),
    (put(ContentQualification="PRODUCT"), "ContentQualification is 'PRODUCT'"),
    (drop("ContributingEquipmentSequence"), "no synthesizing equipment"),
    (lambda ds: ds.ContributingEquipmentSequence[0].pop("ContributionDescription"), "SHA-256"),
    (put(ImageType=["ORIGINAL", "PRIMARY", "OTHER"]), "Image Type is"),
    (put(SeriesDescription="t2_tse_sag"), "Series Description"),
    (drop("SourceImageSequence"), "names no source image"),
    (lambda ds: setattr(ds.SourceImageSequence[0], "SpatialLocationsPreserved", "NO"), "locations"),
    (drop("ReferencedSeriesSequence"), "common instance reference"),
    (drop("DerivationCodeSequence"), "how it was derived"),
    (recode("DerivationCodeSequence", "113100"), "not of CID 7203 or 7162"),
    (lambda ds: ds.DerivationCodeSequence[0].pop("CodeMeaning"), "lacks"),
    (lambda ds: recode("PurposeOfReferenceCodeSequence", "121322")(ds.ContributingEquipmentSequence[0]), "not of CID 7005"),
    (lambda ds: recode("PurposeOfReferenceCodeSequence", "99999")(ds.SourceImageSequence[0]), "in no dictionary"),
    (recode("DerivationCodeSequence", "x", "99MINE"), "not of CID 7203 or 7162"),
    (recode("DerivationCodeSequence", "x", "MINE"), "is unknown"),
    (lengthen, "a value of 21 bytes, more than a DS may have"),
    (private, "is private"),
    (lambda ds: ds.add_new("SmallestImagePixelValue", "US", 3), "SmallestImagePixelValue does not belong"),
    (put(ConversionType="WSD"), "ConversionType does not belong"),
    (put(HighBit=15), "do not go together"),
    (put(FrameOfReferenceUID="1.2.3"), "several frames of reference"),
    (put(LossyImageCompression="01"), "without a ratio or a method"),
    (put(LossyImageCompressionRatio="4"), "does not say that it is lossy"),
    (
        put(LossyImageCompression="01", LossyImageCompressionRatio=["2", "3"], LossyImageCompressionMethod="ISO_15444_1"),
        "other numbers of lossy",
    ),
    (put(PatientIdentityRemoved="YES"), "nothing says how"),
    (put(DeidentificationMethod="by hand"), "Patient Identity Removed denies"),
    (put(StudyInstanceUID="1.2.3"), "differ in StudyInstanceUID"),
    (put(PatientID="another"), "differ in PatientID"),
    (put(InstanceNumber=2), "share their InstanceNumber"),
    (put(AcquisitionUID="1.2.03"), "AcquisitionUID is not a valid UID"),
]


@pytest.mark.parametrize(("change", "words"), IMAGE, ids=[words for _, words in IMAGE])
def test_each_fault_of_an_image_is_found(output: list[Path], change: Spoil, words: str) -> None:
    assert findings(output) == []
    spoil(output[0], change)
    assert any(words in finding for finding in findings(output))


def test_faults_of_the_file_are_found(output: list[Path]) -> None:
    output[1].write_bytes(b"#!" + output[1].read_bytes()[2:])
    ds = dcmread(output[2])
    ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    ds.save_as(output[2], implicit_vr=True, little_endian=True)
    spoil(output[3], lambda ds: setattr(ds.file_meta, "MediaStorageSOPInstanceUID", "1.2.3"))
    assert findings(output) == [
        "IM0002.dcm: the preamble is not zeroed",
        "IM0003.dcm: the transfer syntax is not explicit VR little endian",
        "IM0004.dcm: the file meta information names another object",
    ]


def test_faults_between_objects_are_found(output: list[Path]) -> None:
    uid = dcmread(output[0]).SOPInstanceUID
    spoil(output[1], put(SOPInstanceUID=uid))
    assert any("2 objects have the SOP Instance UID" in finding for finding in findings(output))


@pytest.mark.parametrize("label", [-2, -1])
def test_a_label_about_other_images_is_found(output: list[Path], label: int) -> None:
    def elsewhere(ds: Dataset) -> None:
        studies = ds.get("CurrentRequestedProcedureEvidenceSequence", [ds])
        series = studies[0].ReferencedSeriesSequence[0]
        items = series.get("ReferencedSOPSequence") or series.ReferencedInstanceSequence
        items[0].ReferencedSOPInstanceUID = "1.2.3"

    spoil(output[label], elsewhere)
    assert any("names other images" in finding for finding in findings(output))


def test_private_codes_are_a_sources_right_and_a_labels_fault(output: list[Path]) -> None:
    region = Dataset()
    region.CodeValue, region.CodingSchemeDesignator, region.CodeMeaning = "A-1", "99VENDOR", "spine"
    spoil(output[0], put(AnatomicRegionSequence=[region]))
    assert findings(output) == []
    spoil(output[-2], lambda ds: recode("AnatomicRegionSequence", "A-1", "99VENDOR")(ds.SegmentSequence[0]))
    assert findings(output) == ["edit.dcm: AnatomicRegionSequence: a code is of a private scheme"]


def test_faults_of_an_enhanced_image_are_found(enhanced: list[Path]) -> None:
    assert findings(enhanced) == []
    spoil(enhanced[0], lambda ds: ds.PerFrameFunctionalGroupsSequence[2].pop("DerivationImageSequence"))
    assert findings(enhanced) == [f"{enhanced[0].name}: not every frame says how it was derived"]


def test_faults_against_the_source_are_found(output: list[Path], tmp_path: Path) -> None:
    sources = [dcmread(path) for path in (tmp_path / "in").iterdir()]
    assert findings(output, sources) == []
    for ds in sources:
        ds.LossyImageCompression, ds.FrameOfReferenceUID = "01", "1.2.3"
    sources[0].SOPInstanceUID = dcmread(output[0]).SOPInstanceUID
    found = findings(output, sources)
    for words in ("the SOPInstanceUID of a source", "not the source's", "does not say so"):
        assert any(words in finding for finding in found)


def test_it_runs_as_a_command(output: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["conformance", str(output[0].parent)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert (ended.value.code, capsys.readouterr().out) == (False, "nothing found\n")
    spoil(output[0], put(SyntheticData="NO"))
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code


def test_a_folder_without_objects_is_no_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        monkeypatch.setattr("sys.argv", ["conformance", str(folder)])
        with pytest.raises(SystemExit, match="no DICOM files"):
            main()
