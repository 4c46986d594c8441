"""What makers, exports and research releases do to a series, and that the series is read all the same."""

from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, FileDataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    JPEG2000,
    BasicTextSRStorage,
    DeflatedExplicitVRLittleEndian,
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSNearLossless,
    MediaStorageDirectoryStorage,
    RawDataStorage,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from spinepaint.imaging.reading import check, read_series
from spinepaint.imaging.volume import Volume
from tests.imaging.enhanced_factory import make_enhanced
from tests.imaging.refusals import assign, refused
from tests.imaging.series_factory import decimal, make_series

REAL = Path(__file__).parents[2] / "data" / "real_t2"


def same(one: Volume, other: Volume) -> None:
    np.testing.assert_array_equal(one.stored, other.stored)
    np.testing.assert_array_equal(one.voxels, other.voxels)
    np.testing.assert_allclose(one.affine, other.affine, atol=1e-6)


def add_philips_elements(ds: Dataset, index: int = 0) -> None:
    """A scale of its own, and a stack whose centre is half a voxel off the public position."""
    ds.Manufacturer = "Philips Medical Systems"
    ds.private_block(0x2005, "Philips MR Imaging DD 001", create=True).add_new(0x0E, "FL", 0.0123 * (index + 1))
    stack = Dataset()
    block = stack.private_block(0x2005, "Philips MR Imaging DD 001", create=True)
    for element, offset in ((0x78, 0.45), (0x79, 0.45), (0x7A, 2.2)):
        block.add_new(element, "FL", offset)
    ds.private_block(0x2001, "Philips Imaging DD 001", create=True).add_new(0x5F, "SQ", [stack])


def test_private_positions_and_scales_of_philips_decide_nothing(tmp_path: Path) -> None:
    options = {"slices": 6, "rows": 32, "columns": 32, "slope": 2.5, "intercept": -3.0}
    make_series(tmp_path / "plain", **options)
    make_series(tmp_path / "philips", mutate=add_philips_elements, **options)
    plain, philips = read_series(tmp_path / "plain"), read_series(tmp_path / "philips")
    same(plain.volume, philips.volume)
    assert (plain.warnings, philips.warnings) == ((), ())


def test_slices_that_ge_doubled_by_interpolation_are_taken_with_a_warning(tmp_path: Path) -> None:
    def interpolate(ds: Dataset, index: int) -> None:
        ds.Manufacturer, ds.ScanOptions = "GE MEDICAL SYSTEMS", ["FAST_GEMS", "FILTERED_GEMS", "ZIP2_GEMS"]
        ds.SliceThickness, ds.SpacingBetweenSlices = "4.4", "2.2"

    make_series(tmp_path, slices=10, rows=32, columns=32, spacing_mm=(2.2, 0.9, 0.9), mutate=interpolate)
    series = read_series(tmp_path)
    assert series.volume.spacing == pytest.approx((2.2, 0.9, 0.9))
    assert [note for note in series.warnings if "overlap" in note] == list(series.warnings) != []


def test_a_classic_export_of_siemens_xa_is_read_by_what_it_still_says(tmp_path: Path) -> None:
    def strip(ds: Dataset, index: int) -> None:
        ds.Manufacturer, ds.SoftwareVersions = "Siemens Healthineers", "syngo MR XA30"
        ds.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MFSPLIT"]
        for keyword in ("SequenceName", "ScanningSequence", "SequenceVariant", "ScanOptions", "EchoTrainLength", "ImagedNucleus"):
            delattr(ds, keyword)

    make_series(tmp_path / "whole", slices=6, rows=32, columns=32)
    make_series(tmp_path / "export", slices=6, rows=32, columns=32, mutate=strip)
    export = read_series(tmp_path / "export")
    same(read_series(tmp_path / "whole").volume, export.volume)
    assert export.warnings == ()


@pytest.mark.parametrize("broken", ["constant", "reversed", "out of range", "absent"])
def test_an_unreliable_dimension_index_is_not_relied_on(tmp_path: Path, broken: str) -> None:
    order = [4, 0, 3, 1, 5, 2]

    def spoil(ds: Dataset) -> None:
        ds.Manufacturer = "CANON_MEC"
        for number, group in enumerate(ds.PerFrameFunctionalGroupsSequence):
            content = group.FrameContentSequence[0]
            del content.InStackPositionNumber
            values = {"constant": [1, 1], "reversed": [6 - number, 1], "out of range": [4000 + number, 0]}
            if broken == "absent":
                del content.DimensionIndexValues
            else:
                content.DimensionIndexValues = values[broken]
        if broken == "absent":
            del ds.DimensionIndexSequence

    options = {"slices": 6, "rows": 32, "columns": 32, "frame_order": order}
    sound = make_enhanced(tmp_path / "sound.dcm", **options)
    spoilt = make_enhanced(tmp_path / "spoilt.dcm", mutate=spoil, **options)
    same(read_series(sound).volume, read_series(spoilt).volume)


def test_gaps_between_slices_are_no_fault(tmp_path: Path) -> None:
    make_series(tmp_path, slices=6, rows=32, columns=32, mutate=lambda ds, _: assign(SliceThickness="3.0")(ds))
    series = read_series(tmp_path)
    assert series.volume.spacing[0] == pytest.approx(4.4)
    assert series.warnings == ()


def test_everything_that_research_releases_strip_is_warned_of_once_each(tmp_path: Path) -> None:
    for path in make_series(tmp_path, slices=5, rows=32, columns=32):
        ds = dcmread(path)
        for keyword in ("Modality", "SOPClassUID", "EchoTime", "RepetitionTime", "Manufacturer", "PatientName", "PatientID"):
            delattr(ds, keyword)
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.save_as(path, enforce_file_format=False)
    warnings = read_series(tmp_path).warnings
    for said in ("The Modality is missing", "The SOP Class is missing", "TE or TR is missing"):
        assert len([warning for warning in warnings if said in warning]) == 1
    assert len(warnings) == 3


@pytest.mark.parametrize("syntax", [JPEG2000, JPEGLSNearLossless])
def test_pixels_compressed_with_loss_are_taken_with_a_warning(tmp_path: Path, syntax: str) -> None:
    def compress(path: Path) -> None:
        ds = dcmread(path)
        options = {"j2k_cr": [2]} if syntax == JPEG2000 else {"jls_error": 2}
        ds.compress(syntax, generate_instance_uid=False, **options)
        ds.save_as(path)

    paths = make_series(tmp_path, slices=5, rows=32, columns=32)
    exact = read_series(tmp_path).volume.stored.astype(int)
    for path in paths:
        compress(path)
    series = read_series(tmp_path)
    assert [note for note in series.warnings if "with loss" in note]
    assert 0 < np.abs(series.volume.stored - exact).max() < 0.1 * exact.max()


def test_loss_that_was_undone_before_is_warned_of_too(tmp_path: Path) -> None:
    make_series(tmp_path, slices=5, rows=32, columns=32, mutate=lambda ds, _: assign(LossyImageCompression="01")(ds))
    (warning,) = read_series(tmp_path).warnings
    assert "with loss" in warning


def test_jpeg_lossless_of_any_predictor_is_read(tmp_path: Path) -> None:
    """First-order prediction is one of those that the more general transfer syntax allows."""
    make_series(tmp_path / "first", slices=5, rows=32, columns=32, transfer_syntax=JPEGLosslessSV1)
    for path in make_series(tmp_path / "any", slices=5, rows=32, columns=32, transfer_syntax=JPEGLosslessSV1):
        ds = dcmread(path)
        ds.file_meta.TransferSyntaxUID = JPEGLossless
        ds.save_as(path)
    same(read_series(tmp_path / "first").volume, read_series(tmp_path / "any").volume)


def write_other(path: Path, sop_class: str, *, syntax: str = ExplicitVRLittleEndian, **values: object) -> None:
    """A DICOM object that is no image of ours, of the same study."""
    ds = FileDataset("", {}, file_meta=FileMetaDataset(), preamble=b"\0" * 128)
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = sop_class
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = generate_uid()
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.3", generate_uid()
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    ds.save_as(path, enforce_file_format=True)


def test_what_else_lies_on_a_disc_is_left_out_and_named(tmp_path: Path) -> None:
    make_series(tmp_path / "t2", slices=5, rows=32, columns=32)
    write_other(tmp_path / "DICOMDIR", MediaStorageDirectoryStorage)
    write_other(tmp_path / "report", BasicTextSRStorage, Modality="SR")
    write_other(tmp_path / "letter", EncapsulatedPDFStorage, EncapsulatedDocument=b"%PDF" + bytes(2**16))
    write_other(tmp_path / "screen", SecondaryCaptureImageStorage, Modality="OT")
    write_other(tmp_path / "zipped-report", BasicTextSRStorage, syntax=DeflatedExplicitVRLittleEndian)
    write_other(tmp_path / "cut-raw", RawDataStorage, PatientComments="x" * 5000)
    cut = (tmp_path / "cut-raw").read_bytes()
    (tmp_path / "cut-raw").write_bytes(cut[: len(cut) - 4000])
    for name in ("Thumbs.db", ".DS_Store", "._slice.dcm", "autorun.inf", "viewer.exe", "index.htm"):
        (tmp_path / name).write_bytes(b"MZ" + bytes(200))
    report = check(tmp_path)
    assert report.accepted
    reasons = {entry.file: entry.reason for entry in report.files if entry.verdict == "ignored"}
    assert len(report.files) == 5 + 12
    assert reasons["DICOMDIR"] == "a DICOMDIR, which only lists other files"
    for name, kind in (("report", "Basic Text SR"), ("letter", "Encapsulated PDF"), ("screen", "Secondary Capture"),
                       ("zipped-report", "Basic Text SR"), ("cut-raw", "Raw Data")):  # fmt: skip
        assert kind in reasons[name]
    assert "Deflated" in reasons["zipped-report"]
    assert reasons["._slice.dcm"] == "a macOS resource file"
    assert reasons["Thumbs.db"] == reasons[".DS_Store"] == "a folder view's leftover"
    assert reasons["autorun.inf"] == reasons["viewer.exe"] == "not DICOM"
    assert report.warnings == ()


def test_a_localizer_of_three_planes_under_the_same_series_uid_is_named(tmp_path: Path) -> None:
    make_series(tmp_path / "t2", slices=7, rows=32, columns=32)
    planes = ([1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, -1])
    for number, orientation in enumerate(planes):
        ds = dcmread(next((tmp_path / "t2").iterdir()))
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        ds.ImageOrientationPatient = orientation
        ds.ImagePositionPatient = [decimal(-100.0)] * 3
        ds.save_as(tmp_path / "t2" / f"localizer{number}.dcm")
    refusal = refused(tmp_path)
    assert refusal.type == "mixed-orientation"
    assert {entry.file for entry in refusal.instances} == {"localizer0.dcm", "localizer1.dcm"}
    assert {entry.reason.split(",")[0] for entry in refusal.instances} == {"axial", "coronal"}


@pytest.mark.skipif(not REAL.is_dir(), reason="data/real_t2 is absent: it is not part of the project")
def test_real_sagittal_t2_series_are_certain() -> None:
    folders = sorted({path.parent for path in REAL.rglob("*.dcm")})
    assert len(folders) == 6
    for folder in folders:
        report = check(folder)
        assert report.accepted
        assert report.warnings == ()
        assert [series.reason for series in report.series] == ["sagittal, T2 by TE 101 ms and TR 5240 ms"]
