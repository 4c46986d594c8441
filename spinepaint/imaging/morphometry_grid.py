"""Sagittal grids beside a disc, and the edges of masks on them: what `imaging.morphometry` measures with.

(S, D, B) arrays have slices, DOWN_MM along the spine and BACK_MM behind the line of the posterior vertebral corners.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

F64 = NDArray[np.float64]
Mask = NDArray[np.bool_]
Labels = NDArray[np.uint8]

VERTEBRAE, DISCS, CANAL = 1, 2, 3
"""Values of a label volume (slice, row, column), in the order of `models.segmentation.STRUCTURES`."""

DOWN_STEP_MM, BACK_STEP_MM = 0.5, 0.25
DOWN_MM = np.arange(-20.0, 20.01, DOWN_STEP_MM)
BACK_MM = np.arange(-30.0, 34.01, BACK_STEP_MM)
ASIDE_MM = 14.0  # slices within this of the canal's middle are looked at
MATERIAL_MM = 12.0  # above and below a disc's middle, as far as its material is looked for
_CORNER_MM = (1.0, 6.0)  # beyond the disc's rim: where a body's posterior corner is looked for
_CORNER_PERCENTILE = 75
_NEAR_MM = 8.0  # of a centre from the disc that it belongs to
_WHOLE_MM = 40.0  # a disc with all that is herniated from it lies within this of its centre, rows and columns


@dataclass(frozen=True)
class Frame:
    """A grid in sagittal planes: its origin (row, column), the unit vector down (row, column, in mm), mm a row and column."""

    slices: NDArray[np.intp]
    origin: F64
    down: F64
    spacing: F64

    @property
    def back(self) -> F64:
        """The unit vector back, square to `down`."""
        return np.array([-self.down[1], self.down[0]])

    @property
    def grid(self) -> tuple[F64, F64]:
        """Fractional rows and columns (D, B)."""
        points = (DOWN_MM[:, None, None] * self.down + BACK_MM[:, None] * self.back) / self.spacing + self.origin
        return points[..., 0], points[..., 1]

    def sample(self, mask: Mask) -> F64:
        """(S, D, B) of a mask."""
        return sampled(mask, self.slices, *self.grid)

    def moved(self, down_mm: float, back_mm: float, slope: float) -> "Frame":
        """About a point of this frame, `down` running back by `slope` mm a mm."""
        origin = self.origin + (down_mm * self.down + back_mm * self.back) / self.spacing
        return Frame(self.slices, origin, unit(self.down + slope * self.back), self.spacing)


def sampled(mask: Mask, slices: NDArray[np.intp], rows: F64, columns: F64) -> F64:
    """(S, D, B): how much of each point is of the mask, linear within the slices."""
    planes = [ndimage.map_coordinates(mask[k].astype(np.float32), [rows, columns], order=1, mode="nearest") for k in slices]
    return np.asarray(planes, dtype=np.float64)


def disc_at(labels: Labels, index: F64, spacing: F64) -> Mask | None:
    """The connected disc nearest to a fractional index; None where none is within a few mm."""
    reach = np.ceil(_WHOLE_MM / spacing[1:]).astype(int)
    low, high = np.maximum(index[1:].astype(int) - reach, 0), index[1:].astype(int) + reach
    box = (slice(None), slice(low[0], high[0]), slice(low[1], high[1]))
    parts, _ = ndimage.label(labels[box] == DISCS)
    places = np.argwhere(parts)
    if len(places) == 0:
        return None
    away = np.linalg.norm((places + np.array([0, *low]) - index) * spacing, axis=1)
    nearest = int(away.argmin())
    if away[nearest] > _NEAR_MM:
        return None
    disc = np.zeros(labels.shape, np.bool_)
    disc[box] = parts == parts[tuple(places[nearest])]
    return disc


def near_canal(labels: Labels, index: F64, spacing: F64) -> tuple[NDArray[np.intp], F64] | None:
    """Slices near the canal's middle at a disc's height, and mm from it; None where there is no canal."""
    rows = np.abs(np.arange(labels.shape[1]) - index[1]) * spacing[1] <= _NEAR_MM
    share = (labels[:, rows] == CANAL).sum(axis=(1, 2))
    if not share.any():
        return None
    aside = (np.arange(len(share)) - float(np.average(np.arange(len(share)), weights=share))) * spacing[0]
    slices = np.flatnonzero(np.abs(aside) <= ASIDE_MM)
    return slices, aside[slices]


def corner_line(bodies: F64, disc: F64) -> tuple[float, float, float, float] | None:
    """Where the line of the posterior corners runs: mm down and back of its middle, its slope, and the disc's half height.

    Masks (S, D, B). A body's corner is where its wall lies furthest back next to the disc, but for the furthest quarter of the
    rows, which noise moves. Where one body is not in view the line runs straight down from the other.
    """
    rim = (disc[:, :, (BACK_MM >= -6.0) & (BACK_MM <= -1.0)].mean(axis=2) > 0.5).mean(axis=0) >= 0.5
    heights = DOWN_MM[rim & (np.abs(DOWN_MM) <= MATERIAL_MM)]
    top, bottom = (heights[0], heights[-1]) if heights.size else (-3.0, 3.0)
    walls = _first_edge(bodies, int(np.searchsorted(BACK_MM, -6.0)))
    corners = []
    for side, end in ((-1, top), (1, bottom)):
        beyond = side * (DOWN_MM - end)
        wall = walls[:, (beyond >= _CORNER_MM[0]) & (beyond <= _CORNER_MM[1])]
        if np.isfinite(wall).mean() >= 0.4:
            corners.append((end + side * float(np.mean(_CORNER_MM)), float(np.nanpercentile(wall, _CORNER_PERCENTILE))))
    if not corners:
        return None
    (upper_s, upper), (lower_s, lower) = corners[0], corners[-1]
    slope = (lower - upper) / (lower_s - upper_s) if len(corners) == 2 else 0.0
    middle = 0.5 * (top + bottom)
    return middle, upper + slope * (middle - upper_s), slope, max(0.5 * (bottom - top), 1.5)


def _first_edge(masks: F64, start: int) -> F64:
    """mm behind the line at which masks (..., B) first end after column `start`; nan where they do not hold it."""
    below = masks[..., start:] < 0.5
    edge = _edge_before(masks, start + below.argmax(axis=-1))
    return np.where(below.any(axis=-1) & ~below[..., 0], edge, np.nan)


def last_edge(masks: F64) -> F64:
    """mm behind the line at which masks (..., B) end for the last time; nan where they are empty, or go on beyond the grid."""
    inside = masks >= 0.5
    last = masks.shape[-1] - inside[..., ::-1].argmax(axis=-1)
    edge = _edge_before(masks, np.minimum(last, masks.shape[-1] - 1))
    return np.where(inside.any(axis=-1) & ~inside[..., -1], edge, np.nan)


def _edge_before(masks: F64, after: NDArray[np.intp]) -> F64:
    """mm at which masks fall through one half between the columns `after - 1` and `after`."""
    place = np.maximum(after, 1)
    inner, outer = (np.take_along_axis(masks, (place - k)[..., None], -1)[..., 0] for k in (1, 0))
    return np.asarray(BACK_MM[place - 1] + (inner - 0.5) / np.maximum(inner - outer, 1e-6) * BACK_STEP_MM)


def between(aside_mm: F64, values: F64, at_mm: F64) -> F64:
    """(S, D) values of slices as (len(at_mm), D) between them; the outermost slice's beyond it."""
    return np.stack([np.interp(at_mm, aside_mm, column) for column in values.T], axis=1)


def at_disc(half_height_mm: float) -> Mask:
    """(D,): the middle half of a disc's height."""
    return np.asarray(np.abs(DOWN_MM) <= max(1.0, 0.5 * half_height_mm))


def unit(vector: F64) -> F64:
    """The vector at length 1."""
    return vector / np.linalg.norm(vector)
