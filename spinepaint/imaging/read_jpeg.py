"""Walks a JPEG Lossless or JPEG-LS stream strictly before a decoder sees it.

Decoders allocate by what the stream says, and GDCM's ends the process on some streams whose segments are out of step: it lets
a C++ exception escape. What is not one frame of one well-formed scan is therefore not handed to them.
"""

import re
import struct
from collections.abc import Iterator

from spinepaint.imaging.read_header import BadInstanceError

_START, _END, _SCAN, _TABLES = b"\xff\xd8", 0xD9, 0xDA, 0xC4
_FRAMES = (0xC3, 0xF7)  # lossless Huffman (ISO/IEC 10918-1 B.1.1.3), JPEG-LS (ISO/IEC 14495-1 C.1.1)
_PASSED_OVER = frozenset({*range(0xE0, 0xF0), 0xFE, 0xDB, 0xDD, 0xF8})  # APPn, COM, DQT, DRI, LSE
_CATEGORIES = 17  # of differences, 0 to 16 (ISO/IEC 10918-1 H.1.2.2)
# The first marker behind a scan: neither a stuffed byte nor, for Huffman coding, a restart.
_AFTER_SCAN = {0xC3: re.compile(rb"\xff[^\x00\xd0-\xd7\xff]"), 0xF7: re.compile(rb"\xff[\x80-\xcf\xd8-\xfe]")}


def jpeg_frame_size(stream: bytes) -> tuple[int, int, int]:
    """Rows, columns and components of the one frame of a stream.

    Raises BadInstanceError: `unreadable-pixels` for a stream that is not well formed, `truncated-pixels` for one without an end.
    """
    size, kind = None, 0
    for marker, segment, end in _segments(stream):
        if marker in _FRAMES and size is None:
            size, kind = _frame(segment), marker
        elif marker == _TABLES:
            _check_tables(segment)
        elif marker == _SCAN and size is not None:
            _check_scan(segment, size[2], kind)
            _check_end(stream, end, kind)
            return size
        elif marker not in _PASSED_OVER:
            break
    raise _malformed()


def _malformed() -> BadInstanceError:
    return BadInstanceError("unreadable-pixels", "its compressed pixels are not one well-formed JPEG image")


def _segments(stream: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Marker, content and end of each marker segment (ISO/IEC 10918-1 B.1.1.4), as long as one follows upon the other."""
    at = 2 if stream.startswith(_START) else len(stream)
    while at + 4 <= len(stream) and stream[at] == 0xFF:
        if stream[at + 1] == 0xFF:  # a fill byte
            at += 1
            continue
        (length,) = struct.unpack_from(">H", stream, at + 2)
        end = at + 2 + length
        if length < 2 or end > len(stream):
            return
        yield stream[at + 1], stream[at + 4 : end], end
        at = end


def _frame(segment: bytes) -> tuple[int, int, int]:
    """Rows, columns, components (ISO/IEC 10918-1 B.2.2)."""
    if len(segment) < 6 or len(segment) != 6 + 3 * segment[5] or not 2 <= segment[0] <= 16:
        raise _malformed()
    rows, columns, components = struct.unpack_from(">HHB", segment, 1)
    return rows, columns, components


def _check_tables(segment: bytes) -> None:
    """Huffman tables (ISO/IEC 10918-1 B.2.4.2) of the categories that a lossless scan has, whose codes exist."""
    at = 0
    while at < len(segment):
        counts = segment[at + 1 : at + 17]
        values = segment[at + 17 : at + 17 + sum(counts)]
        space = sum(count << (15 - index) for index, count in enumerate(counts))
        whole = len(counts) == 16 and len(values) == sum(counts)
        if not whole or segment[at] > 3 or space > 1 << 16 or len(values) > _CATEGORIES or any(v >= _CATEGORIES for v in values):
            raise _malformed()
        at += 17 + len(values)


def _check_scan(segment: bytes, components: int, kind: int) -> None:
    """One scan of all components (ISO/IEC 10918-1 B.2.3) by a predictor that there is, or of JPEG-LS without mapping."""
    if not segment or segment[0] != components or len(segment) != 4 + 2 * components:
        raise _malformed()
    first, second, third = segment[-3:]
    if kind == 0xC3 and not (1 <= first <= 7 and second == 0 and third < 16):
        raise _malformed()
    if kind == 0xF7 and (second > 2 or third > 15):
        raise _malformed()


def _check_end(stream: bytes, start: int, kind: int) -> None:
    found = _AFTER_SCAN[kind].search(stream, start)
    if found is None:
        raise BadInstanceError("truncated-pixels", "its compressed pixels are cut short")
    if stream[found.start() + 1] != _END:
        raise _malformed()
