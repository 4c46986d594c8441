"""Lists what a caller handed over (files, a folder, a zip) without trusting any name inside it.

Nothing is ever extracted to disk: an entry of a zip is inflated into memory, one at a time, under the caps.
Names are kept for the report alone, as a basename without control characters.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

from spinepaint.imaging.caps import Caps
from spinepaint.imaging.errors import InstanceReason, Refusal
from spinepaint.imaging.read_bounded import BoundedFile
from spinepaint.imaging.read_names import leftover, shown_name
from spinepaint.imaging.read_zip import BAD_ZIP, Archive, ZipEntry, looks_like_zip


class SourceFile(Protocol):
    """One file of a source: a file on disk, or an entry of a zip."""

    @property
    def name(self) -> str:
        """The basename it was given under, fit to be shown."""

    def head(self, size: int) -> bytes:
        """Its first `size` bytes, or as many as there are."""

    def open(self) -> BinaryIO:
        """The whole of it, seekable and open at its start; the caller closes it."""


@dataclass(frozen=True)
class DiskFile:
    """A regular file on disk."""

    path: Path
    name: str

    def head(self, size: int) -> bytes:
        """Its first `size` bytes."""
        with self.path.open("rb") as file:
            return file.read(size)

    def open(self) -> BinaryIO:
        """The whole of it, unable to be asked for more bytes than it has."""
        return BoundedFile(self.path)


@dataclass
class Listing:
    """The files of a source, each once.

    Attributes
    ----------
    files: those to be read.
    ignored: those that hold nothing.
    unopened: those that are not opened although they might hold a slice.
    damaged: entries of a zip that cannot be inflated.
    """

    files: list[SourceFile] = field(default_factory=list)
    ignored: list[InstanceReason] = field(default_factory=list)
    unopened: list[InstanceReason] = field(default_factory=list)
    damaged: list[InstanceReason] = field(default_factory=list)

    def sort_in(self, file: SourceFile, empty: str | None, unsafe: str | None) -> None:
        """List a file, unless there is a reason why it holds nothing (`empty`) or is not opened (`unsafe`)."""
        if empty:
            self.ignored.append(InstanceReason(file.name, empty))
        elif unsafe:
            self.unopened.append(InstanceReason(file.name, unsafe))
        else:
            self.files.append(file)


@contextmanager
def unpacked(source: Path | Sequence[Path], caps: Caps) -> Iterator[Listing]:
    """List a file, a folder, a zip, or a list of those files; valid inside the `with`.

    Links inside a folder are not followed and archives inside a folder or a zip are not opened.

    Raises Refusal: `not-found`, `bad-zip`, or `over-cap-*` by the name of the cap.
    """
    paths = [source] if isinstance(source, Path) else list(source)
    missing = [shown_name(path.name) for path in paths if not path.exists()]
    if missing or not paths:
        raise Refusal(
            type="not-found",
            title="There is nothing under the path that was given.",
            detail="Give a folder, a zip, a multi-frame file or a list of files that can be read.",
            instances=[InstanceReason(name, "does not exist") for name in missing],
            status=404,
        )
    if len(paths) == 1 and paths[0].is_file() and looks_like_zip(paths[0]):
        caps.enforce("upload_bytes", paths[0].stat().st_size)
        with Archive(paths[0], caps) as archive:
            yield _list_archive(archive)
        return
    yield _list_disk(paths, caps)


def _list_archive(archive: Archive) -> Listing:
    listing = Listing()
    for info in archive.entries():
        empty = leftover(info.filename)
        try:
            unsafe = None if empty else archive.why_unsafe(info)
        except Refusal as refusal:
            if refusal.type != BAD_ZIP:
                raise
            listing.damaged += refusal.instances
            continue
        listing.sort_in(ZipEntry(archive, info, shown_name(info.filename)), empty, unsafe)
    return listing


def _list_disk(paths: Sequence[Path], caps: Caps) -> Listing:
    listing = Listing()
    total = count = 0
    for given in paths:
        for path in _walk(given):
            count += 1
            caps.enforce("upload_files", count)
            unsafe = _why_unsafe(path, followed=path == given)
            if unsafe is None:
                size = path.stat().st_size
                total += size
                caps.enforce("file_bytes", size)
                caps.enforce("upload_bytes", total)
                unsafe = "an archive inside the upload, not opened" if looks_like_zip(path) else None
            listing.sort_in(DiskFile(path, shown_name(path.name)), leftover(path.name), unsafe)
    return listing


def _walk(given: Path) -> Iterator[Path]:
    """The file itself, or every file below the folder in a fixed order; linked folders come out as links."""
    if not given.is_dir():
        yield given
        return
    for folder, folders, files in os.walk(given, followlinks=False):
        folders.sort()
        here = Path(folder)
        yield from (here / name for name in folders if (here / name).is_symlink())
        yield from (here / name for name in sorted(files))


def _why_unsafe(path: Path, *, followed: bool) -> str | None:
    """A link is followed only where the caller named it; what is no regular file, such as a pipe, might never end."""
    mode = (path.stat() if followed else path.lstat()).st_mode
    if stat.S_ISLNK(mode):
        return "a symbolic link, not followed"
    return None if stat.S_ISREG(mode) else "not a regular file"
