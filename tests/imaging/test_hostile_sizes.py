"""Headers and streams that claim to be huge: what they cost is bounded, by the caps and not by the claim."""

import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless

from spinepaint.imaging.caps import Caps
from tests.imaging.bounded import MIB, refusal_within
from tests.imaging.enhanced_factory import make_enhanced
from tests.imaging.refusals import refused
from tests.imaging.series_factory import make_series

ROWS = struct.pack("<HH", 0x0028, 0x0010) + b"US"
PIXELS = struct.pack("<HH", 0x7FE0, 0x0010)
ITEM = struct.pack("<HHI", 0xFFFE, 0xE000, 0)


def series(folder: Path, **options: object) -> list[Path]:
    return make_series(folder, slices=5, rows=32, columns=32, **options)  # type: ignore[arg-type]


def insert(path: Path, content: bytes, before: bytes = ROWS) -> None:
    whole = path.read_bytes()
    at = whole.rindex(before)
    path.write_bytes(whole[:at] + content + whole[at:])


def explicit(tag: tuple[int, int], vr: bytes, content: bytes, length: int | None = None) -> bytes:
    """An element of a VR with a long length; `length` is what it claims."""
    return struct.pack("<HH2sHI", *tag, vr, 0, len(content) if length is None else length) + content


@pytest.mark.parametrize("syntax", [None, RLELossless, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless])
def test_forged_rows_and_columns_allocate_nothing(tmp_path: Path, syntax: str | None) -> None:
    for path in series(tmp_path, **({"transfer_syntax": syntax} if syntax else {})):
        content = path.read_bytes()
        at = content.rindex(ROWS)
        path.write_bytes(content[: at + 8] + b"\xff\xff" + content[at + 10 :])
    slug = "unreadable-pixels" if syntax else "pixel-length"
    assert refusal_within(tmp_path, memory_mib=64) == slug


def test_forged_rows_columns_and_codestream_are_stopped_by_the_pixel_cap(tmp_path: Path) -> None:
    """The header and the JPEG 2000 stream agree on 60000 x 60000: 14 GiB a slice."""
    for path in series(tmp_path, transfer_syntax=JPEG2000Lossless):
        ds = dcmread(path)
        stream = bytearray(next(generate_frames(ds.PixelData, number_of_frames=1)))
        struct.pack_into(">2I", stream, 8, 60000, 60000)
        ds.Rows = ds.Columns = 60000
        ds.PixelData = encapsulate([bytes(stream)])
        ds.save_as(path)
    assert refusal_within(tmp_path, memory_mib=64) == "over-cap-pixels-per-series"


@pytest.mark.parametrize("syntax", [None, RLELossless, JPEG2000Lossless])
def test_a_forged_number_of_frames_allocates_nothing(tmp_path: Path, syntax: str | None) -> None:
    options = {"transfer_syntax": syntax} if syntax else {}
    enhanced = make_enhanced(tmp_path / "many.dcm", slices=5, rows=32, columns=32, **options)
    classic = series(tmp_path / "classic", **options)
    for path in (enhanced, *classic):
        ds = dcmread(path)
        ds.NumberOfFrames = 2**31 - 1
        ds.save_as(path)
    assert refusal_within(enhanced, memory_mib=64) == "unsupported-pixels"
    assert refusal_within(tmp_path / "classic", memory_mib=64) == "unsupported-pixels"


@pytest.mark.parametrize("claimed", [0x7FFFFFFE, 0xFFFFFFFE])
def test_a_forged_length_of_an_element_allocates_nothing(tmp_path: Path, claimed: int) -> None:
    path = series(tmp_path)[2]
    insert(path, explicit((0x0021, 0x1010), b"OB", b"\0" * 64, claimed))
    assert refusal_within(tmp_path, memory_mib=64) == "no-pixels"


@pytest.mark.parametrize("claimed", [0x7FFFFFF0, 0xFFFFFFF0])
def test_a_forged_length_of_a_fragment_allocates_nothing(tmp_path: Path, claimed: int) -> None:
    path = series(tmp_path, transfer_syntax=RLELossless)[2]
    content = path.read_bytes()
    at = content.index(ITEM[:4], content.index(ITEM[:4], content.rindex(PIXELS)) + 8)
    path.write_bytes(content[: at + 4] + struct.pack("<I", claimed) + content[at + 8 :])
    assert refusal_within(tmp_path, memory_mib=64) in ("unreadable-pixels", "truncated-pixels", "unreadable-instance")


def test_very_many_fragments_are_refused(tmp_path: Path) -> None:
    path = series(tmp_path, transfer_syntax=RLELossless)[2]
    content = path.read_bytes()
    at = content.index(ITEM[:4], content.rindex(PIXELS)) + 8
    path.write_bytes(content[:at] + ITEM * 300_000 + content[at:])
    caps = Caps(header_bytes=MIB)
    assert refusal_within(tmp_path, memory_mib=128, seconds=5.0, caps=caps) == "over-cap-header-bytes"


def test_run_lengths_of_a_large_frame_are_counted_before_they_are_unfolded(tmp_path: Path) -> None:
    """16 MiB of RLE that would unfold to a gigabyte."""
    path = make_series(tmp_path, slices=5, rows=32, columns=32, transfer_syntax=RLELossless)[1]
    for each in tmp_path.iterdir():
        ds = dcmread(each)
        ds.Rows = ds.Columns = 2048
        ds.PixelData = encapsulate([struct.pack("<16I", 2, 64, 66, *[0] * 13) + b"\x81\0" * (2**23 if each == path else 2**15)])
        ds.save_as(each)
    assert refusal_within(tmp_path, memory_mib=256) == "unreadable-pixels"


def test_a_codestream_behind_a_decoy_is_measured_itself(tmp_path: Path) -> None:
    """A JP2 wrapping whose first box holds a small image's header, and whose real one is huge."""
    path = series(tmp_path, transfer_syntax=JPEG2000Lossless)[1]
    ds = dcmread(path)
    small = next(generate_frames(ds.PixelData, number_of_frames=1))
    huge = bytearray(small)
    struct.pack_into(">2I", huge, 8, 50000, 50000)
    boxes = ((b"jP  ", b"\r\n\x87\n"), (b"free", small[:60]), (b"jp2c", bytes(huge)))
    ds.PixelData = encapsulate([b"".join(struct.pack(">I4s", len(box) + 8, kind) + box for kind, box in boxes)])
    ds.save_as(path)
    refusal = refused(tmp_path)
    assert refusal.type == "unreadable-pixels"
    assert "(50000, 50000, 1)" in refusal.instances[0].reason


SEQUENCE_OF_ITEMS = {"defined length": (b"SQ", ITEM), "undefined length": (b"SQ", ITEM), "items of no tag": (b"SQ", b"\0" * 8)}


@pytest.mark.parametrize("kind", SEQUENCE_OF_ITEMS)
@pytest.mark.parametrize("tag", [(0x0018, 0xA001), (0x0008, 0x1140)])
def test_very_many_items_are_refused_by_their_cap(tmp_path: Path, kind: str, tag: tuple[int, int]) -> None:
    vr, item = SEQUENCE_OF_ITEMS[kind]
    path = series(tmp_path)[2]
    content = explicit(tag, vr, item * 200_000, 0xFFFFFFFF if kind == "undefined length" else None)
    insert(path, content)
    refusal = refusal_within(tmp_path, memory_mib=1024, seconds=10.0)
    assert refusal == "over-cap-header-elements"


def test_very_many_elements_are_refused_by_their_cap(tmp_path: Path) -> None:
    path = series(tmp_path)[2]
    elements = b"".join(struct.pack("<HH2sH", 0x0029 + 2 * (n >> 16), n & 0xFFFF, b"LO", 0) for n in range(200_000))
    insert(path, elements, struct.pack("<HH", 0x7FE0, 0x0010))
    assert refusal_within(tmp_path, memory_mib=512, seconds=10.0) == "over-cap-header-elements"


def test_very_many_values_are_refused(tmp_path: Path) -> None:
    """In implicit VR a decimal string may be as long as it likes."""
    from pydicom.uid import ImplicitVRLittleEndian

    path = series(tmp_path, transfer_syntax=ImplicitVRLittleEndian)[2]
    content = path.read_bytes()
    at = content.rindex(struct.pack("<HH", 0x0028, 0x0030))
    (length,) = struct.unpack_from("<I", content, at + 4)
    values = b"1\\" * 4_000_000
    path.write_bytes(content[: at + 4] + struct.pack("<I", len(values)) + values + content[at + 8 + length :])
    assert refusal_within(tmp_path, memory_mib=128, seconds=5.0) == "missing-geometry"


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_large_header_is_not_read_beyond_its_cap(tmp_path: Path, where: str) -> None:
    path = series(tmp_path)[2]
    bulk = explicit((0x0021, 0x1010) if where == "before" else (0xFFFC, 0xFFFC), b"OB", b"\0" * (80 * MIB))
    if where == "before":
        insert(path, bulk)
    else:
        path.write_bytes(path.read_bytes() + bulk)
    assert refusal_within(tmp_path, memory_mib=64) == "over-cap-header-bytes"


@pytest.mark.parametrize("vr", [b"SQ", b"UN"])
@pytest.mark.parametrize("defined", [True, False])
def test_sequences_thousands_deep_are_refused(tmp_path: Path, vr: bytes, defined: bool) -> None:
    depth, tag = 10_000, (0x0008, 0x1140)
    if defined and vr == b"UN":
        depth = 3000  # pydicom leaves UN of more than 64 KiB as it is, unparsed
    if defined and vr == b"SQ":
        nested = b"".join(explicit(tag, vr, ITEM[:4] + struct.pack("<I", n), n + 8) for n in range(20 * depth - 20, -1, -20))
    elif defined:  # inside UN everything is in implicit VR (PS3.5 6.2.2)
        lengths = range(16 * depth - 16, -1, -16)
        inside = b"".join(struct.pack("<HHI", *tag, n + 8) + ITEM[:4] + struct.pack("<I", n) for n in lengths)
        nested = explicit(tag, vr, inside[8:])
    else:
        end = struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
        nested = explicit(tag, vr, ITEM[:4] + b"\xff" * 4, 0xFFFFFFFF) * depth + end * depth
    insert(series(tmp_path)[2], nested)
    assert refusal_within(tmp_path, memory_mib=256, seconds=5.0) in ("nested-too-deep", "unreadable-instance")


def bomb(path: Path, entries: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


BOMBS: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "one large entry": (
        "over-cap-inflation-ratio",
        lambda path: bomb(path, {"a.dcm": b"\0" * 128 + b"DICM" + b"\0" * (48 * MIB)}),
    ),
    "many entries": (
        "over-cap-inflation-ratio",
        lambda path: bomb(path, {f"{n}.dcm": b"\0" * 128 + b"DICM" + b"\0" * MIB for n in range(48)}),
    ),
    "nested": (
        "no-dicom",
        lambda path: bomb(path, {"inner.zip": bomb(path.with_suffix(".in"), {"a": b"\0" * MIB}).read_bytes()}),
    ),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_zip_bombs_are_not_inflated(tmp_path: Path, kind: str) -> None:
    slug, make = BOMBS[kind]
    assert refusal_within(make(tmp_path / "bomb.zip"), memory_mib=64) == slug


def test_large_entries_of_a_zip_are_inflated_to_disk(tmp_path: Path) -> None:
    """Random bytes do not compress: 48 MiB an instance, read with less."""
    path = series(tmp_path / "s")[2]
    bulk = explicit((0x0021, 0x1010), b"OB", np.random.default_rng(0).bytes(48 * MIB))
    insert(path, bulk)
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
        for each in (tmp_path / "s").iterdir():
            archive.write(each, each.name)
    assert refusal_within(tmp_path / "s.zip", memory_mib=32) == "over-cap-header-bytes"


def test_what_is_said_of_a_cap_names_the_instance_and_the_cap(tmp_path: Path) -> None:
    def fill(ds: Dataset, index: int) -> None:
        if index == 1:
            ds.ReferencedImageSequence = [Dataset() for _ in range(500)]

    path = series(tmp_path, mutate=fill)[1]
    refusal = refused(tmp_path, caps=Caps(header_elements=300))
    assert refusal.type == "over-cap-header-elements"
    assert [entry.file for entry in refusal.instances] == [path.name]
    assert "header_elements of 300" in refusal.instances[0].reason
