"""Zips that are not what they say."""

import io
import os
import stat
import struct
import zipfile
from collections.abc import Mapping

DICM = b"\0" * 128 + b"DICM"
_LOCAL, _CENTRAL, _END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"  # APPNOTE.TXT 4.3.7, 4.3.12, 4.3.16


def zip_of(entries: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip with these entries."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def bomb() -> bytes:
    """20 MB of zeros in 20 kB."""
    return zip_of({f"{number}.dcm": DICM + bytes(5_000_000) for number in range(4)})


def large_entry() -> bytes:
    """One entry larger than a file may be."""
    return zip_of({"a.dcm": DICM + os.urandom(5_000_000)})


def nested_bomb() -> bytes:
    """Zips in zips in a zip, the innermost of which are bombs."""
    inner = {f"{number}.zip": bomb() for number in range(4)}
    return zip_of({f"{number}.zip": zip_of(inner) for number in range(4)})


def forged(declared: int) -> bytes:
    """An entry of 5 MB that declares another size, in both places where a zip does."""
    content = bytearray(zip_of({"a.dcm": DICM + os.urandom(64) + bytes(5_000_000)}))
    for signature, at in ((_LOCAL, 22), (_CENTRAL, 24)):
        struct.pack_into("<I", content, content.index(signature) + at, declared)
    return bytes(content)


def overlapping() -> bytes:
    """A directory that lists one entry of 200 kB two hundred times."""
    content = zip_of({"a.dcm": DICM + os.urandom(200_000)})
    start, end = content.index(_CENTRAL), content.index(_END)
    directory = content[start:end] * 200
    return content[:start] + directory + struct.pack("<4s4H2IH", _END, 0, 0, 200, 200, len(directory), start, 0)


def climbing() -> bytes:
    """Names that are paths out of wherever they would be unpacked to."""
    names = ("../../../planted.dcm", "/tmp/planted.dcm", "..\\..\\planted.dcm", "C:\\planted.dcm", "a/../../planted.dcm")
    return zip_of(dict.fromkeys(names, DICM))


def linking() -> bytes:
    """Symbolic links to what the service can read and its client cannot."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, target in {"a.dcm": "/etc/passwd", "b.dcm": "../../ledger.sqlite3"}.items():
            link = zipfile.ZipInfo(name)
            link.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(link, target)
    return buffer.getvalue()


def crowded() -> bytes:
    """Twenty thousand files of a byte each."""
    return zip_of({f"{number}.dcm": b"x" for number in range(20_000)}, zipfile.ZIP_STORED)


def zip64() -> bytes:
    """A zip whose Zip64 fields override those that were looked at."""
    content = zip_of({"a.dcm": b"x"})
    at = content.index(_END)
    return content[:at] + b"PK\x06\x07" + bytes(16) + content[at:]
