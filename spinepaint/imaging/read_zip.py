"""Inflates entries of a zip, counting what really comes out rather than what the zip declares."""

import io
import os
import stat
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryFile
from types import TracebackType
from typing import IO, BinaryIO, Self, cast

from spinepaint.imaging.caps import KIB, MIB, Caps
from spinepaint.imaging.errors import DiskFull, InstanceReason, Refusal, is_disk_full
from spinepaint.imaging.read_names import shown_name

BAD_ZIP = "bad-zip"
_END_OF_DIRECTORY = b"PK\x05\x06"  # APPNOTE.TXT 4.3.16
_ZIP64_LOCATOR = b"PK\x06\x07"  # APPNOTE.TXT 4.3.15
_ARCHIVE_STARTS = (b"PK\x03\x04", _END_OF_DIRECTORY)
_END_SIZE, _LOCATOR_SIZE, _LONGEST_COMMENT = 22, 20, 65535
_DIRECTORY_BYTES_PER_ENTRY = 1 * KIB
_CHUNK = 1 * MIB
_LARGE = 8 * MIB  # an entry that is inflated to disk
DICM_END = 132  # the preamble and the prefix (PS3.10 7.1)
_ENCRYPTED = 0x1
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def looks_like_zip(path: Path) -> bool:
    """Whether a file starts as a zip does. A DICOM file whose preamble pretends to be one counts as DICOM."""
    with path.open("rb") as file:
        return _starts_an_archive(file.read(DICM_END))


def _starts_an_archive(head: bytes) -> bool:
    return head[:4] in _ARCHIVE_STARTS and head[DICM_END - 4 :] != b"DICM"


@dataclass(frozen=True)
class ZipEntry:
    """One entry of an open zip, as a SourceFile."""

    archive: "Archive"
    info: zipfile.ZipInfo
    name: str

    def head(self, size: int) -> bytes:
        """Its first `size` bytes; no more is inflated than that needs."""
        return self.archive.read(self.info, size)

    def open(self) -> BinaryIO:
        """The whole of it, inflated into memory, or to disk where it is large. Raises Refusal, and DiskFull."""
        try:
            content = io.BytesIO() if self.info.file_size <= _LARGE else self.archive.scratch()
            self.archive.inflate(self.info, content)
            content.seek(0)
        except OSError as error:
            if is_disk_full(error):
                raise DiskFull from error
            raise
        return cast(BinaryIO, content)


class Archive:
    """An open zip under caps.

    Raises Refusal `bad-zip` where it cannot be read, and `over-cap-*` as soon as a cap is passed, both by what
    the directory declares and by what really comes out of the entries.
    """

    def __init__(self, path: Path, caps: Caps) -> None:
        """Note the zip's own size, against which its inflation is measured."""
        self._path, self._caps = path, caps
        self._size = path.stat().st_size
        self._inflated: dict[int, int] = {}
        self._inflated_total = 0

    def __enter__(self) -> Self:
        """Load the directory."""
        try:
            self._refuse_a_huge_directory()
            self._zip = zipfile.ZipFile(self._path)
        except (zipfile.BadZipFile, OSError, ValueError, UnicodeDecodeError, NotImplementedError) as error:
            raise self._broken("the zip's directory cannot be read") from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the file."""
        self._zip.close()

    def entries(self) -> list[zipfile.ZipInfo]:
        """The entries that are files, in the order of the directory, once their declared sizes are within the caps."""
        entries = [info for info in self._zip.infolist() if not info.filename.endswith("/")]  # is_dir fails on an empty name
        self._caps.enforce("upload_files", len(entries))
        self._enforce(sum(info.file_size for info in entries))
        for info in entries:
            self._caps.enforce("file_bytes", info.file_size)
        return entries

    def why_unsafe(self, info: zipfile.ZipInfo) -> str | None:
        """Why an entry is not opened at all; None where it may be."""
        name = info.filename.replace("\\", "/")
        if name.startswith("/") or ".." in PurePosixPath(name).parts or name[1:2] == ":":
            return "its name climbs out of the archive"
        if stat.S_ISLNK(info.external_attr >> 16):
            return "a symbolic link, not followed"
        if info.flag_bits & _ENCRYPTED:
            return "encrypted"
        if info.compress_type not in _METHODS:
            return "compressed by a method other than deflate"
        if _starts_an_archive(self.read(info, DICM_END)):
            return "an archive inside the upload, not opened"
        return None

    def scratch(self) -> IO[bytes]:
        """A file without a name for what is too large for memory: beside the zip, whose disk is meant for such, if it may be."""
        beside = self._path.parent
        return TemporaryFile(dir=beside if os.access(beside, os.W_OK) else None)

    def read(self, info: zipfile.ZipInfo, size: int) -> bytes:
        """The first `size` bytes of an entry, or as many as there are."""
        content = io.BytesIO()
        self.inflate(info, content, size)
        return content.getvalue()

    def inflate(self, info: zipfile.ZipInfo, target: IO[bytes], size: int | None = None) -> None:
        """Write the first `size` bytes of an entry, or all of it, to `target`, chunk by chunk under the caps.

        Raises OSError where it is `target` that has no room for it.
        """
        written = 0
        try:
            with self._zip.open(info) as entry:
                while size is None or written < size:
                    chunk = entry.read(_CHUNK if size is None else min(_CHUNK, size - written))
                    if not chunk:
                        break
                    written += target.write(chunk)
                    self._count(info, written)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError) as error:
            if is_disk_full(error):
                raise
            raise self._broken("an entry cannot be inflated or fails its checksum", info) from error

    def _count(self, info: zipfile.ZipInfo, size: int) -> None:
        """Note how much has come out of one entry, which may be read more than once."""
        self._caps.enforce("file_bytes", size)
        before = self._inflated.get(info.header_offset, 0)
        if size > before:
            self._inflated[info.header_offset] = size
            self._inflated_total += size - before
            self._enforce(self._inflated_total)

    def _enforce(self, inflated: int) -> None:
        self._caps.enforce("inflated_bytes", inflated)
        if inflated > self._caps.inflation_ratio_from_bytes:
            self._caps.enforce("inflation_ratio", inflated / max(1, self._size))

    def _refuse_a_huge_directory(self) -> None:
        """Refuse before `zipfile` loads a directory that could not belong to so few files.

        No zip within the caps needs Zip64, whose fields would override the ones read here.
        """
        with self._path.open("rb") as file:
            reach = min(self._size, _END_SIZE + _LONGEST_COMMENT + _LOCATOR_SIZE)
            file.seek(self._size - reach)
            tail = file.read(reach)
        end = tail.rfind(_END_OF_DIRECTORY)
        if end < 0 or len(tail) - end < _END_SIZE:
            raise zipfile.BadZipFile("no end of central directory")
        if tail[max(0, end - _LOCATOR_SIZE) : end].startswith(_ZIP64_LOCATOR):
            self._caps.enforce("upload_files", max(2**16, self._caps.upload_files + 1))
        directory_bytes = int.from_bytes(tail[end + 12 : end + 16], "little")
        if directory_bytes > self._caps.upload_files * _DIRECTORY_BYTES_PER_ENTRY:
            self._caps.enforce("upload_files", max(directory_bytes // 46, self._caps.upload_files + 1))

    def _broken(self, reason: str, info: zipfile.ZipInfo | None = None) -> Refusal:
        name = shown_name(info.filename if info else self._path.name)
        return Refusal(
            type=BAD_ZIP,
            title="The zip cannot be read.",
            detail="It is damaged or forged; make it again from the files.",
            instances=[InstanceReason(name, reason)],
        )
