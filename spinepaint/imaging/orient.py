"""A series with its axes in one fixed sense, whatever its storage."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spinepaint.imaging.volume import Volume


@dataclass(frozen=True)
class Oriented:
    """Voxels whose rows run to the feet, columns to the back and slices to the patient's left.

    voxels: float32 (slice, row, column), a view of the source's; affine: 4x4 to patient LPS mm.
    """

    voxels: NDArray[np.float32]
    affine: NDArray[np.float64]

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance in mm between neighbouring voxel centres along (slice, row, column)."""
        s, r, c = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(s), float(r), float(c)

    def to_patient(self, index: tuple[float, float, float]) -> tuple[float, float, float]:
        """Patient LPS mm of a fractional (slice, row, column) index."""
        x, y, z = self.affine[:3, :3] @ np.asarray(index) + self.affine[:3, 3]
        return float(x), float(y), float(z)

    def to_index(self, point_mm: tuple[float, float, float]) -> tuple[float, float, float]:
        """Fractional (slice, row, column) index of a patient LPS point in mm."""
        s, r, c = np.linalg.solve(self.affine[:3, :3], np.asarray(point_mm) - self.affine[:3, 3])
        return float(s), float(r), float(c)


# For each array axis: the patient LPS axis it should run along, and the sense along it.
_WANTED = ((0, 1.0), (2, -1.0), (1, 1.0))


def orient(volume: Volume) -> Oriented:
    """Permute and flip a sagittal series into the fixed sense; nothing is resampled."""
    order, flipped = _order_and_flips(volume)
    voxels = np.flip(volume.voxels.transpose(order), flipped)
    affine = volume.affine.copy()
    affine[:3, :3] = volume.affine[:3, order]
    for axis in flipped:
        affine[:3, 3] += affine[:3, axis] * (voxels.shape[axis] - 1)
        affine[:3, axis] *= -1
    return Oriented(voxels, affine)


def as_stored(volume: Volume, oriented: NDArray[Any]) -> NDArray[Any]:
    """An array on the grid of `orient(volume)` back in the axes of `volume`: (slice, row, column) as the series is stored."""
    order, flipped = _order_and_flips(volume)
    return np.flip(oriented, flipped).transpose(np.argsort(order))


def _order_and_flips(volume: Volume) -> tuple[list[int], tuple[int, ...]]:
    """Which axis of the series each oriented axis is, and which of the oriented axes are flipped."""
    directions = volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
    order = [int(np.argmax(np.abs(directions[patient]))) for patient, _ in _WANTED]
    flipped = tuple(axis for axis, (patient, sense) in enumerate(_WANTED) if directions[patient, order[axis]] * sense < 0)
    return order, flipped
