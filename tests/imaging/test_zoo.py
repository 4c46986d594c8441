"""Series of several makers, awkward to read: each gets the right verdict for the right reason, and the documents say which.

The zoo itself is no part of the project; a few of its smallest files are, in `foreign/`, so that the decoders meet streams that
other programs wrote wherever the tests run.
"""

import hashlib
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.uid import UID

from spinepaint.imaging.caps import DEFAULT_CAPS
from spinepaint.imaging.check_geometry import stack_frames
from spinepaint.imaging.check_pixels import check_pixels
from spinepaint.imaging.read_header import Header, read_header
from spinepaint.imaging.read_pixels import read_instance
from spinepaint.imaging.reading import check
from spinepaint.imaging.unpacking import DiskFile

ROOT = Path(__file__).parents[2]
ZOO = ROOT / "data" / "dicom_zoo"
FOREIGN = Path(__file__).parent / "foreign"
DOCUMENT = ROOT / "docs" / "5-dicom-input.md"
BEGIN, END = "<!-- zoo: made by tests/imaging/test_zoo.py -->\n", "<!-- end of zoo -->\n"

with_zoo = pytest.mark.skipif(not ZOO.is_dir(), reason="data/dicom_zoo is absent: it is not part of the project")

# What the headers show to whoever looks at them, and so what the reason has to name.
EXPECTED: dict[str, tuple[str, ...]] = {
    "ge": ("gradient echo", "TE 3.164 ms", "TI 900 ms"),
    "hitachi/anatomical/001": ("TE 12 ms is too short",),
    "hitachi/anatomical/001_implicit": ("TE 12 ms is too short",),
    "j2k": ("inversion recovery", "TI 2200 ms"),
    "jpeg": ("inversion recovery", "TI 2200 ms"),
    "jpegls": ("inversion recovery", "TI 2200 ms"),
    "philips": ("coronal", "inversion recovery", "TI 1650 ms"),
    "philips_enhanced": ("TE 3.133 ms is too short",),
    "rle": ("inversion recovery", "TI 2200 ms"),
    "siemens": ("inversion recovery", "TI 2200 ms"),
    "siemens_xa10_enhanced": ("axial", "echo-planar"),
    "siemens_xa30_sagittal_classic": ("echo-planar",),
    "siemens_xa30_sagittal_enhanced": ("echo-planar",),
}
# SHA-256 of the stored values, which GDCM, OpenJPEG, CharLS and pydicom agreed on when the files were put here.
SAME_SLICE = ("siemens-rle.dcm", "siemens-jpeg.dcm", "siemens-jpegls.dcm", "siemens-j2k.dcm")


def folders() -> list[Path]:
    return sorted({path.parent for path in ZOO.rglob("*.dcm")})


def header_of(path: Path) -> Header:
    return read_header(DiskFile(path, path.name), DEFAULT_CAPS)


def stored_values(path: Path) -> NDArray[np.integer]:
    header = header_of(path)
    check_pixels(header)
    return read_instance(header)[1]


@with_zoo
def test_every_directory_of_the_zoo_is_expected() -> None:
    assert [str(folder.relative_to(ZOO)) for folder in folders()] == sorted(EXPECTED)


@with_zoo
@pytest.mark.parametrize("name", EXPECTED)
def test_the_zoo_is_refused_for_the_right_reasons(name: str) -> None:
    report = check(ZOO / name)
    assert report.refusal is not None
    assert report.refusal.type == "no-sagittal-t2"
    (series,) = report.series
    assert series.verdict == "ignored"
    for part in EXPECTED[name]:
        assert part in series.reason
    assert {(entry.verdict, entry.reason) for entry in report.files} == {("ignored", f"its series: {series.reason}")}
    named = check(ZOO / name, series_uid=series.series_uid)
    assert named.refusal is not None
    assert named.refusal.type == "not-sagittal-t2"
    assert series.reason in named.refusal.detail


@with_zoo
def test_a_folder_of_two_series_and_nifti_files_gets_a_verdict_on_each() -> None:
    report = check(ZOO / "hitachi")
    assert len(report.series) == 2
    assert Counter(entry.reason for entry in report.files) == {"its series: TE 12 ms is too short for T2": 8, "not DICOM": 4}


@with_zoo
def test_every_file_of_the_zoo_can_be_decoded() -> None:
    for path in sorted(ZOO.rglob("*.dcm")):
        values = stored_values(path)
        ds = dcmread(path, stop_before_pixels=True)
        assert values.shape == (int(ds.get("NumberOfFrames", 1)), ds.Rows, ds.Columns)
        assert values.min() < values.max()


@with_zoo
def test_four_encodings_of_one_series_decode_to_the_same_values() -> None:
    for path in sorted((ZOO / "rle").iterdir()):
        values = {name: stored_values(ZOO / name / path.name) for name in ("rle", "jpeg", "jpegls", "j2k")}
        for other in values.values():
            np.testing.assert_array_equal(other, values["rle"])


@with_zoo
def test_the_classic_export_and_the_enhanced_image_of_one_acquisition_are_one_volume() -> None:
    """Siemens XA30 writes both; the order of files and frames is another, place and values are the same."""
    files = sorted((ZOO / "siemens_xa30_sagittal_classic").iterdir())
    classic = stack_frames([header_of(path) for path in files])
    (path,) = (ZOO / "siemens_xa30_sagittal_enhanced").iterdir()
    enhanced = stack_frames([header_of(path)])
    np.testing.assert_allclose(classic.affine, enhanced.affine, atol=1e-4)
    assert len(classic.frames) == len(enhanced.frames) == 63
    values, in_frames = {path.name: stored_values(path)[0] for path in files}, stored_values(path)
    for one, other in zip(classic.frames, enhanced.frames, strict=True):
        np.testing.assert_array_equal(values[one.header.file.name], in_frames[other.plane.frame])


@with_zoo
def test_the_document_has_the_zoo_as_it_is_judged_now() -> None:
    text = DOCUMENT.read_text()
    before, rest = text.split(BEGIN)
    committed, after = rest.split(END)
    table = zoo_table()
    if os.environ.get("SPINEPAINT_WRITE_DOCS"):
        DOCUMENT.write_text(before + BEGIN + table + END + after)
    assert committed == table, f"{DOCUMENT.name} is out of date: run this test with SPINEPAINT_WRITE_DOCS=1 and commit it"


def test_foreign_files_of_four_encodings_hold_the_same_slice() -> None:
    values = [stored_values(FOREIGN / name) for name in SAME_SLICE]
    for other in values[1:]:
        np.testing.assert_array_equal(other, values[0])
    assert values[0].shape == (1, 256, 256)
    assert hashlib.sha256(values[0].tobytes()).hexdigest().startswith("3c7dc53c7bb00803")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        *((name, "inversion recovery (TE 394 ms, TR 6000 ms, TI 2200 ms)") for name in SAME_SLICE),
        ("ge-signed.dcm", "an inversion-prepared gradient echo (TE 3.164 ms, TR 8.9 ms, TI 900 ms)"),
        ("philips-implicit.dcm", "coronal, not sagittal; inversion recovery (TE 386.754 ms, TR 4800 ms, TI 1650 ms)"),
        ("hitachi-signed.dcm", "TE 12 ms is too short for T2"),
    ],
)
def test_foreign_files_are_refused_for_the_right_reasons(name: str, reason: str) -> None:
    (series,) = check(FOREIGN / name).series
    assert series.verdict == "ignored"
    assert series.reason.startswith(reason)


@pytest.mark.parametrize("name", ["ge-signed.dcm", "hitachi-signed.dcm", "philips-implicit.dcm"])
def test_foreign_files_without_compression_hold_what_their_bytes_say(name: str) -> None:
    ds = dcmread(FOREIGN / name)
    kind = "<i2" if ds.PixelRepresentation else "<u2"
    raw = np.frombuffer(ds.PixelData, kind)[: ds.Rows * ds.Columns].reshape(1, ds.Rows, ds.Columns)
    np.testing.assert_array_equal(stored_values(FOREIGN / name), raw)


def zoo_table() -> str:
    """The zoo in Markdown: what the headers say, taken from them by pydicom alone, and the verdict."""
    lines = ["| directory | made by | encoding | slices | orientation | verdict |", "| --- | --- | --- | --- | --- | --- |"]
    for folder in folders():
        report = check(folder)
        files = sorted(folder.glob("*.dcm"))
        ds = dcmread(files[0], stop_before_pixels=True)
        slices = int(ds.get("NumberOfFrames", 1)) * len(files)
        enhanced = ", Enhanced" if "PerFrameFunctionalGroupsSequence" in ds else ""
        maker = f"{str(ds.Manufacturer).split()[0].title()} {ds.ManufacturerModelName}".replace("Ge ", "GE ")
        (series,) = report.series
        cells = (folder.relative_to(ZOO), maker, _encoding(ds) + enhanced, slices, _orientation(ds))
        lines.append(f"| {' | '.join(map(str, cells))} | {series.verdict}: {series.reason} |")
    return "\n".join(lines) + "\n"


def _encoding(ds: Dataset) -> str:
    name = UID(ds.file_meta.TransferSyntaxUID).name.split(",")[0].split(" Image")[0].replace(" VR Little Endian", " VR")
    return f"{name}, {ds.BitsStored} bits{' signed' if ds.PixelRepresentation else ''}"


def _orientation(ds: Dataset) -> str:
    groups = ds.get("PerFrameFunctionalGroupsSequence") or []
    holder = next((g.PlaneOrientationSequence[0] for g in groups if "PlaneOrientationSequence" in g), ds)
    if "ImageOrientationPatient" not in holder:
        holder = ds.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    row, column = np.reshape([float(v) for v in holder.ImageOrientationPatient], (2, 3))
    normal = np.abs(np.cross(row, column))
    axis = int(normal.argmax())
    return f"{('sagittal', 'coronal', 'axial')[axis]}, {np.degrees(np.arccos(min(1.0, normal[axis]))):.0f}° oblique"
