"""Whether the pixels that a header promises can be decoded and are greyscale integers. Nothing is decoded here."""

from pydicom.uid import (
    JPEG2000,
    UID,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    MRImageStorage,
    RLELossless,
)

from spinepaint.imaging.read_header import BadInstanceError, Header
from spinepaint.imaging.read_planes import Plane

NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
# Which of pydicom's plugins decodes what. pylibjpeg decodes JPEG 2000 by OpenJPEG; none of them is under the GPL.
PLUGINS: dict[str, str] = {
    RLELossless: "pydicom",
    JPEGLosslessSV1: "gdcm",
    JPEGLossless: "gdcm",
    JPEGLSLossless: "pyjpegls",
    JPEGLSNearLossless: "pyjpegls",
    JPEG2000Lossless: "pylibjpeg",
    JPEG2000: "pylibjpeg",
}
_LEAST_SLOPE = 1e-30
MR_IMAGES = (MRImageStorage, EnhancedMRImageStorage)
LOSSY = (JPEGLSNearLossless, JPEG2000)


def is_mr_image(header: Header) -> bool:
    """Whether it is an MR image of a kind that is read. Research releases strip the SOP Class: then the Modality decides."""
    if header.sop_class_uid is None:
        return header.modality in ("MR", "") and header.pixels is not None
    return header.sop_class_uid in MR_IMAGES


def check_pixels(header: Header) -> None:
    """Raise BadInstanceError where the pixels cannot be taken.

    Slugs: `no-pixels`, `colour`, `inverted-greyscale`, `unsupported-pixels`, `unsupported-transfer-syntax`, `pixel-length`,
    `truncated-pixels`, `modality-lut`, `bad-rescale`.
    """
    rows, columns, pixels = header.rows, header.columns, header.pixels
    if pixels is None or not rows or not columns or rows < 0 or columns < 0:
        raise BadInstanceError("no-pixels", "it has no image pixels")
    if (header.samples_per_pixel or 1) != 1 or not header.photometric.startswith("MONOCHROME"):
        raise BadInstanceError("colour", f"it is a colour image ({header.photometric or 'photometric interpretation missing'})")
    if header.photometric != "MONOCHROME2":
        raise BadInstanceError("inverted-greyscale", f"its photometric interpretation is {header.photometric}, not MONOCHROME2")
    _check_depth(header)
    if header.frames < 1 or len(header.planes) != header.frames:
        reason = f"it says {header.frames} frames and describes {len(header.planes)}"
        raise BadInstanceError("unsupported-pixels", reason)
    if header.modality_lut:
        raise BadInstanceError("modality-lut", "its values go through a modality look-up table, which an MR image may not have")
    if not all(_can_be_inverted(plane) for plane in header.planes):
        raise BadInstanceError("bad-rescale", "its rescale slope or intercept is zero, not a number, or beyond single precision")
    _check_length(header, rows, columns)


def _can_be_inverted(plane: Plane) -> bool:
    """Whether stored values of 16 bits stay within single precision, and apart, by the rescale."""
    if plane.slope is None or plane.intercept is None:
        return False
    return _LEAST_SLOPE <= abs(plane.slope) <= 1 / _LEAST_SLOPE and abs(plane.intercept) <= 1 / _LEAST_SLOPE


def _check_depth(header: Header) -> None:
    allocated, stored = header.bits_allocated, header.bits_stored
    if header.pixels is None or header.pixels.keyword != "PixelData":
        raise BadInstanceError("unsupported-pixels", "its pixels are floating-point numbers, not integers")
    if allocated not in (8, 16) or stored is None or not 1 < stored <= allocated:
        raise BadInstanceError("unsupported-pixels", f"it stores {stored} of {allocated} bits; 8 to 16 are read")
    if header.high_bit not in (None, stored - 1) or header.pixel_representation not in (0, 1):
        raise BadInstanceError("unsupported-pixels", "its high bit or pixel representation is not one that MR images have")


def _check_length(header: Header, rows: int, columns: int) -> None:
    """Compare the pixel element's length with rows x columns x frames; nothing has been allocated yet."""
    pixels = header.pixels
    if pixels is None:
        raise BadInstanceError("no-pixels", "it has no image pixels")
    if header.transfer_syntax not in NATIVE:
        if header.transfer_syntax not in PLUGINS:
            name = UID(header.transfer_syntax).name
            raise BadInstanceError("unsupported-transfer-syntax", f"its transfer syntax is {name}; send it uncompressed")
        if pixels.length is not None:
            raise BadInstanceError("pixel-length", "its pixels are not encapsulated although its transfer syntax says so")
        return
    expected = rows * columns * header.frames * ((header.bits_allocated or 16) // 8)
    if pixels.length is None:
        raise BadInstanceError("pixel-length", "its pixels are encapsulated although its transfer syntax says they are not")
    if pixels.available < min(pixels.length, expected):
        raise BadInstanceError("truncated-pixels", f"its pixels are cut short: {pixels.available} bytes of {pixels.length}")
    if pixels.length not in (expected, expected + expected % 2):
        reason = f"it has {pixels.length} bytes of pixels where {rows} x {columns} x {header.frames} need {expected}"
        raise BadInstanceError("pixel-length", reason)
