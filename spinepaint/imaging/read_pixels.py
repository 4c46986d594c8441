"""Reads one instance whole and decodes its pixels, once what its streams claim to hold is known to fit its header."""

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import JPEG2000, JPEG2000Lossless, RLELossless

from spinepaint.imaging.caps import DEFAULT_CAPS, Caps
from spinepaint.imaging.check_pixels import NATIVE, PLUGINS
from spinepaint.imaging.lossy import state_loss
from spinepaint.imaging.mending import Illegal, mended
from spinepaint.imaging.read_budget import Budget, MeteredFile
from spinepaint.imaging.read_header import BadInstanceError, Header, parsing
from spinepaint.imaging.read_jpeg import jpeg_frame_size
from spinepaint.imaging.read_values import PARSER_ERRORS

_STREAM_OVERHEAD = 2**16  # bytes; headers and tables
_RLE_HEADER = 64  # bytes (PS3.5 G.5)
_LONGEST_RUN = 128  # bytes that two bytes of RLE can stand for
_HARMLESS_BYTES = 2**28  # what a frame may unfold to without being counted first
_DEEPEST_SEQUENCE = 16
_J2K_START = b"\xff\x4f\xff\x51"  # SOC, SIZ (ISO/IEC 15444-1 A.4, A.5)
_ITEM = b"\xfe\xff\x00\xe0"  # (FFFE,E000), always little endian here
_JP2_START = b"\0\0\0\x0cjP  "  # the signature box (ISO/IEC 15444-1 I.5.1)


def read_instance(header: Header, caps: Caps = DEFAULT_CAPS) -> tuple[Dataset, NDArray[np.integer], Illegal]:
    """Read an instance that passed `check_pixels` whole: its data set without the pixels, and its stored values.

    The third is what was not legal in the data set, and was taken out or replaced.

    The stored values are (frame, row, column), of the instance's own bit depth and sign, little endian. The data set's
    `filename` is the name the instance was handed over under, fit to be shown.

    Raises BadInstanceError: `unreadable-pixels`, `truncated-pixels`, `unsupported-pixels`, `unreadable-instance`,
    `nested-too-deep`, `over-cap-header-bytes`, `over-cap-header-elements`, `missing-uid`.
    """
    most_pixel_bytes = _most_pixel_bytes(header)
    beyond = (header.pixels.available if header.pixels else 0) - most_pixel_bytes
    if beyond > caps.header_bytes:
        reason = f"it holds {beyond} bytes beyond its pixels, over the cap header_bytes of {caps.header_bytes}"
        raise BadInstanceError("over-cap-header-bytes", reason)
    budget = Budget(2 * caps.header_bytes + most_pixel_bytes, caps.header_elements)
    with parsing(budget, caps), header.file.open() as whole, MeteredFile(whole, budget) as stream:
        ds = dcmread(stream, force=True)
        _refuse_deep_sequences(ds)
    pixels = decode(ds, header)
    illegal = mended(ds)
    state_loss(ds, pixels.nbytes)
    del ds.PixelData
    ds.buffer = None  # it no longer hangs on the file it came from, which is closed
    ds.filename = header.file.name  # as it was handed over, for a refusal that comes later
    return ds, pixels, illegal


def _refuse_deep_sequences(ds: Dataset) -> None:
    """Refuse what would raise RecursionError in whoever copies or writes the data set later."""
    pending = [(ds, 0)]
    while pending:
        item, depth = pending.pop()
        if depth > _DEEPEST_SEQUENCE:
            raise BadInstanceError("nested-too-deep", f"its sequences are nested more than {_DEEPEST_SEQUENCE} deep")
        sequences = [element.value for element in item if element.VR == "SQ"]
        pending.extend((nested, depth + 1) for sequence in sequences for nested in sequence)


def _native_bytes(header: Header) -> int:
    """Bytes of one frame of an instance, uncompressed."""
    return (header.rows or 0) * (header.columns or 0) * ((header.bits_allocated or 16) // 8)


def _most_stream_bytes(header: Header) -> int:
    """Bytes of one compressed frame at most: compression may not gain, but never loses by half."""
    return 2 * _native_bytes(header) + _STREAM_OVERHEAD


def _most_pixel_bytes(header: Header) -> int:
    if header.pixels is not None and header.pixels.length is not None:
        return header.pixels.length
    return header.frames * _most_stream_bytes(header)


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
    if max(map(len, streams)) > _most_stream_bytes(header):
        raise BadInstanceError("unreadable-pixels", "its compressed pixels are larger than they would be uncompressed")
    if header.transfer_syntax == RLELossless:  # its frames carry no size of their own
        if any(_unfolds_too_far(stream, _most_stream_bytes(header)) for stream in streams):
            raise BadInstanceError("unreadable-pixels", "its run lengths unfold to more than its header says")
        return
    for stream in streams:
        size = _size_of_j2k(stream) if header.transfer_syntax in (JPEG2000, JPEG2000Lossless) else jpeg_frame_size(stream)
        if size != (header.rows, header.columns, 1):
            raise BadInstanceError("unreadable-pixels", f"its compressed image is of another size than its header says: {size}")


def _unfolds_too_far(stream: bytes, most: int) -> bool:
    """Whether the runs of an RLE frame (PS3.5 G.3.1) stand for more than `most` bytes; what cannot do harm is not counted."""
    if len(stream) * _LONGEST_RUN // 2 <= _HARMLESS_BYTES:
        return False
    at, unfolded = _RLE_HEADER, 0
    while at < len(stream) and unfolded <= most:
        run = stream[at]
        unfolded += run + 1 if run < 128 else 257 - run
        at += run + 2 if run < 128 else 2
    return unfolded > most


def _streams(ds: Dataset, header: Header) -> Iterator[bytes]:
    _refuse_cut_fragments(ds["PixelData"].value)
    return generate_frames(ds["PixelData"].value, number_of_frames=header.frames)


def _refuse_cut_fragments(value: bytes) -> None:
    """Refuse fragments (PS3.5 A.4) that claim to go on after the end; pydicom would make do with what there is."""
    at = 0
    while at < len(value):
        tag, length = value[at : at + 4], int.from_bytes(value[at + 4 : at + 8], "little")
        at += 8 + length
        if tag != _ITEM or at > len(value):
            raise BadInstanceError("truncated-pixels", "its compressed pixels are cut short, or no fragments")


def _size_of_j2k(stream: bytes) -> tuple[int, int, int]:
    """Rows, columns and components of a JPEG 2000 codestream, or of the one inside a JP2 wrapping."""
    start = _codestream_in_jp2(stream) if stream.startswith(_JP2_START) else 0
    if not stream.startswith(_J2K_START, start):
        raise BadInstanceError("unreadable-pixels", "its compressed pixels are not JPEG 2000")
    x, y, x_offset, y_offset = struct.unpack_from(">4I", stream, start + 8)
    (components,) = struct.unpack_from(">H", stream, start + 40)
    return y - y_offset, x - x_offset, components


def _codestream_in_jp2(stream: bytes) -> int:
    """Where the contiguous codestream box of a JP2 file begins (ISO/IEC 15444-1 I.4); its end where there is none."""
    at = 0
    while at + 8 <= len(stream):
        length, kind = struct.unpack_from(">I4s", stream, at)
        if kind == b"jp2c":
            return at + (16 if length == 1 else 8)
        at += max(8, length)
    return len(stream)
