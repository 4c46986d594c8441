"""What the fuzzer starts from: a small sound series in every encoding, as bytes."""

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from tests.imaging.enhanced_factory import make_enhanced
from tests.imaging.series_factory import make_series

SLICES = 6
SYNTAXES = {
    "explicit": ExplicitVRLittleEndian,
    "implicit": ImplicitVRLittleEndian,
    "big-endian": ExplicitVRBigEndian,
    "rle": RLELossless,
    "jpeg": JPEGLosslessSV1,
    "jpegls": JPEGLSLossless,
    "j2k": JPEG2000Lossless,
    "deflated": DeflatedExplicitVRLittleEndian,
}


@dataclass(frozen=True)
class Seed:
    """A series in one encoding: the file that is mutated, and the sound ones that lie beside it."""

    name: str
    file: bytes
    beside: tuple[bytes, ...] = ()


def make_seeds(folder: Path) -> list[Seed]:
    """Every seed, made in `folder`; the same each time."""
    seeds = []
    for name, syntax in SYNTAXES.items():
        files = _files(folder / name, transfer_syntax=syntax)
        seeds.append(Seed(f"classic {name}", files[2], (*files[:2], *files[3:])))
    eight = _files(folder / "eight", transfer_syntax=RLELossless, dtype="uint8", bits_stored=8)
    seeds.append(Seed("classic 8 bits rle", eight[2], (*eight[:2], *eight[3:])))
    private = _files(folder / "private", mutate=_add_private_and_nested)
    seeds.append(Seed("classic private", private[2], (*private[:2], *private[3:])))
    for name in ("explicit", "implicit", "rle", "jpegls", "j2k"):
        path = make_enhanced(folder / f"{name}.dcm", slices=SLICES, rows=32, columns=32, transfer_syntax=SYNTAXES[name])
        seeds.append(Seed(f"enhanced {name}", path.read_bytes()))
    plain = _files(folder / "zipped")
    seeds.append(Seed("zip stored", _zip(plain, zipfile.ZIP_STORED)))
    seeds.append(Seed("zip deflated", _zip(plain, zipfile.ZIP_DEFLATED)))
    return seeds


def _files(folder: Path, **options: Any) -> list[bytes]:
    return [path.read_bytes() for path in make_series(folder, slices=SLICES, rows=32, columns=32, **options)]


def _zip(files: list[bytes], method: int) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as archive:
        for number, file in enumerate(files):
            archive.writestr(zipfile.ZipInfo(f"IM{number}.dcm"), file, method)
    return content.getvalue()


def _item(**values: object) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def _add_private_and_nested(ds: Dataset, index: int) -> None:
    """Sequences of both kinds of length, a private block, and a sequence inside one."""
    inner = _item(ReferencedSOPClassUID="1.2.3", ReferencedSOPInstanceUID=f"1.2.3.{index}")
    ds.ReferencedImageSequence = [_item(PurposeOfReferenceCodeSequence=[inner], ReferencedSOPInstanceUID="1.2.4")]
    ds.ContributingEquipmentSequence = [_item(Manufacturer="Invented", PurposeOfReferenceCodeSequence=[inner])]
    ds["ReferencedImageSequence"].is_undefined_length = True
    block = ds.private_block(0x2005, "Invented Imaging", create=True)
    block.add_new(0x0E, "FL", 1.5)
    block.add_new(0x10, "SQ", [_item(PatientComments="x"), _item(ImageComments="y")])
    block.add_new(0x11, "OB", bytes(range(256)))
