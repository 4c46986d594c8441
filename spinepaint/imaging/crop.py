"""Cutting an FSU crop out of a series, and bringing a change of it back, with SimpleITK.

A crop's axes are the series' own, in one fixed sense whatever the series' storage: X towards the feet, Y towards
the back, Z towards the patient's left. So no in-plane rotation blurs it, and the networks always see head up and
front left.
"""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from spinepaint.imaging.volume import Volume

Vector = tuple[float, float, float]

# Patient LPS axis (x, y, z) that each crop axis runs along, and the sense: X = -z (feet), Y = +y (back), Z = +x (left).
_AXES = ((2, -1.0), (1, 1.0), (0, 1.0))


@dataclass(frozen=True)
class Crop:
    """A box of a series on a grid of its own.

    voxels: float32 (X, Y, Z); affine: 4x4, (x, y, z, 1) at voxel centres → patient LPS mm; extent_mm: outer size.
    """

    voxels: NDArray[np.float32]
    affine: NDArray[np.float64]
    extent_mm: Vector

    @property
    def grid(self) -> tuple[int, int, int]:
        """Number of voxels along X, Y and Z."""
        x, y, z = self.voxels.shape
        return x, y, z

    @property
    def centre_lps_mm(self) -> Vector:
        """The box's centre in the patient."""
        x, y, z = self.affine[:3, :3] @ ((np.array(self.grid) - 1) / 2) + self.affine[:3, 3]
        return float(x), float(y), float(z)

    def to_corner_mm(self, point_lps_mm: Vector) -> Vector:
        """A patient point in mm along X, Y and Z from the outer corner of the first voxel."""
        index = np.linalg.solve(self.affine[:3, :3], np.asarray(point_lps_mm) - self.affine[:3, 3])
        x, y, z = (index + 0.5) * np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)


def crop_affine(volume: Volume, centre_lps_mm: Vector, extent_mm: Vector, grid: tuple[int, int, int]) -> NDArray[np.float64]:
    """The affine of a crop around a point, its axes the series' own in the fixed sense."""
    directions = volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
    columns = []
    for patient_axis, sense in _AXES:
        own = directions[:, int(np.argmax(np.abs(directions[patient_axis])))]
        columns.append(own * np.sign(own[patient_axis]) * sense)
    affine = np.eye(4)
    affine[:3, :3] = np.stack(columns, axis=1) * (np.array(extent_mm) / np.array(grid))
    affine[:3, 3] = np.array(centre_lps_mm) - affine[:3, :3] @ ((np.array(grid) - 1) / 2)
    return affine


def cut(volume: Volume, centre_lps_mm: Vector, extent_mm: Vector, grid: tuple[int, int, int]) -> Crop:
    """Resample a box around a patient point; beyond the series' edge its nearest voxel is repeated.

    Cubic B-splines, after a Gaussian where the crop's grid is coarser in plane than the series.
    """
    affine = crop_affine(volume, centre_lps_mm, extent_mm, grid)
    reference = _image(np.zeros(grid, np.float32), affine)
    region = _region(volume, affine, grid)
    voxels = volume.voxels[region]
    source = volume.affine.copy()
    source[:3, 3] = volume.to_patient(np.array([part.start for part in region], dtype=np.float64))
    image = _image(voxels, source)
    wanted = float(np.linalg.norm(affine[:3, 0]))
    sigmas = [max(0.0, 0.4 * (wanted - spacing)) if spacing < wanted else 0.0 for spacing in volume.spacing[1:]]
    if max(sigmas) > 0.05:
        image = sitk.SmoothingRecursiveGaussian(image, [max(1e-3, sigmas[1]), max(1e-3, sigmas[0]), 1e-3])
    resampler = sitk.ResampleImageFilter()
    resampler.SetReferenceImage(reference)
    resampler.SetInterpolator(sitk.sitkBSpline)
    resampler.SetUseNearestNeighborExtrapolator(True)
    return Crop(_array(resampler.Execute(image)), affine, extent_mm)


def bring_back(volume: Volume, crop: Crop, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Values on the crop's grid (X, Y, Z) resampled onto the series' grid (slice, row, column); 0 outside the crop.

    Linear, so that a difference never overshoots.
    """
    region = _region(volume, crop.affine, crop.grid)
    part = volume.affine.copy()
    part[:3, 3] = volume.to_patient(np.array([piece.start for piece in region], dtype=np.float64))
    shape = tuple(piece.stop - piece.start for piece in region)
    moved = sitk.Resample(
        _image(values, crop.affine), _image(np.zeros(shape, np.float32), part), sitk.Transform(), sitk.sitkLinear, 0.0
    )
    out = np.zeros(volume.voxels.shape, np.float32)
    out[region] = _array(moved)
    return out


def distance_mm(volume: Volume, point_lps_mm: Vector) -> NDArray[np.float32]:
    """Distance of every voxel centre of a series from a patient point, in mm; (slice, row, column)."""
    step = volume.affine[:3, :3]
    offset = volume.affine[:3, 3] - np.asarray(point_lps_mm)
    s, r, c = (np.arange(n) for n in volume.voxels.shape)
    squared = np.zeros(volume.voxels.shape)
    for axis in range(3):
        part = offset[axis] + (s * step[axis, 0])[:, None, None] + (r * step[axis, 1])[:, None] + c * step[axis, 2]
        squared += part**2
    return np.sqrt(squared).astype(np.float32)


def _region(volume: Volume, affine: NDArray[np.float64], grid: tuple[int, int, int]) -> tuple[slice, slice, slice]:
    """The part of a series that covers a crop, with room for the interpolation."""
    corners = np.stack(np.meshgrid(*[(-0.5, n - 0.5) for n in grid], indexing="ij"), -1).reshape(-1, 3)
    index = volume.to_index(corners @ affine[:3, :3].T + affine[:3, 3])
    low = np.clip(np.floor(index.min(0)).astype(int) - 6, 0, np.array(volume.voxels.shape) - 1)
    high = np.clip(np.ceil(index.max(0)).astype(int) + 7, low + 1, volume.voxels.shape)
    first, second, third = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return first, second, third


def _image(array: NDArray[np.float32], affine: NDArray[np.float64]) -> sitk.Image:
    # SimpleITK's array order is the reverse of its index order, so axis k of the array is index 2 - k.
    image = sitk.GetImageFromArray(np.ascontiguousarray(array))
    columns = affine[:3, 2::-1]
    spacing = np.linalg.norm(columns, axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((columns / spacing).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    return image


def _array(image: sitk.Image) -> NDArray[np.float32]:
    return np.asarray(sitk.GetArrayFromImage(image), dtype=np.float32)
