"""What a source that arrives compressed with loss has to go on saying once its pixels are decoded (PS3.3 C.7.6.1.1.5)."""

from pydicom import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import JPEG2000, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless
from pydicom.valuerep import DSfloat

LOSSY_METHODS = {
    JPEGBaseline8Bit: "ISO_10918_1",
    JPEGExtended12Bit: "ISO_10918_1",
    JPEGLSNearLossless: "ISO_14495_1",
}
"""Lossy Image Compression Method by the transfer syntaxes that are lossy whatever the stream says."""

_J2K_CODING_STYLE = b"\xff\x52"  # COD (ISO/IEC 15444-1 A.6.1); 13 bytes on stands the wavelet, 0 for the irreversible one
_WAVELET = 13
_J2K_MAIN_HEADER = 1024  # bytes within which COD stands


def state_loss(ds: Dataset, native_bytes: int) -> None:
    """Complete the lossy attributes of a data set that still has its compressed pixels, where it says too little.

    `native_bytes` is the size of the pixels once decoded. A data set that says it all, or lost nothing, stays as it is. One
    that gives a ratio is taken to mean that of the stream it came with, and lacks the method only. Nothing is compressed
    again on the way out, so there is no second step to state.
    """
    syntax = ds.file_meta.get("TransferSyntaxUID") if hasattr(ds, "file_meta") else None
    method = LOSSY_METHODS.get(syntax) if syntax is not None else None
    if syntax == JPEG2000 and _is_irreversible(next(generate_frames(ds.PixelData, number_of_frames=_frames(ds)))):
        method = "ISO_15444_1"
    if method is None:
        return
    ds.LossyImageCompression = "01"
    ratios, methods = (_count(ds, f"LossyImageCompression{what}") for what in ("Ratio", "Method"))
    if ratios and ratios == methods:
        return
    if ratios == 1:
        ds.LossyImageCompressionMethod = method
        return
    # Which of several ratios and methods go together cannot be known: those of this stream can.
    ds.LossyImageCompressionRatio = DSfloat(round(native_bytes / len(ds.PixelData), 2), auto_format=True)
    ds.LossyImageCompressionMethod = method


def _is_irreversible(stream: bytes) -> bool:
    at = stream.find(_J2K_CODING_STYLE, 0, _J2K_MAIN_HEADER)
    return at >= 0 and at + _WAVELET < len(stream) and stream[at + _WAVELET] == 0


def _count(ds: Dataset, keyword: str) -> int:
    return int(ds[keyword].VM) if ds.get(keyword) else 0


def _frames(ds: Dataset) -> int:
    return int(ds.get("NumberOfFrames") or 1)
