"""How much of the disk uploads that come in may take: so many bytes, and of what is free all but a reserve."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from spinepaint.imaging.caps import Caps
from spinepaint.imaging.errors import Refusal, disk_full

READERS = 2
"""Uploads that are read at a time: each decodes a whole series in memory."""
T = TypeVar("T")


class DiskRoom:
    """The folder that uploads come into; the files of the embedded ledger and store may lie on the same disk."""

    def __init__(self, folder: Path, most_bytes: int, reserve_bytes: int) -> None:
        """Uploads may take `most_bytes` together, and leave `reserve_bytes` of the disk free. `folder` is there."""
        self._folder, self._most, self._reserve = folder, most_bytes, reserve_bytes

    def free_bytes(self) -> int:
        """What may yet be written to the disk; below zero where the reserve is touched."""
        return shutil.disk_usage(self._folder).free - self._reserve

    def left_bytes(self, taken_bytes: int) -> int:
        """What uploads may yet take, which have written `taken_bytes` by now."""
        return min(self._most - taken_bytes, self.free_bytes())

    def require(self, more_bytes: int, taken_bytes: int) -> None:
        """Raise Refusal where so much more would not fit even if all that uploads have written by now were gone: 413, or 503."""
        if more_bytes > self._most:
            detail = f"max_incoming_bytes is {self._most} here and this has {more_bytes}. Send less."
            title = "The upload is over the cap max_incoming_bytes."
            raise Refusal("over-cap-max-incoming-bytes", title, detail, status=413)
        if more_bytes > self.free_bytes() + taken_bytes:
            raise disk_full()


def unpacked_within(read: Callable[[Caps], T], caps: Caps, folder: Path, reserve_bytes: int) -> T:
    """What `read` makes of an upload in `folder`, with the caps and no more unpacked than leaves a reserve of the disk free.

    Each of the readers at once has its share, of which half is for what lies there twice while it is copied.

    Raises what it raises, and Refusal 503 for what only such a disk is too small for.
    """
    share = (shutil.disk_usage(folder).free - reserve_bytes) // (2 * READERS)
    fitting = max(1, min(caps.inflated_bytes, share))
    try:
        return read(replace(caps, inflated_bytes=fitting))
    except Refusal as refusal:
        if fitting < caps.inflated_bytes and refusal.type == "over-cap-inflated-bytes":
            raise disk_full() from None
        raise
