"""Truncated, forged and nested files: each is named, and none costs more than it should."""

import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from spinepaint.imaging.reading import check
from tests.imaging.refusals import refused
from tests.imaging.series_factory import make_series


@pytest.mark.parametrize(
    ("tag", "kept", "slug"),
    [((0x7FE0, 0x0010), 100, "truncated-pixels"), ((0x0028, 0x0010), 0, "no-pixels"), ((0x0010, 0x0010), 0, "missing-uid")],
)
def test_a_truncated_file_is_named(tmp_path: Path, tag: tuple[int, int], kept: int, slug: str) -> None:
    """The file ends `kept` bytes after the start of an element: in the pixels, before the rows, before the series' UID."""
    paths = make_series(tmp_path, slices=5, rows=32, columns=32)
    content = paths[2].read_bytes()
    paths[2].write_bytes(content[: content.rindex(struct.pack("<HH", *tag)) + kept])
    refusal = refused(tmp_path)
    assert refusal.type == slug
    assert [entry.file for entry in refusal.instances] == [paths[2].name]


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless])
@pytest.mark.parametrize("keep", [0.9, 0.5])
def test_a_truncated_compressed_file_is_named(tmp_path: Path, syntax: str, keep: float) -> None:
    paths = make_series(tmp_path, slices=5, transfer_syntax=syntax)
    content = paths[2].read_bytes()
    paths[2].write_bytes(content[: int(len(content) * keep)])
    refusal = refused(tmp_path)
    assert refusal.type in ("unreadable-pixels", "truncated-pixels")
    assert [entry.file for entry in refusal.instances] == [paths[2].name]


@pytest.mark.parametrize("syntax", [JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless])
def test_a_compressed_stream_of_a_forged_size_is_refused_before_it_is_decoded(tmp_path: Path, syntax: str) -> None:
    path = make_series(tmp_path, slices=5, transfer_syntax=syntax)[1]
    ds = dcmread(path)
    stream = bytearray(next(generate_frames(ds.PixelData, number_of_frames=1)))
    if syntax == JPEG2000Lossless:
        struct.pack_into(">2I", stream, stream.find(b"\xff\x4f\xff\x51") + 8, 50000, 50000)
    else:
        marker = b"\xff\xf7" if syntax == JPEGLSLossless else b"\xff\xc3"
        struct.pack_into(">2H", stream, stream.find(marker) + 5, 50000, 50000)
    ds.PixelData = encapsulate([bytes(stream)])
    ds.save_as(path)
    refusal = refused(tmp_path)
    assert refusal.type == "unreadable-pixels"
    assert "another size" in refusal.instances[0].reason


def test_run_lengths_that_unfold_without_end_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    path = make_series(tmp_path, slices=5, rows=32, columns=32, transfer_syntax=RLELossless)[1]
    ds = dcmread(path)
    ds.PixelData = encapsulate([struct.pack("<16I", 2, 64, 66, *[0] * 13) + b"\x81\0" * 2**17])
    ds.save_as(path)
    refusal = refused(tmp_path)
    assert refusal.type == "unreadable-pixels"
    assert "larger than they would be" in refusal.instances[0].reason


def test_deflated_files_are_refused_before_they_are_inflated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = make_series(tmp_path, slices=5, transfer_syntax=DeflatedExplicitVRLittleEndian)
    monkeypatch.setattr("pydicom.filereader.zlib.decompress", lambda *_: pytest.fail("it was inflated"))
    refusal = refused(tmp_path)
    assert refusal.type == "deflated"
    assert {entry.file for entry in refusal.instances} == {path.name for path in paths}


def test_a_transfer_syntax_that_is_not_read_is_named(tmp_path: Path) -> None:
    for path in make_series(tmp_path, slices=5, transfer_syntax=JPEG2000Lossless):
        ds = dcmread(path)
        ds.file_meta.TransferSyntaxUID = HTJ2KLossless
        ds.save_as(path)
    assert refused(tmp_path).type == "unsupported-transfer-syntax"


def test_uncompressed_pixels_that_say_they_are_compressed_are_refused(tmp_path: Path) -> None:
    for path in make_series(tmp_path, slices=5):
        syntax = ExplicitVRLittleEndian.encode()
        path.write_bytes(path.read_bytes().replace(syntax + b"\0", RLELossless.ljust(len(syntax) + 1, "\0").encode(), 1))
    assert check(tmp_path).refusal is not None


@pytest.mark.parametrize("depth", [20, 200])
def test_deeply_nested_sequences_are_refused(tmp_path: Path, depth: int) -> None:
    begin = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    end = struct.pack("<HHI", 0xFFFE, 0xE00D, 0) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    path = make_series(tmp_path, slices=5)[0]
    content = path.read_bytes()
    at = content.index(struct.pack("<HH", 0x0010, 0x0010) + b"PN")
    path.write_bytes(content[:at] + begin * depth + end * depth + content[at:])
    refusal = refused(tmp_path)
    assert refusal.type in ("nested-too-deep", "unreadable-instance")
    assert refusal.instances[0].file == path.name


def test_a_forged_length_of_rows_is_refused(tmp_path: Path) -> None:
    path = make_series(tmp_path, slices=5)[0]
    content = path.read_bytes()
    at = content.index(struct.pack("<HH", 0x0028, 0x0010) + b"US")
    path.write_bytes(content[:at] + struct.pack("<HH2sHI", 0x0028, 0x0010, b"UL", 4, 2**31) + content[at + 10 :])
    assert refused(tmp_path).type == "pixel-length"


@pytest.mark.filterwarnings("default")  # pydicom warns of what it cannot decode
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.floats(0.0, 1.0), value=st.binary(min_size=1, max_size=8))
def test_check_survives_any_damage_to_a_header(tmp_path: Path, at: float, value: bytes) -> None:
    paths = make_series(tmp_path, slices=5, rows=32, columns=32)
    content = bytearray(paths[2].read_bytes())
    start = int(at * (len(content) - 32 * 32 * 2))
    content[start : start + len(value)] = value
    paths[2].write_bytes(content)
    report = check(tmp_path)
    assert report.accepted == (report.refusal is None)
