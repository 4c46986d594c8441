"""Stored values as DICOM holds them: their range, and their place in a data set."""

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset


def representable_range(dataset: Dataset) -> tuple[int, int]:
    """Least and greatest stored value that Bits Stored and Pixel Representation allow (PS3.3 C.7.6.3.1)."""
    bits = int(dataset.BitsStored)
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if dataset.PixelRepresentation else (0, (1 << bits) - 1)


def set_pixels(dataset: Dataset, stored: NDArray[np.integer]) -> None:
    """Put `stored`, (row, column) or (frame, row, column), into `dataset`, native and little endian.

    Bits Allocated, Bits Stored and Pixel Representation are the data set's; the values lie in its low bits.
    """
    kind = "i" if dataset.PixelRepresentation else "u"
    pixels = stored.astype(f"<{kind}{int(dataset.BitsAllocated) // 8}").tobytes()
    dataset.HighBit = int(dataset.BitsStored) - 1
    dataset.add_new(
        "PixelData",
        "OW" if dataset.BitsAllocated > 8 else "OB",
        pixels + b"\0" * (len(pixels) % 2),
    )
