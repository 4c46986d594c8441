"""A sagittal series as an array with its place in the patient."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset


@dataclass(frozen=True)
class Volume:
    """A series in memory.

    Attributes
    ----------
    voxels: float32 (slice, row, column), after the rescale of each slice.
    stored: the stored values as the source holds them, same shape, integer.
    affine: 4x4, maps (slice, row, column, 1) at voxel centres to patient LPS in mm.
    slope, intercept: float64 (slice,), the rescale of each slice: voxels = stored * slope + intercept.
    datasets: the source data sets in slice order, without their pixel data where that was decoded; one
        alone for an Enhanced multi-frame source.
    frames: for an Enhanced source, the 0-based frame of each slice; None for a classic one.
    """

    voxels: NDArray[np.float32]
    stored: NDArray[np.integer]
    affine: NDArray[np.float64]
    slope: NDArray[np.float64]
    intercept: NDArray[np.float64]
    datasets: tuple[Dataset, ...]
    frames: tuple[int, ...] | None = None

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance in mm between neighbouring voxel centres along (slice, row, column)."""
        s, r, c = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(s), float(r), float(c)

    def to_patient(self, index: NDArray[np.float64]) -> NDArray[np.float64]:
        """Patient LPS mm of (..., 3) voxel indices (slice, row, column)."""
        return np.asarray(index) @ self.affine[:3, :3].T + self.affine[:3, 3]

    def to_index(self, point_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Voxel indices (slice, row, column), fractional, of (..., 3) patient LPS points in mm."""
        return (np.asarray(point_mm) - self.affine[:3, 3]) @ np.linalg.inv(self.affine[:3, :3]).T

    def with_voxels(self, voxels: NDArray[np.float32]) -> "Volume":
        """The same series with other voxel values; `stored` stays the source's."""
        return replace(self, voxels=voxels)
