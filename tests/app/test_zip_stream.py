"""Streamed zips, read back by Python's own reader."""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from spinepaint.app import zip_stream
from spinepaint.app.zip_stream import ZipStream, zip_length

FILES = {"a/1.dcm": b"one" * 1000, "empty": b"", "ü/µ.json": b"{}"}


def zipped(files: dict[str, bytes]) -> Iterator[bytes]:
    with ZipStream() as archive:
        for name, content in files.items():
            yield from archive.entry(name, (content[at : at + 7] for at in range(0, len(content), 7)))
        yield from archive.end()


def test_python_reads_it_and_the_length_is_known_before() -> None:
    data = b"".join(zipped(FILES))
    assert len(data) == zip_length((name, len(content)) for name, content in FILES.items())
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == FILES
    assert data == b"".join(zipped(FILES))


def test_it_is_what_the_standard_library_writes() -> None:
    class Unseekable(io.RawIOBase):
        def __init__(self) -> None:
            self.data = b""

        def writable(self) -> bool:
            return True

        def write(self, data: object) -> int:
            self.data += bytes(data)  # type: ignore[call-overload]
            return len(bytes(data))  # type: ignore[call-overload]

    sink = Unseekable()
    with zipfile.ZipFile(sink, "w") as archive:
        for name, content in FILES.items():
            with archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as file:
                file.write(content)
    assert b"".join(zipped(FILES)) == sink.data


def test_more_entries_than_a_plain_zip_can_have() -> None:
    names = [f"{number:05d}" for number in range(70_000)]
    assert zip_length((name, 0) for name in names) is None
    data = b"".join(zipped(dict.fromkeys(names, b"")))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.namelist() == names


def test_the_directory_does_not_stay_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zip_stream, "SPOOL_BYTES", 1000)
    with ZipStream() as archive:
        for number in range(100):
            assert b"".join(archive.entry(f"{number}", [b"x"]))
        assert archive._directory._rolled  # type: ignore[attr-defined]
        assert b"".join(archive.end()).endswith(b"\0\0")


def test_the_length_that_is_said_from_2_gib_on() -> None:
    """Where the standard library already writes zip64's offsets, which a plain zip does not need yet."""
    block = bytes(1 << 20)
    with ZipStream() as archive:
        pieces = [archive.entry("large", (block for _ in range(2200))), archive.entry("small", [b"after"]), archive.end()]
        written = sum(len(piece) for part in pieces for piece in part)
    assert written == zip_length([("large", 2200 << 20), ("small", 5)])


def test_entries_beyond_4_gib(tmp_path: Path) -> None:
    """A sparse file: 4 GiB of zeros that are seeked over, with an entry behind them."""
    block = bytes(1 << 20)
    path = tmp_path / "large.zip"
    with path.open("wb") as file, ZipStream() as archive:
        for piece in archive.entry("large", (block for _ in range(4096))):
            if piece is block:
                file.seek(len(block), 1)
            else:
                file.write(piece)
        for pieces in (archive.entry("small", [b"after"]), archive.end()):
            for piece in pieces:
                file.write(piece)
    with zipfile.ZipFile(path) as read:
        assert read.getinfo("large").file_size == 1 << 32
        assert read.read("small") == b"after"
