"""A zip as a stream: of what goes in nothing is held whole, nor the directory that comes last (PKWARE APPNOTE 6.3.10)."""

import struct
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from typing import IO, Self

SPOOL_BYTES = 1 << 20
"""What is kept for the end of a stream stays in memory up to here, then on disk."""

_STORED = 0
_VERSION = 45  # 4.4.3: zip64
_MADE_BY = 3 << 8 | _VERSION  # 4.4.2: Unix
_DESCRIPTOR_FOLLOWS, _UTF_8 = 1 << 3, 1 << 11  # 4.4.4
_DATE = 1 << 5 | 1  # 1980-01-01: the same content gives the same zip
_OWNER_ONLY = 0o600 << 16
_MAX_16, _MAX_32 = 0xFFFF, 0xFFFFFFFF


class ZipStream:
    """Entries one after the other, stored; the caller passes on every piece before it asks for the next entry."""

    def __init__(self) -> None:
        self._offset = 0
        self._entries = 0
        self._directory: IO[bytes] = spool()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._directory.close()

    def entry(self, name: str, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """An entry's bytes (4.3.7–4.3.9), its sizes after its content since nobody knows them before."""
        encoded = name.encode()
        flags = _DESCRIPTOR_FOLLOWS | (0 if name.isascii() else _UTF_8)
        # The sizes of a header in zip64's form say that those of the descriptor are of 8 bytes.
        header = struct.pack("<4s5H3L2H", b"PK\3\4", _VERSION, flags, _STORED, 0, _DATE, 0, _MAX_32, _MAX_32, len(encoded), 20)
        header += encoded + struct.pack("<2H2Q", 1, 16, 0, 0)
        yield header
        crc = size = 0
        for chunk in chunks:
            crc = zlib.crc32(chunk, crc)
            size += len(chunk)
            yield chunk
        yield struct.pack("<4sL2Q", b"PK\7\10", crc, size, size)
        self._directory.write(_central_header(encoded, flags, crc, size, self._offset))
        self._offset += len(header) + size + 24
        self._entries += 1

    def end(self) -> Iterator[bytes]:
        """The directory and what tells where it is (4.3.12–4.3.16)."""
        length = self._directory.tell()
        yield from spooled(self._directory)
        if self._entries >= _MAX_16 or max(self._offset, length) >= _MAX_32:
            ends_at = self._offset + length
            counts = (self._entries, self._entries, length, self._offset)
            yield struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, _MADE_BY, _VERSION, 0, 0, *counts)
            yield struct.pack("<4sLQL", b"PK\6\7", 0, ends_at, 1)
        entries, length, offset = min(self._entries, _MAX_16), min(length, _MAX_32), min(self._offset, _MAX_32)
        yield struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, entries, entries, length, offset, 0)


def zip_length(entries: Iterable[tuple[str, int]]) -> int | None:
    """Bytes of a zip of entries of these names and sizes; None from about 4 GiB or 65535 entries on, where zip64 adds to it.

    An entry has a local header of 30 bytes and 20 of zip64 sizes, a descriptor of 24 and a central header of 46, with its
    name twice; the archive ends in 22 bytes.
    """
    counted = [120 + 2 * len(name.encode()) + size for name, size in entries]
    length = sum(counted) + 22
    return length if length < _MAX_32 and len(counted) < _MAX_16 else None


def spool() -> IO[bytes]:
    """A place for what is written now and read once at the end."""
    return tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES)


def spooled(file: IO[bytes]) -> Iterator[bytes]:
    """What was written to a spool, in pieces."""
    file.seek(0)
    while chunk := file.read(SPOOL_BYTES):
        yield chunk


def _central_header(name: bytes, flags: int, crc: int, size: int, offset: int) -> bytes:
    """An entry of the directory (4.3.12), with zip64's numbers (4.5.3) where the plain ones do not suffice."""
    large = [value for value in (size, size, offset) if value >= _MAX_32]
    extra = struct.pack(f"<2H{len(large)}Q", 1, 8 * len(large), *large) if large else b""
    size, offset = min(size, _MAX_32), min(offset, _MAX_32)
    sizes = (crc, size, size, len(name), len(extra), 0, 0, 0, _OWNER_ONLY, offset)
    return struct.pack("<4s6H3L5H2L", b"PK\1\2", _MADE_BY, _VERSION, flags, _STORED, 0, _DATE, *sizes) + name + extra
