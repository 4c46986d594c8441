"""What a DICOMweb service has to know of an instance: its attributes as DICOM JSON, and where its bulk data lie in the file."""

import hashlib
import os
import struct
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

from pydicom import Dataset, dcmread
from pydicom.dataelem import RawDataElement
from pydicom.encaps import parse_basic_offsets, parse_fragments
from pydicom.uid import UID, ExplicitVRBigEndian, ImplicitVRLittleEndian

from spinepaint.imaging.read_values import PARSER_ERRORS, integer, uid

Range = tuple[int, int]
"""First byte in the file, and how many."""

PIXEL_DATA = "7FE00010"
_INLINE_BYTES = 1024
_BINARY_VRS = ("OB", "OD", "OF", "OL", "OV", "OW", "UN")
_UNDEFINED_LENGTH = 0xFFFFFFFF
_ITEM_HEADER = 8


@dataclass(frozen=True)
class IndexedInstance:
    """One instance.

    Attributes
    ----------
    attributes: DICOM JSON (PS3.18 F.2) without file meta information and bulk data.
    bulk: VR and range of each value that is bulk data, by tag; native pixel data among them.
    frames: the ranges of each frame, in order; several where a compressed frame has several fragments. Empty where there are
        no pixels, or it cannot be told which fragment belongs to which frame.
    """

    study_uid: str
    series_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    instance_number: int | None
    size: int
    sha256: str
    attributes: dict[str, Any]
    bulk: dict[str, tuple[str, int, int]]
    frames: list[list[Range]]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def index_instance(stream: BinaryIO) -> IndexedInstance | None:
    """Index one DICOM file from its start; pixels are passed over, not decoded.

    None where it cannot be read, or has no valid Study, Series or SOP Instance UID to be addressed by. Single values that
    cannot be represented are left out.
    """
    try:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(0)
        ds = dcmread(stream, stop_before_pixels=True, force=True)
        study, series, instance = (uid(ds, f"{name}InstanceUID") for name in ("Study", "Series", "SOP"))
        if study is None or series is None or instance is None:
            return None
        meta = getattr(ds, "file_meta", Dataset())
        syntax = str(meta.get("TransferSyntaxUID", ImplicitVRLittleEndian))
        bulk: dict[str, tuple[str, int, int]] = {}
        frames = _index_pixels(stream, ds, syntax, bulk)
        if syntax == ExplicitVRBigEndian:  # bulk is served as it lies, which is little endian
            bulk.clear()
        else:
            _take_out_bulk(ds, bulk)
        return IndexedInstance(
            study_uid=study,
            series_uid=series,
            sop_class_uid=uid(ds, "SOPClassUID") or uid(meta, "MediaStorageSOPClassUID") or "",
            sop_instance_uid=instance,
            transfer_syntax_uid=syntax,
            instance_number=integer(ds, "InstanceNumber"),
            size=size,
            sha256=_digest(stream),
            attributes=_as_json(ds),
            bulk=bulk,
            frames=frames,
        )
    except PARSER_ERRORS:
        return None


def _as_json(ds: Dataset) -> dict[str, Any]:
    """The data set's own elements, each that can be represented (PS3.18 F.2)."""
    found = {}
    for tag in sorted(ds.keys()):
        try:
            element = ds[tag]
            found[f"{tag:08X}"] = element.to_json_dict(None, bulk_data_threshold=0)
        except PARSER_ERRORS:
            continue
    return found


def _take_out_bulk(ds: Dataset, bulk: dict[str, tuple[str, int, int]]) -> None:
    """Move what is long and binary from the data set to `bulk`; inside sequences it stays."""
    for tag in list(ds.keys()):
        raw = ds.get_item(tag)
        if not isinstance(raw, RawDataElement) or not _INLINE_BYTES < raw.length < _UNDEFINED_LENGTH:
            continue
        value_tell, length = raw.value_tell, raw.length
        try:
            vr = ds[tag].VR
        except PARSER_ERRORS:
            continue
        if vr in _BINARY_VRS:
            bulk[f"{tag:08X}"] = (vr, value_tell, length)
            del ds[tag]


def _index_pixels(stream: BinaryIO, ds: Dataset, syntax: str, bulk: dict[str, tuple[str, int, int]]) -> list[list[Range]]:
    """The ranges of the frames; the stream stands where the pixel data element begins (PS3.5 7.1, A.4)."""
    implicit, little = ds.original_encoding
    head = stream.read(8 if implicit else 12)
    if len(head) < 8 or struct.unpack("<HH" if little else ">HH", head[:4]) != (0x7FE0, 0x0010):
        return []
    vr = "OW" if implicit else head[4:6].decode("ascii", "replace")
    (length,) = struct.unpack("<I" if little else ">I", head[-4:])
    count = max(integer(ds, "NumberOfFrames") or 1, 1)
    if length == _UNDEFINED_LENGTH:
        return _fragments_of_frames(stream, count) if UID(syntax).is_encapsulated else []
    start = stream.tell()
    bulk[PIXEL_DATA] = (vr, start, length)
    bits = (integer(ds, "Rows") or 0) * (integer(ds, "Columns") or 0) * (integer(ds, "SamplesPerPixel") or 1)
    bits *= integer(ds, "BitsAllocated") or 0
    if bits % 8 or count * bits // 8 > length:  # frames of single bits need not begin at a byte (PS3.5 8.1.1)
        return []
    return [[(start + frame * bits // 8, bits // 8)] for frame in range(count)]


def _fragments_of_frames(stream: BinaryIO, count: int) -> list[list[Range]]:
    """Which fragments make up which frame: by their number, or by the Basic Offset Table (PS3.5 A.4)."""
    offsets = parse_basic_offsets(stream)
    first_item = stream.tell()
    fragments = []
    for item in parse_fragments(stream)[1]:
        stream.seek(item + 4)
        (length,) = struct.unpack("<I", stream.read(4))
        fragments.append((item - first_item, (item + _ITEM_HEADER, length)))
    if count == 1:
        return [[where for _, where in fragments]]
    if len(fragments) == count:
        return [[where] for _, where in fragments]
    if len(offsets) != count:
        return []
    ends = [*offsets[1:], float("inf")]
    return [[where for at, where in fragments if begin <= at < end] for begin, end in zip(offsets, ends, strict=True)]


def _digest(stream: BinaryIO) -> str:
    stream.seek(0)
    digest = hashlib.sha256()
    while chunk := stream.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()
