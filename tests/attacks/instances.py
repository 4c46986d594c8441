"""DICOM series that are spoilt on purpose, one attack each."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

Content = dict[str, bytes]
Spoil = Callable[[list[Path]], Content]
_ROWS, _COLUMNS = (0x0028, 0x0010), (0x0028, 0x0011)
_PHILIPS_RLE = "1.3.46.670589.33.1.4.1"  # PMSCT_RLE1, private
_META_LENGTH = b"\x02\0\0\0UL\x04\0"


def _read(paths: list[Path]) -> Content:
    return {path.name: path.read_bytes() for path in paths}


def _edited(edit: Callable[[Dataset], None]) -> Spoil:
    """Every instance of a series after the same edit."""

    def spoilt(paths: list[Path]) -> Content:
        found = {}
        for path in paths:
            ds = dcmread(path)
            edit(ds)
            buffer = io.BytesIO()
            ds.save_as(buffer)
            found[path.name] = buffer.getvalue()
        return found

    return spoilt


def _long_values(paths: list[Path]) -> Content:
    """Rows and Columns as UL of 4 bytes, of which the product is over 32 bits (CVE-2026-5442)."""
    found = {}
    for name, content in _read(paths).items():
        for tag in (_ROWS, _COLUMNS):
            at = content.rindex(struct.pack("<HH", *tag) + b"US")
            content = content[:at] + struct.pack("<HH2sHI", *tag, b"UL", 4, 2**31 + 1) + content[at + 10 :]
        found[name] = content
    return found


def _mismatch(ds: Dataset) -> None:
    ds.Rows = ds.Columns = 0xFFFF


def _palette(ds: Dataset) -> None:
    """Indices of 12 bits into a palette of 4 entries (CVE-2026-5443, CVE-2026-5445)."""
    ds.PhotometricInterpretation = "PALETTE COLOR"
    for number in (1, 2, 3):  # red, green, blue
        ds.add_new((0x0028, 0x1100 + number), "US", [4, 0, 16])
        ds.add_new((0x0028, 0x1200 + number), "OW", bytes(8))


def _modality_lut(ds: Dataset) -> None:
    """A Modality LUT of 65536 entries that holds 4."""
    item = Dataset()
    item.add_new((0x0028, 0x3002), "US", [0, 0, 16])
    item.ModalityLUTType = "US"
    item.add_new("LUTData", "OW", bytes(8))
    ds.ModalityLUTSequence = [item]


def _philips(ds: Dataset) -> None:
    """The private compression of CVE-2026-5441, with an escape at the very end."""
    ds.file_meta.TransferSyntaxUID = _PHILIPS_RLE
    ds.PixelData = encapsulate([b"\xa5" * 31 + b"\xa5"])


def _pam(ds: Dataset) -> None:
    """A PAM image (CVE-2026-5444), of which width times height times depth is over 32 bits, as a compressed frame."""
    ds.file_meta.TransferSyntaxUID = JPEG2000Lossless
    head = b"P7\nWIDTH 65535\nHEIGHT 65535\nDEPTH 4\nMAXVAL 65535\nTUPLTYPE RGB_ALPHA\nENDHDR\n"
    ds.PixelData = encapsulate([head + bytes(64)])


def _runs(ds: Dataset) -> None:
    """Run lengths that unfold without end."""
    ds.file_meta.TransferSyntaxUID = RLELossless
    ds.PixelData = encapsulate([struct.pack("<16I", 2, 64, 66, *[0] * 13) + b"\x81\0" * 2**17])


def _frames(ds: Dataset) -> None:
    ds.NumberOfFrames = 2**31 - 1


def _meta_length(paths: list[Path]) -> Content:
    """A meta header that says it goes on past the end of the file, which ends within it (CVE-2026-5437)."""
    found = {}
    for name, content in _read(paths).items():
        at = content.index(_META_LENGTH)
        found[name] = content[: at + 8] + struct.pack("<I", 0xFFFFFFF0) + content[at + 12 : at + 40]
    return found


def _deflated(paths: list[Path]) -> Content:
    """A data set that inflates to 60 MB (CVE-2026-5438, within an instance)."""
    found = {}
    for path in paths:
        ds = dcmread(path)
        ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        buffer = io.BytesIO()
        ds.save_as(buffer)
        head = buffer.getvalue()[: 132 + 12 + ds.file_meta.FileMetaInformationGroupLength]
        compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        found[path.name] = head + compressor.compress(bytes(60_000_000)) + compressor.flush()
    return found


def _nested(paths: list[Path]) -> Content:
    """Sequences that are nested five thousand deep."""
    begin = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    return _inserted(paths, begin * 5000)


def _many_elements(paths: list[Path]) -> Content:
    """Fifty thousand empty elements in each header."""
    return _inserted(paths, b"".join(struct.pack("<HH2sH", 0x0009, n % 0xFFFF, b"LO", 0) for n in range(50_000)))


def _forged_length(paths: list[Path]) -> Content:
    """A private element of 64 bytes that says it has 4 GB."""
    return _inserted(paths, struct.pack("<HH2sHI", 0x0009, 0x1010, b"OB", 0, 0xFFFFFFFE) + bytes(64))


def _inserted(paths: list[Path], elements: bytes) -> Content:
    found = {}
    for name, content in _read(paths).items():
        at = content.index(struct.pack("<HH", 0x0010, 0x0010) + b"PN")
        found[name] = content[:at] + elements + content[at:]
    return found


def _truncated(paths: list[Path]) -> Content:
    return {name: content[:-500] for name, content in _read(paths).items()}


SPOILT: dict[str, tuple[Spoil, int, str]] = {
    "UL where US belongs": (_long_values, 422, "pixel-length"),
    "rows and columns that do not match the pixels": (_edited(_mismatch), 422, "pixel-length"),
    "a palette that is too short": (_edited(_palette), 422, "colour"),
    "a lookup table that is too short": (_edited(_modality_lut), 422, "modality-lut"),
    "Philips' compression": (_edited(_philips), 422, "unsupported-transfer-syntax"),
    "a PAM image": (_edited(_pam), 422, "unreadable-pixels"),
    "run lengths without end": (_edited(_runs), 422, "unreadable-pixels"),
    "frames without end": (_edited(_frames), 422, "unsupported-pixels"),
    "a meta header past the end": (_meta_length, 422, "missing-uid"),
    "a deflated data set": (_deflated, 422, "deflated"),
    "sequences within sequences": (_nested, 422, "unreadable-instance"),
    "elements without end": (_many_elements, 422, "over-cap-header-elements"),
    "an element past the end": (_forged_length, 422, "missing-uid"),
    "pixels that end early": (_truncated, 422, "truncated-pixels"),
}
