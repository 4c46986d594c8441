"""A file that cannot be made to allocate more than its own size."""

import io
import os
from pathlib import Path


class BoundedFile(io.BufferedReader):
    """A file opened for reading whose `read(n)` never allocates past the end of the file.

    A forged length of 4 GiB in a header would otherwise be allocated before the end of the file is met.
    """

    def __init__(self, path: Path) -> None:
        """Open `path`; its size now is the bound."""
        super().__init__(io.FileIO(path, "rb"))
        self._size = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        """At most `size` bytes, and at most what is left of the file."""
        left = max(0, self._size - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))
