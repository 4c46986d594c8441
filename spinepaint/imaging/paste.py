"""Bringing the edit back into the series, so that no seam can be seen and nothing else changes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spinepaint.imaging.crop import Crop, Vector, bring_back, distance_mm
from spinepaint.imaging.volume import Volume


@dataclass(frozen=True)
class Pasted:
    """The edited voxels (slice, row, column) and where they may differ from the source's."""

    voxels: NDArray[np.float32]
    mask: NDArray[np.float32]

    @property
    def changed(self) -> NDArray[np.bool_]:
        """Where the mask is above zero; everywhere else `voxels` is the source, bit for bit."""
        return self.mask > 0


def paste_mask(volume: Volume, landmark_lps_mm: Vector, inner_mm: float, outer_mm: float) -> NDArray[np.float32]:
    """1 within `inner_mm` of the landmark, exactly 0 from `outer_mm` on, between them a quintic smoothstep.

    The quintic's first and second derivatives vanish at both ends, so neither the grey values nor their
    gradient has a step there.
    """
    u = np.clip((outer_mm - distance_mm(volume, landmark_lps_mm)) / (outer_mm - inner_mm), 0.0, 1.0)
    return np.asarray(u**3 * (u * (6 * u - 15) + 10), dtype=np.float32)


def paste_difference(volume: Volume, crop: Crop, difference: NDArray[np.float32], mask: NDArray[np.float32]) -> Pasted:
    """Add the difference of decoded edit and decoded original (X, Y, Z; grey values) under the mask.

    The donor's own noise and detail stay; the autoencoder's loss cancels out.
    """
    moved = bring_back(volume, crop, difference)
    return Pasted(np.where(mask > 0, volume.voxels + mask * moved, volume.voxels), mask)


def paste_blend(volume: Volume, crop: Crop, edit: NDArray[np.float32], mask: NDArray[np.float32]) -> Pasted:
    """Blend the decoded edit (X, Y, Z; grey values) over the donor: the plain way, for comparison."""
    moved = bring_back(volume, crop, edit)
    return Pasted(np.where(mask > 0, (1 - mask) * volume.voxels + mask * moved, volume.voxels), mask)
