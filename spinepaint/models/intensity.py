"""Grey values to the networks' range and back."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CLIP = (-1.25, 1.75)


@dataclass(frozen=True)
class IntensityRange:
    """The grey values that map to -1 and +1.

    MR grey values have no unit, so each crop carries its own range: its 1st and 99th percentile. The
    same two numbers take the networks' output back.
    """

    low: float
    high: float

    @classmethod
    def of(cls, voxels: NDArray[np.float32]) -> "IntensityRange":
        """Range of an array of any shape. Constant arrays get a width of 1, so that nothing divides by zero."""
        low, high = (float(value) for value in np.percentile(voxels, (1.0, 99.0)))
        return cls(low, high if high > low else low + 1.0)

    def normalise(self, voxels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Grey values to about [-1, 1], clipped to `CLIP` so that a bright vessel or implant cannot dominate."""
        scaled = (voxels - self.low) * (2.0 / (self.high - self.low)) - 1.0
        return np.asarray(np.clip(scaled, *CLIP), dtype=np.float32)

    def restore(self, normalised: NDArray[np.float32]) -> NDArray[np.float32]:
        """The networks' range back to grey values."""
        return np.asarray((normalised + 1.0) * (0.5 * (self.high - self.low)) + self.low, dtype=np.float32)

    def restore_difference(self, difference: NDArray[np.float32]) -> NDArray[np.float32]:
        """A difference of two normalised arrays as a difference of grey values."""
        return np.asarray(difference * (0.5 * (self.high - self.low)), dtype=np.float32)
