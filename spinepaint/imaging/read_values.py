"""Takes single values out of a data set that may hold anything at all.

A value that is absent, of the wrong type or not convertible is None: the checks then say what is missing.
"""

import math
import re
import struct
import zlib
from collections.abc import Iterable

from pydicom import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as DicomSequence

from spinepaint.imaging.read_names import shown_text

# What pydicom and the decoders raise on forged input, RecursionError (a RuntimeError) included. MemoryError is left
# out: no read and no decoder is given a size that was not compared with the bytes that are there.
PARSER_ERRORS = (
    ArithmeticError, AssertionError, AttributeError, BytesLengthException, EOFError, InvalidDicomError, LookupError, OSError,
    RuntimeError, TypeError, ValueError, struct.error, zlib.error,
)  # fmt: skip
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")


def raw(ds: Dataset, keyword: str) -> object:
    """The value as pydicom has it, or None."""
    try:
        value: object = ds.get(keyword)
    except PARSER_ERRORS:
        return None
    return value


def text(ds: Dataset, keyword: str) -> str:
    """One text, fit to be shown; empty where there is none."""
    value = raw(ds, keyword)
    return shown_text(str(value).strip()) if isinstance(value, str) else ""


def texts(ds: Dataset, keyword: str) -> tuple[str, ...]:
    """The texts of a multi-valued element in capitals."""
    value = raw(ds, keyword)
    values = value if isinstance(value, MultiValue) else [value]
    return tuple(shown_text(str(v).strip()).upper() for v in values if isinstance(v, str) and v)


def uid(ds: Dataset, keyword: str) -> str | None:
    """A UID of at most 64 digits and dots (PS3.5 9.1)."""
    value = raw(ds, keyword)
    if not isinstance(value, str):
        return None
    return str(value) if len(value) <= 64 and _UID.fullmatch(value) else None


def integer(ds: Dataset, keyword: str) -> int | None:
    """One whole number."""
    value = number(ds, keyword)
    return int(value) if value is not None and value == int(value) else None


def number(ds: Dataset, keyword: str) -> float | None:
    """One finite number."""
    values = numbers(ds, keyword, 1)
    return values[0] if values else None


def numbers(ds: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """Exactly `count` finite numbers."""
    value = raw(ds, keyword)
    values: Iterable[object] = value if isinstance(value, MultiValue | list | tuple) else [value]
    found = []
    for item in values:
        if item is None or isinstance(item, bytes | bytearray) or not hasattr(item, "__float__"):
            return None
        try:
            found.append(float(item))
        except (TypeError, ValueError, OverflowError):
            return None
    return tuple(found) if len(found) == count and all(map(math.isfinite, found)) else None


def items(ds: Dataset, keyword: str) -> tuple[Dataset, ...]:
    """The items of a sequence; none where it is absent or not a sequence."""
    value = raw(ds, keyword)
    return tuple(value) if isinstance(value, DicomSequence) else ()


def first_item(datasets: Iterable[Dataset], keyword: str) -> Dataset:
    """The first item of the sequence `keyword` in the first of `datasets` that has one; an empty data set otherwise."""
    for ds in datasets:
        found = items(ds, keyword)
        if found:
            return found[0]
    return Dataset()
