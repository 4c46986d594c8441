"""What parsing one instance may cost, whatever lengths and counts its header claims.

pydicom parses sequences of undefined length at once and those of defined length when they are first looked at. Both are
metered here by the reads they make: each element and each item needs at least one. Parsing is thus bounded in bytes and in
elements, and with them in memory and time, before anything large is built.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, BinaryIO

from pydicom.dataelem import RawDataElement
from pydicom.filereader import read_sequence
from pydicom.hooks import hooks, raw_element_value

_READS_PER_ELEMENT = 3  # pydicom's: tag with VR, a long length, the value
_LARGE_READ = 2**12  # bytes; what is as large is bounded by the bytes alone
_MOST_VALUES = 2**14  # of one element that lists its values as text


class OverBudgetError(Exception):
    """Parsing needs more bytes or elements than it may have."""


class Budget:
    """How many bytes from its start, and how many elements, of one instance may be read; `over` says what was asked beyond.

    `over` is kept, since pydicom turns what is raised inside a sequence into an OSError of its own.
    """

    def __init__(self, most_bytes: int, most_elements: int) -> None:
        """Allow so many bytes, and so many elements with the sequences' items counted."""
        self.most_bytes = most_bytes
        self.over: str | None = None
        self._reads = most_elements * _READS_PER_ELEMENT

    def spend(self, size: int, end: int) -> None:
        """One more read, of `size` bytes, which ends at byte `end` of the file. Raises OverBudgetError."""
        if size < _LARGE_READ:
            self._reads -= 1
        if end > self.most_bytes:
            self.over = "bytes"
        elif self._reads < 0:
            self.over = "elements"
        if self.over:
            raise OverBudgetError(self.over)


class MeteredFile(io.BufferedReader):
    """A view of an open binary stream that allocates no more than there is and reads no more than its budget."""

    name = ""  # pydicom would keep a path that it finds here

    def __init__(self, stream: BinaryIO, budget: Budget) -> None:
        """Meter `stream` from its start; it is closed with this."""
        super().__init__(stream)  # type: ignore[arg-type]  # what it needs of a RawIOBase every binary stream has
        self._budget = budget
        self._size = stream.seek(0, io.SEEK_END)
        self.seek(0)

    def read(self, size: int | None = -1, /) -> bytes:
        """At most `size` bytes, and at most what is left."""
        at = self.tell()
        left = max(0, self._size - at)
        size = left if size is None or size < 0 else min(size, left)
        self._budget.spend(size, min(at, self._size) + size)
        return super().read(size)


_current: ContextVar[Budget | None] = ContextVar("budget of the instance that is being read", default=None)


@contextmanager
def spending(budget: Budget) -> Iterator[None]:
    """Charge what is parsed inside the `with` to `budget`."""
    token = _current.set(budget)
    try:
        yield
    finally:
        _current.reset(token)


def _metered_value(raw: RawDataElement, data: dict[str, Any], *, encoding: Any = None, ds: Any = None, **kwargs: Any) -> None:
    """pydicom's conversion of an element's bytes, charged to the budget of the instance that is being read."""
    budget = _current.get()
    if budget is None or not raw.value:
        raw_element_value(raw, data, encoding=encoding, ds=ds, **kwargs)
    elif data["VR"] == "SQ":
        stream = MeteredFile(io.BytesIO(raw.value), budget)
        data["value"] = read_sequence(
            stream, raw.is_implicit_VR, raw.is_little_endian, len(raw.value), encoding or ["iso8859"], raw.value_tell
        )
    elif len(raw.value) > _MOST_VALUES and data["VR"] in _LISTS and raw.value.count(b"\\") >= _MOST_VALUES:
        raise ValueError(f"more than {_MOST_VALUES} values")
    else:
        raw_element_value(raw, data, encoding=encoding, ds=ds, **kwargs)


_LISTS = frozenset({"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "PN", "SH", "TM", "UC", "UI"})
hooks.register_callback("raw_element_value", _metered_value)
