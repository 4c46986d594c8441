"""Reads what the checks need from one instance, without its pixels, as plain values."""

import hashlib
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pydicom import Dataset, config, dcmread
from pydicom.filereader import read_dataset, read_partial
from pydicom.tag import BaseTag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, EnhancedMRImageStorage, ImplicitVRLittleEndian

from spinepaint.imaging.caps import Caps
from spinepaint.imaging.read_budget import Budget, MeteredFile, OverBudgetError, spending
from spinepaint.imaging.read_planes import Plane, Weighting, classic_plane, classic_weighting, enhanced_planes, enhanced_weighting
from spinepaint.imaging.read_values import PARSER_ERRORS, first_item, integer, items, raw, text, texts, uid
from spinepaint.imaging.unpacking import SourceFile

# pydicom's warnings about a bad value quote the value, which may be a person's name, on standard error.
config.settings.reading_validation_mode = config.IGNORE

SYNTHESIZING_EQUIPMENT = ("109100", "DCM")
_PREAMBLE = 128
# Deflated Explicit VR Little Endian, JPIP Referenced Deflate, JPIP HTJ2K Referenced Deflate
_INFLATED_AT_ONCE = (DeflatedExplicitVRLittleEndian, "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205")
_FEW_BYTES, _FEW_ELEMENTS = 2**16, 2**8
_UNDEFINED_LENGTH = 0xFFFFFFFF
_PIXEL_ELEMENTS = {0x0010: "PixelData", 0x0009: "DoubleFloatPixelData", 0x0008: "FloatPixelData"}


class BadInstanceError(Exception):
    """One instance that cannot be taken: a stable slug and a reason that names no patient."""

    def __init__(self, type: str, reason: str) -> None:
        """`type` is a key of `checks.TITLES`."""
        super().__init__(reason)
        self.type, self.reason = type, reason


@dataclass(frozen=True)
class PixelElement:
    """Where the pixels of an instance begin: the element's keyword, its length in bytes (None where undefined, as for
    encapsulated pixels) and how many bytes of the file follow."""

    keyword: str
    length: int | None
    available: int


@dataclass(frozen=True)
class Header:
    """What one instance says of itself. Values that were absent or not readable are None or empty."""

    file: SourceFile
    transfer_syntax: str
    sop_class_uid: str | None
    sop_instance_uid: str | None
    series_uid: str | None
    study_uid: str | None
    frame_of_reference_uid: str | None
    patient_digest: str
    modality: str
    description: str
    image_type: tuple[str, ...]
    rows: int | None
    columns: int | None
    frames: int
    samples_per_pixel: int | None
    photometric: str
    bits_allocated: int | None
    bits_stored: int | None
    high_bit: int | None
    pixel_representation: int | None
    pixels: PixelElement | None
    synthetic: bool
    modality_lut: bool
    lossy: bool
    weighting: Weighting
    planes: tuple[Plane, ...]

    @property
    def enhanced(self) -> bool:
        """Whether it is an Enhanced MR multi-frame image."""
        return self.sop_class_uid == EnhancedMRImageStorage


def has_prefix(file: SourceFile) -> bool:
    """Whether a file has the DICM prefix (PS3.10 7.1)."""
    return file.head(_PREAMBLE + 4)[_PREAMBLE:] == b"DICM"


def looks_like_bare_dicom(file: SourceFile) -> bool:
    """Whether a file without prefix starts with a plausible group 0002 or 0008 element, as older exports do."""
    head = file.head(_PREAMBLE + 4)
    if len(head) < _PREAMBLE + 4:
        return False
    group, element, vr, length = struct.unpack("<HH2sH", head[:8])
    implicit_length = length << 16 | int.from_bytes(vr, "little")
    explicit = vr in (b"UL", b"UI", b"CS", b"OB") and length <= 128
    return group in (0x0002, 0x0008) and element <= 0x0018 and (explicit or implicit_length <= 128)


def read_header(file: SourceFile, caps: Caps) -> Header:
    """Read one DICOM file up to its pixels.

    Raises BadInstanceError where it is deflated (before anything is inflated), unreadable, or its header is over the cap.
    """
    budget = Budget(caps.header_bytes, caps.header_elements)
    with parsing(budget, caps), file.open() as whole, MeteredFile(whole, budget) as stream:
        _refuse_deflated(stream)
        ds = dcmread(stream, stop_before_pixels=True, force=True)
        syntax = getattr(ds, "file_meta", Dataset()).get("TransferSyntaxUID", ImplicitVRLittleEndian)
        return _header(file, ds, str(syntax), _pixel_element(stream, ds))


def sop_class_of(file: SourceFile) -> str | None:
    """The SOP Class of a file that cannot be read as a whole, from the few elements before it; None where it is not told."""
    budget = Budget(_FEW_BYTES, _FEW_ELEMENTS)
    try:
        with spending(budget), file.open() as whole, MeteredFile(whole, budget) as stream:
            meta = _file_meta(stream)
            if meta.get("TransferSyntaxUID") in _INFLATED_AT_ONCE:
                return uid(meta, "MediaStorageSOPClassUID")
            stream.seek(0)
            ds = read_partial(stream, stop_when=_past_sop_class, force=True)
            return uid(ds, "SOPClassUID") or uid(meta, "MediaStorageSOPClassUID")
    except (OverBudgetError, *PARSER_ERRORS):
        return None


@contextmanager
def parsing(budget: Budget, caps: Caps) -> Iterator[None]:
    """Parse one instance within `budget`. Raises BadInstanceError for whatever pydicom raises, and where it is over a cap."""
    try:
        with spending(budget):
            yield
    except (OverBudgetError, *PARSER_ERRORS) as error:
        _refuse_over_budget(budget, caps)
        if isinstance(error, RecursionError):
            raise BadInstanceError("nested-too-deep", "its sequences are nested too deeply to be read") from None
        raise BadInstanceError("unreadable-instance", f"it cannot be read as DICOM ({type(error).__name__})") from None
    _refuse_over_budget(budget, caps)


def _refuse_over_budget(budget: Budget, caps: Caps) -> None:
    if budget.over is not None:
        cap = f"header_{budget.over}"
        reason = f"its header is over the cap {cap} of {getattr(caps, cap)}"
        raise BadInstanceError(f"over-cap-header-{budget.over}", reason)


def _header(file: SourceFile, ds: Dataset, syntax: str, pixels: PixelElement | None) -> Header:
    sop_class = uid(ds, "SOPClassUID") or uid(getattr(ds, "file_meta", Dataset()), "MediaStorageSOPClassUID")
    enhanced = sop_class == EnhancedMRImageStorage
    identity = repr([raw(ds, keyword) for keyword in ("PatientID", "PatientName", "PatientBirthDate")])
    return Header(
        file=file,
        transfer_syntax=syntax,
        sop_class_uid=sop_class,
        sop_instance_uid=uid(ds, "SOPInstanceUID"),
        series_uid=uid(ds, "SeriesInstanceUID"),
        study_uid=uid(ds, "StudyInstanceUID"),
        frame_of_reference_uid=uid(ds, "FrameOfReferenceUID"),
        patient_digest=hashlib.sha256(identity.encode()).hexdigest(),
        modality=text(ds, "Modality"),
        description=text(ds, "SeriesDescription"),
        image_type=texts(ds, "ImageType"),
        rows=integer(ds, "Rows"),
        columns=integer(ds, "Columns"),
        frames=integer(ds, "NumberOfFrames") or 1,
        samples_per_pixel=integer(ds, "SamplesPerPixel"),
        photometric=text(ds, "PhotometricInterpretation"),
        bits_allocated=integer(ds, "BitsAllocated"),
        bits_stored=integer(ds, "BitsStored"),
        high_bit=integer(ds, "HighBit"),
        pixel_representation=integer(ds, "PixelRepresentation"),
        pixels=pixels,
        synthetic=_says_synthetic(ds),
        modality_lut=bool(items(ds, "ModalityLUTSequence")),
        lossy=text(ds, "LossyImageCompression") == "01",
        weighting=enhanced_weighting(ds) if enhanced else classic_weighting(ds),
        planes=enhanced_planes(ds) if enhanced else (classic_plane(ds),),
    )


def _says_synthetic(ds: Dataset) -> bool:
    """Synthetic Data (0008,001C), or the equipment that synthesised it (PS3.3 C.12.1), which de-identification keeps."""
    if text(ds, "SyntheticData").upper() == "YES":
        return True
    for equipment in items(ds, "ContributingEquipmentSequence"):
        purpose = first_item([equipment], "PurposeOfReferenceCodeSequence")
        if (text(purpose, "CodeValue"), text(purpose, "CodingSchemeDesignator")) == SYNTHESIZING_EQUIPMENT:
            return True
        if "spinepaint" in (text(equipment, "Manufacturer") + text(equipment, "ManufacturerModelName")).lower():
            return True
    return False


def _refuse_deflated(stream: MeteredFile) -> None:
    """Leave the stream at its start; pydicom would inflate a deflated data set before any tag of it is seen."""
    syntax = _file_meta(stream).get("TransferSyntaxUID")
    stream.seek(0)
    if syntax in _INFLATED_AT_ONCE:
        name = UID(str(syntax)).name
        raise BadInstanceError("deflated", f"its transfer syntax is {name}, which is not opened; send it uncompressed")


def _file_meta(stream: MeteredFile) -> Dataset:
    """The file meta information alone (PS3.10 7.1)."""
    stream.seek(_PREAMBLE)
    stream.seek(_PREAMBLE + 4 if stream.read(4) == b"DICM" else 0)
    return read_dataset(stream, False, True, stop_when=_past_file_meta)


def _past_file_meta(tag: BaseTag, vr: str | None, length: int) -> bool:
    return tag.group != 0x0002


def _past_sop_class(tag: BaseTag, vr: str | None, length: int) -> bool:
    return int(tag) > 0x00080016


def _pixel_element(stream: MeteredFile, ds: Dataset) -> PixelElement | None:
    """What stands where `stop_before_pixels` left the stream (PS3.5 7.1): the pixel element's tag and length."""
    implicit, little = ds.original_encoding
    order = "<" if little else ">"
    head = stream.read(12)
    if len(head) < 8:
        return None
    group, element = struct.unpack(f"{order}HH", head[:4])
    keyword = _PIXEL_ELEMENTS.get(element) if group == 0x7FE0 else None
    if keyword is None:
        return None
    header = 8 if implicit else 12
    length = struct.unpack(f"{order}I", head[header - 4 : header])[0] if len(head) >= header else 0
    start = stream.tell() - len(head) + header
    available = max(0, stream.seek(0, 2) - start)
    return PixelElement(keyword, None if length == _UNDEFINED_LENGTH else length, available)
