"""What agents see: volumes on their grid, as pyramids from which all agents' views are cut at once."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from spinepaint.models.localiser import normalise

BYTE = 170.0  # stored value of grey value 1; `normalise` gives up to 1.5


def to_agents_grid(
    voxels: NDArray[np.float32], spacing_mm: tuple[float, float, float], target_mm: float
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """A series (slice, row, column) on the agents' grid, and the factors (3,) by which its axes have grown.

    `(index + 0.5) * factor - 0.5` takes a voxel's index to the grid's. In plane pixels are averaged, between slices
    interpolated. Grey values are normalised over the series.
    """
    scaled = torch.from_numpy(normalise(voxels))[:, None]
    size = [max(1, round(n * s / target_mm)) for n, s in zip(voxels.shape, spacing_mm, strict=True)]
    small = functional.interpolate(scaled, size=size[1:], mode="bilinear", antialias=True, align_corners=False)[:, 0]
    columns = small.reshape(1, 1, len(small), -1)
    stack = functional.interpolate(columns, size=(size[0], columns.shape[3]), mode="bilinear", align_corners=False)
    grid = (stack.view(size) * BYTE).round().clamp(0, 255).to(torch.uint8).numpy()
    return grid, np.array(grid.shape) / np.array(voxels.shape)


class Atlas:
    """Volumes of the agents' grid, uint8 (slice, row, column), of any sizes, packed one behind the other.

    Each scale has the volumes averaged in plane over that many voxels, with a border of zeros, which is what
    lies outside the field of view.
    """

    def __init__(self, volumes: Sequence[NDArray[np.uint8]], scales: tuple[int, ...]) -> None:
        self.scales = scales
        self.shapes = np.array([volume.shape for volume in volumes], dtype=np.int64)
        self._levels = []
        for scale in scales:
            small = [np.pad(_averaged(volume, scale), 1) for volume in volumes]
            sizes = np.array([level.shape for level in small], dtype=np.int64)
            offsets = np.concatenate([[0], np.cumsum(sizes.prod(axis=1))[:-1]])
            self._levels.append((np.concatenate([level.ravel() for level in small]), sizes, offsets))

    def cut(self, volume: NDArray[np.int64], position: NDArray[np.int64], view: int, beside: int) -> NDArray[np.uint8]:
        """The views (N, 3 × scales, view, view) about `position` (N, 3) of the volumes numbered `volume` (N,).

        Coarse pixels are those of the pyramid, so coarse views move when the agent comes to their next pixel.
        """
        out = np.empty((len(volume), 3 * len(self.scales), view, view), dtype=np.uint8)
        window = np.arange(view) - view // 2
        for k, (scale, (flat, sizes, offsets)) in enumerate(zip(self.scales, self._levels, strict=True)):
            size = sizes[volume]
            near = position // (1, scale, scale) + 1  # of the border
            axes = (near[:, :1] + scale * beside * np.array([-1, 0, 1]), near[:, 1:2] + window, near[:, 2:] + window)
            x, r, c = (np.clip(axis, 0, size[:, i : i + 1] - 1) for i, axis in enumerate(axes))
            rows = x[:, :, None] * size[:, 1, None, None] + r[:, None]
            index = (offsets[volume][:, None, None] + rows * size[:, 2, None, None])[..., None] + c[:, None, None]
            np.take(flat, index, out=out[:, 3 * k : 3 * k + 3])
        return out


def _averaged(volume: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    if scale == 1:
        return volume
    padded = np.pad(volume, ((0, 0), (0, -volume.shape[1] % scale), (0, -volume.shape[2] % scale)))
    x, r, c = padded.shape
    mean: NDArray[np.uint8] = padded.reshape(x, r // scale, scale, c // scale, scale).mean(axis=(2, 4)).astype(np.uint8)
    return mean
