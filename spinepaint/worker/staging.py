"""Where results grow, and how they appear only when everything in them is complete."""

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spinepaint.imaging.errors import Refusal, is_disk_full

_STAGING = ".spinepaint-"


def why_not_out(out: Path) -> str | None:
    """Why results cannot be put into a folder, in words; None where they can, as far as that can be told beforehand.

    What a run left behind that was killed is no result, and does not count.
    """
    nearest = next(path for path in (out, *out.parents) if path.exists() or path.is_symlink())
    if not nearest.is_dir():
        return f"{nearest} is not a folder"
    if not os.access(nearest, os.W_OK | os.X_OK):
        return f"{nearest} may not be written to"
    if nearest == out and any(not _is_staging(path) for path in out.iterdir()):
        return f"{out} is not empty"
    return None


@contextmanager
def staging(out: Path) -> Iterator[Path]:
    """A hidden folder beside the results, gone at the end whatever happens.

    Raises Refusal `output-exists` where `out` already holds something, or another run is writing to it, and removes the folders
    that it made for `out` when the work inside fails. What killed runs left in `out` is removed: `out` itself is locked while
    somebody writes to it, and the system lets go of the lock of one that was killed. A disk that is full is an OSError (ENOSPC)
    whose file name is `out`.
    """
    if out.exists() and (not out.is_dir() or any(not _is_staging(path) for path in out.iterdir())):
        raise Refusal("output-exists", "The output folder is not empty.", "Name a new or empty folder.", status=409)
    made = [path for path in (out, *out.parents) if not path.exists()]
    # The folders are made inside, so that a signal that comes between two lines leaves nothing either.
    try:
        out.mkdir(parents=True, exist_ok=True)
        with _locked(out), tempfile.TemporaryDirectory(prefix=_STAGING, dir=out, ignore_cleanup_errors=True) as folder:
            yield Path(folder)
    except BaseException as error:
        for path in made:
            if path.exists() and not any(path.iterdir()):
                path.rmdir()
        if is_disk_full(error):
            raise OSError(errno.ENOSPC, "The disk is full", str(out)) from error
        raise


def publish(folder: Path, out: Path) -> None:
    """Move finished samples into place; on one file system, so each appears at once."""
    for sample in sorted(folder.iterdir()):
        sample.rename(out / sample.name)


def _is_staging(path: Path) -> bool:
    return path.name.startswith(_STAGING) and path.is_dir() and not path.is_symlink()


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Hold `out`, without what others left in it. Raises Refusal `output-exists` where another run holds it."""
    handle = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            detail = "Name another folder, or wait for the other run."
            raise Refusal("output-exists", "Another run is writing to the output folder.", detail, status=409) from None
        except OSError:
            _refuse_leftovers(out)  # a file system without locks: nobody can tell whether these are in use
        for path in [path for path in out.iterdir() if _is_staging(path)]:
            shutil.rmtree(path, ignore_errors=True)
        yield
    finally:
        os.close(handle)


def _refuse_leftovers(out: Path) -> None:
    left = sorted(path.name for path in out.iterdir() if _is_staging(path))
    if left:
        detail = f"It holds the hidden {left[0]} of another run: remove it where that run has ended, or name another folder."
        raise Refusal("output-exists", "The output folder is not empty.", detail, status=409)
