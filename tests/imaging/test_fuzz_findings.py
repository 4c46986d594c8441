"""What the fuzzer found, each made again from a sound file."""

import struct
import zipfile
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import JPEGLosslessSV1, JPEGLSLossless, SecondaryCaptureImageStorage

from spinepaint.imaging.reading import check
from tests.imaging.bounded import refusal_within
from tests.imaging.refusals import refused
from tests.imaging.series_factory import make_series


@pytest.mark.parametrize(("keyword", "vr"), [((0x0028, 0x0030), b"FD"), ((0x0008, 0x0060), b"UL"), ((0x0008, 0x0005), b"SL")])
def test_a_value_that_is_no_multiple_of_its_vr(tmp_path: Path, keyword: tuple[int, int], vr: bytes) -> None:
    """pydicom raises an error of its own kind, which is neither a ValueError nor a LookupError."""
    path = make_series(tmp_path, slices=5, rows=32, columns=32)[2]
    content = path.read_bytes()
    at = content.rindex(struct.pack("<HH", *keyword))
    path.write_bytes(content[: at + 4] + vr + content[at + 6 :])
    assert [entry.file for entry in refused(tmp_path).instances] == [path.name]


def test_an_entry_of_a_zip_without_a_name(tmp_path: Path) -> None:
    """zipfile asks for the last character of a name that has none."""
    paths = make_series(tmp_path / "s", slices=5, rows=32, columns=32)
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
        archive.writestr("forged-away", b"nothing")
        for path in paths:
            archive.write(path, path.name)
    whole = (tmp_path / "s.zip").read_bytes()
    (tmp_path / "s.zip").write_bytes(whole.replace(b"forged-away", b"\0orged-away"))  # names end at a NUL
    report = check(tmp_path / "s.zip")
    assert report.accepted
    assert {entry.file: entry.verdict for entry in report.files}["unnamed"] == "ignored"


@pytest.mark.parametrize("extra", [True, False])
def test_another_object_in_the_series_has_a_verdict_too(tmp_path: Path, extra: bool) -> None:
    """It was left out of the report, accepted or not, since it is not a slice."""

    def disguise(ds: Dataset, index: int) -> None:
        if index == (6 if extra else 3):
            ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage

    paths = make_series(tmp_path, slices=7, rows=32, columns=32, mutate=disguise)
    report = check(tmp_path)
    assert report.accepted == extra
    found = {entry.file: entry for entry in report.files}
    assert set(found) == {path.name for path in paths}
    assert found[paths[6 if extra else 3].name].verdict == "ignored"
    assert "Secondary Capture" in found[paths[6 if extra else 3].name].reason


def respin(path: Path, change: tuple[int, bytes]) -> None:
    """Overwrite the compressed stream of an instance from an offset on."""
    ds = dcmread(path)
    stream = bytearray(next(generate_frames(ds.PixelData, number_of_frames=1)))
    stream[change[0] : change[0] + len(change[1])] = change[1]
    ds.PixelData = encapsulate([bytes(stream)])
    ds.save_as(path)


def test_a_jpeg_whose_segments_are_out_of_step(tmp_path: Path) -> None:
    """GDCM let a C++ exception escape, which ended the process."""
    path = make_series(tmp_path, slices=5, rows=32, columns=32, transfer_syntax=JPEGLosslessSV1)[2]
    stream = next(generate_frames(dcmread(path).PixelData, number_of_frames=1))
    tables = stream.index(b"\xff\xc4")
    respin(path, (tables + 2, b"\x00\x08"))
    assert refusal_within(tmp_path, memory_mib=128) == "unreadable-pixels"


@pytest.mark.parametrize(
    ("what", "at", "value"),
    [
        ("a predictor that there is not", 3, b"\x09"),
        ("a point transform beyond the bits", 5, b"\x1f"),
        ("two components", 0, b"\x02"),
    ],
)
def test_a_jpeg_scan_that_no_lossless_image_has(tmp_path: Path, what: str, at: int, value: bytes) -> None:
    path = make_series(tmp_path, slices=5, rows=32, columns=32, transfer_syntax=JPEGLosslessSV1)[2]
    stream = next(generate_frames(dcmread(path).PixelData, number_of_frames=1))
    respin(path, (stream.index(b"\xff\xda") + 4 + at, value))
    assert refusal_within(tmp_path, memory_mib=128) == "unreadable-pixels", what


def test_fragments_that_go_on_after_the_end(tmp_path: Path) -> None:
    """Header and pixels of two files spliced: pydicom looked for frames for more than two seconds."""
    path = make_series(tmp_path, slices=5, rows=32, columns=32, transfer_syntax=JPEGLSLossless)[2]
    content = path.read_bytes()
    item = content.rindex(struct.pack("<HH", 0xFFFE, 0xE000))
    path.write_bytes(content[: item + 4] + struct.pack("<I", 2**24) + content[item + 8 :])
    assert refusal_within(tmp_path, memory_mib=128, seconds=2.0) == "truncated-pixels"
