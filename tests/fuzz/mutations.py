"""Ways to spoil a file: each takes a source of chance, the file and another seed's file, and gives a spoilt file."""

import random
import re
import struct
from collections.abc import Callable

Mutation = Callable[[random.Random, bytes, bytes], bytes]

_VRS = (
    b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT", b"OB", b"OD", b"OF", b"OL", b"OV",
    b"OW", b"PN", b"SH", b"SL", b"SQ", b"SS", b"ST", b"SV", b"TM", b"UC", b"UI", b"UL", b"UN", b"UR", b"US", b"UT", b"UV",
    b"ZZ", b"\0\0", b"??",
)  # fmt: skip
_ELEMENT = re.compile(rb"[\x00-\x7f]\x00..(" + b"|".join(_VRS[:34]) + rb")", re.DOTALL)
_ITEM = re.compile(rb"\xfe\xff(?:\x00\xe0|\x0d\xe0|\xdd\xe0)", re.DOTALL)
_CODESTREAM = re.compile(rb"\xff[\x4f-\x64\x90-\x93\xc0-\xcf\xd8-\xdf\xf7\xf8]", re.DOTALL)
_TOLD = {  # elements whose values the reader or a decoder acts upon, by tag
    "rows": (0x0028, 0x0010), "columns": (0x0028, 0x0011), "samples": (0x0028, 0x0002), "allocated": (0x0028, 0x0100),
    "stored": (0x0028, 0x0101), "high": (0x0028, 0x0102), "sign": (0x0028, 0x0103), "frames": (0x0028, 0x0008),
    "spacing": (0x0028, 0x0030), "orientation": (0x0020, 0x0037), "position": (0x0020, 0x0032), "photometric": (0x0028, 0x0004),
    "slope": (0x0028, 0x1053), "syntax": (0x0002, 0x0010), "class": (0x0008, 0x0016), "charset": (0x0008, 0x0005),
    "echo": (0x0018, 0x0081), "pixels": (0x7FE0, 0x0010), "planar": (0x0028, 0x0006),
}  # fmt: skip
_NUMBERS = (0, 1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 127, 128, 255, 256, 1024, 32767, 32768, 65534, 65535)
_LONG = (*_NUMBERS, 2**16, 2**20, 2**24, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1)
_TEXTS = (b"", b"\\" * 64, b"9" * 64, b"-1", b"1e308", b"nan", b"inf", b"1\\2\\3\\4\\5\\6", b"\xff\xfe", b"0.0", b"\x1b$B" * 8)


def flip_bits(chance: random.Random, file: bytes, other: bytes) -> bytes:
    """A few bits anywhere, most of them in the header or in the last part."""
    spoilt = bytearray(file)
    for _ in range(chance.choice((1, 1, 2, 4, 16, 64))):
        at = chance.randrange(len(spoilt))
        spoilt[at] ^= 1 << chance.randrange(8)
    return bytes(spoilt)


def overwrite(chance: random.Random, file: bytes, other: bytes) -> bytes:
    """A stretch of bytes with chance, zeros, ones or a number that means something."""
    at = chance.randrange(len(file))
    size = chance.choice((1, 2, 4, 8, 64, 512))
    value = chance.choice(_LONG)
    content = chance.choice(
        (chance.randbytes(size), b"\0" * size, b"\xff" * size, struct.pack("<I", value), struct.pack(">I", value))
    )
    return file[:at] + content + file[at + len(content) :]


def truncate(chance: random.Random, file: bytes, other: bytes) -> bytes:
    """The file without its end, or without its beginning."""
    at = chance.randrange(len(file))
    return file[:at] if chance.random() < 0.8 else file[at:]


def extend(chance: random.Random, file: bytes, other: bytes) -> bytes:
    """Bytes after the end: of another file, of this one, or trailing padding."""
    padding = struct.pack("<HH2sHI", 0xFFFC, 0xFFFC, b"OB", 0, chance.choice(_LONG))
    return file + chance.choice((other, file, padding, chance.randbytes(64), b"\0" * 65536))


def forge_length(chance: random.Random, file: bytes, other: bytes) -> bytes:
    """The length of one element."""
    found = _elements(file)
    if not found:
        return overwrite(chance, file, other)
    at, vr = chance.choice(found)
    if vr in (b"OB", b"OW", b"SQ", b"UN", b"UT"):
        return _put(file, at + 8, struct.pack("<I", chance.choice(_LONG)))
    return _put(file, at + 6, struct.pack("<H", chance.choice(_NUMBERS)))


def forge_vr(chance: random.Random, file: bytes, other: bytes) -> bytes:
    """The VR of one to four elements."""
    found = _elements(file)
    for at, _ in chance.choices(found, k=chance.choice((1, 1, 2, 4))) if found else ():
        file = _put(file, at + 4, chance.choice(_VRS))
    return file


def forge_value(chance: random.Random, file: bytes, other: bytes) -> bytes:
    """The value of an element that the reader acts upon: sizes, counts, depth, geometry, transfer syntax."""
    group, element = chance.choice(list(_TOLD.values()))
    big = chance.random() < 0.1
    at = file.find(struct.pack(">HH" if big else "<HH", group, element), 128)
    if at < 0:
        return overwrite(chance, file, other)
    if chance.random() < 0.6:
        return _put(file, at + 8, struct.pack("<H", chance.choice(_NUMBERS)))
    content = chance.choice(_TEXTS)[: chance.choice((2, 4, 16, 64))]
    return _put(file, at + 8, content)


def remove_element(chance: random.Random, file: bytes, other: bytes) -> bytes:
    """From one element's start to another's, cut out or doubled."""
    found = _elements(file)
    if len(found) < 2:
        return truncate(chance, file, other)
    first = chance.randrange(len(found) - 1)
    start, end = found[first][0], found[min(len(found) - 1, first + chance.choice((1, 1, 1, 2, 10)))][0]
    return file[:start] + file[end:] if chance.random() < 0.6 else file[:end] + file[start:]


def nest(chance: random.Random, file: bytes, other: bytes) -> bytes:
    """Sequences inside sequences, of undefined or of defined length, closed or left open."""
    depth = chance.choice((2, 15, 17, 50, 200, 1000, 10_000))
    tag = chance.choice(((0x0008, 0x1140), (0x0018, 0xA001), (0x5200, 0x9229), (0x5200, 0x9230), (0x0009, 0x1001)))
    if chance.random() < 0.5:
        begin = struct.pack("<HH2sHI", *tag, b"SQ", 0, 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
        end = struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
        nested = begin * depth + end * chance.choice((0, depth // 2, depth))
    else:
        nested = b""
        for _ in range(min(depth, 1000)):
            item = struct.pack("<HHI", 0xFFFE, 0xE000, len(nested)) + nested
            nested = struct.pack("<HH2sHI", *tag, chance.choice((b"SQ", b"UN")), 0, len(item)) + item
    return _insert(chance, file, nested)


def multiply(chance: random.Random, file: bytes, other: bytes) -> bytes:
    """Very many elements, items or values where there should be few."""
    count = chance.choice((100, 5000, 20_000))
    kind = chance.randrange(4)
    if kind == 0:
        content = b"".join(struct.pack("<HH2sH", 0x0009, n & 0xFFFF, b"LO", 0) for n in range(count))
    elif kind == 1:
        tag = chance.choice(((0x5200, 0x9229), (0x5200, 0x9230), (0x0018, 0xA001)))
        items = chance.choice((struct.pack("<HHI", 0xFFFE, 0xE000, 0), b"\0" * 8)) * count
        content = struct.pack("<HH2sHI", *tag, b"SQ", 0, chance.choice((len(items), 0xFFFFFFFF))) + items
    elif kind == 2:
        values = b"\\" * min(count, 65534)
        content = (
            struct.pack("<HH2sH", *chance.choice(list(_TOLD.values())), chance.choice((b"DS", b"CS", b"IS")), len(values))
            + values
        )
    else:
        content = struct.pack("<HH2sHI", 0x5400, 0x1010, b"OW", 0, count) + b"\0" * count
    return _insert(chance, file, content)


def swap_chunks(chance: random.Random, file: bytes, other: bytes) -> bytes:
    """Two stretches of the file change places."""
    a, b, c = sorted(chance.randrange(len(file)) for _ in range(3))
    return file[:a] + file[b:c] + file[a:b] + file[c:]


def splice(chance: random.Random, file: bytes, other: bytes) -> bytes:
    """The beginning of one file, most often its header, and the end of another."""
    if chance.random() < 0.6:
        pixels = struct.pack("<HH", 0x7FE0, 0x0010)
        here, there = file.rfind(pixels), other.rfind(pixels)
        if min(here, there) > 0:
            return file[:here] + other[there:]
    return file[: chance.randrange(len(file))] + other[chance.randrange(len(other)) :]


def forge_fragments(chance: random.Random, file: bytes, other: bytes) -> bytes:
    """Items of encapsulated pixels or of sequences: their lengths, or more of them."""
    found = [match.start() for match in _ITEM.finditer(file, 132)]
    if not found:
        return forge_length(chance, file, other)
    at = chance.choice(found[-8:] if chance.random() < 0.5 else found)
    if chance.random() < 0.7:
        return _put(file, at + 4, struct.pack("<I", chance.choice(_LONG)))
    return file[:at] + struct.pack("<HHI", 0xFFFE, 0xE000, 0) * chance.choice((1, 50, 5000)) + file[at:]


def forge_codestream(chance: random.Random, file: bytes, other: bytes) -> bytes:
    """Bytes just behind a marker of JPEG, JPEG-LS or JPEG 2000, or in an RLE header, where sizes and tables stand."""
    pixels = max(0, file.rfind(struct.pack("<HH", 0x7FE0, 0x0010)))
    found = [match.start() for match in _CODESTREAM.finditer(file, pixels)][:40]
    at = (chance.choice(found) if found and chance.random() < 0.8 else pixels + 28) + chance.randrange(2, 48)
    for _ in range(chance.choice((1, 1, 2, 6))):
        content = chance.choice(
            (chance.randbytes(1), struct.pack(">H", chance.choice(_NUMBERS)), struct.pack(">I", chance.choice(_LONG)))
        )
        file = _put(file, min(at, len(file) - 1), content)
        at += chance.randrange(1, 16)
    return file


def noise_in_pixels(chance: random.Random, file: bytes, other: bytes) -> bytes:
    """Bytes anywhere in the pixels, compressed or not."""
    pixels = max(0, file.rfind(struct.pack("<HH", 0x7FE0, 0x0010)))
    for _ in range(chance.choice((1, 3, 10, 40))):
        file = _put(file, chance.randrange(pixels, len(file)), chance.randbytes(chance.choice((1, 1, 2, 8))))
    return file


def several(chance: random.Random, file: bytes, other: bytes) -> bytes:
    """Two or three of the others, one after another."""
    for mutate in chance.choices(MUTATIONS[:-1], k=chance.choice((2, 2, 3))):
        file = mutate(chance, file, other) or file
    return file


MUTATIONS: tuple[Mutation, ...] = (
    flip_bits, overwrite, truncate, extend, forge_length, forge_vr, forge_value, remove_element, nest, multiply, swap_chunks,
    splice, forge_fragments, forge_codestream, noise_in_pixels, several,
)  # fmt: skip


def _elements(file: bytes) -> list[tuple[int, bytes]]:
    """Where elements with an explicit VR seem to start, and their VR."""
    return [(match.start(), match.group(1)) for match in _ELEMENT.finditer(file, 128)]


def _put(file: bytes, at: int, content: bytes) -> bytes:
    return file[:at] + content + file[at + len(content) :]


def _insert(chance: random.Random, file: bytes, content: bytes) -> bytes:
    """`content` before some element, most often where it belongs by its tag, so that what follows is still read."""
    found = [at for at, _ in _elements(file)]
    at = chance.choice(found) if found else chance.randrange(len(file))
    return file[:at] + content + file[at:]
