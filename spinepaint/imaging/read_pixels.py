"""Decodes the pixels of one instance, once what the compressed stream claims to hold is known to fit its header."""

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import JPEG2000, JPEG2000Lossless, RLELossless

from spinepaint.imaging.check_pixels import NATIVE, PLUGINS
from spinepaint.imaging.read_header import BadInstanceError, Header
from spinepaint.imaging.read_values import PARSER_ERRORS

_STREAM_OVERHEAD = 2**16  # bytes; headers and tables. It bounds what run lengths can unfold to (64 times a stream)
_J2K_START = b"\xff\x4f\xff\x51"  # SOC, SIZ (ISO/IEC 15444-1 A.4, A.5)
_JPEG_START_OF_FRAME = {*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0), 0xF7}


def decode(ds: Dataset, header: Header) -> NDArray[np.integer]:
    """Stored values (frame, row, column) of one instance, of its own bit depth and sign, little endian.

    Raises BadInstanceError: `unreadable-pixels`, or `unsupported-pixels` where values do not fit the bits stored.
    """
    try:
        if header.transfer_syntax not in NATIVE:
            _check_streams(ds, header)
        plugin = "" if header.transfer_syntax in NATIVE else PLUGINS[header.transfer_syntax]
        # pydicom would mask the bits above those stored; a value that uses them has to be seen to be refused.
        decoder = get_decoder(header.transfer_syntax)
        options: dict[str, Any] = {"correct_unused_bits": False}
        array, _ = decoder.as_array(ds, raw=True, decoding_plugin=plugin, **options)
    except BadInstanceError:
        raise
    except PARSER_ERRORS as error:
        raise BadInstanceError("unreadable-pixels", f"its pixels cannot be decoded ({type(error).__name__})") from None
    shape = (header.frames, header.rows or 0, header.columns or 0)
    if array.size != np.prod(shape):
        raise BadInstanceError("unreadable-pixels", "its pixels decode to another size than its header says")
    kind = "i" if header.pixel_representation else "u"
    stored: NDArray[np.integer] = array.reshape(shape).astype(f"<{kind}{(header.bits_allocated or 16) // 8}", copy=False)
    _check_range(stored, header)
    return stored


def _check_range(stored: NDArray[np.integer], header: Header) -> None:
    bits = header.bits_stored or 16
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if header.pixel_representation else (0, 2**bits - 1)
    if int(stored.min()) < low or int(stored.max()) > high:
        raise BadInstanceError("unsupported-pixels", f"its values do not fit the {bits} bits that it stores")


def _check_streams(ds: Dataset, header: Header) -> None:
    """Compare each compressed frame's own size with the header: decoders allocate what the stream says."""
    streams = list(_streams(ds, header))
    if len(streams) != header.frames:
        raise BadInstanceError("truncated-pixels", f"it holds {len(streams)} compressed frames of {header.frames}")
    native = (header.rows or 0) * (header.columns or 0) * ((header.bits_allocated or 16) // 8)
    if max(map(len, streams)) > 2 * native + _STREAM_OVERHEAD:
        raise BadInstanceError("unreadable-pixels", "its compressed pixels are larger than they would be uncompressed")
    if header.transfer_syntax == RLELossless:
        return  # its frames carry no size of their own
    for stream in streams:
        size = _size_of_j2k(stream) if header.transfer_syntax in (JPEG2000, JPEG2000Lossless) else _size_of_jpeg(stream)
        if size != (header.rows, header.columns, 1):
            raise BadInstanceError("unreadable-pixels", f"its compressed image is of another size than its header says: {size}")


def _streams(ds: Dataset, header: Header) -> Iterator[bytes]:
    return generate_frames(ds["PixelData"].value, number_of_frames=header.frames)


def _size_of_j2k(stream: bytes) -> tuple[int, int, int]:
    """Rows, columns and components of a JPEG 2000 codestream, or of the one inside a JP2 wrapping."""
    start = stream.find(_J2K_START, 0, 1024)
    if start < 0:
        raise BadInstanceError("unreadable-pixels", "its compressed pixels are not JPEG 2000")
    x, y, x_offset, y_offset = struct.unpack_from(">4I", stream, start + 8)
    (components,) = struct.unpack_from(">H", stream, start + 40)
    return y - y_offset, x - x_offset, components


def _size_of_jpeg(stream: bytes) -> tuple[int, int, int]:
    """Rows, columns and components of the first frame header of a JPEG or JPEG-LS stream (ISO/IEC 10918-1 B.2.2)."""
    at = 2
    while stream[:2] == b"\xff\xd8" and at + 10 <= len(stream) and stream[at] == 0xFF:
        marker = stream[at + 1]
        if marker in _JPEG_START_OF_FRAME:
            rows, columns, components = struct.unpack_from(">HHB", stream, at + 5)
            return rows, columns, components
        at += 1 if marker == 0xFF else 2 + int(struct.unpack_from(">H", stream, at + 2)[0])
    raise BadInstanceError("unreadable-pixels", "its compressed pixels are not JPEG")
