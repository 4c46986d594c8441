"""The centre line of the CSF column in a mid-sagittal slice, and the spacing that makes its discs life-sized."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, gaussian_filter1d, map_coordinates

from spinepaint.training.spider import DiscBox

Array = NDArray[np.float64]

_BOX_WIDTH_MM = (36.0, 62.0)  # a lumbar disc and the margin left around it by whoever drew the boxes
_NOMINAL_BOX_WIDTH_MM = 48.0


def true_spacing(spacing: tuple[float, float], discs: Sequence[DiscBox]) -> tuple[float, float]:
    """Pixel spacing in mm, corrected where discs of that size do not exist.

    A few exported matrices were interpolated after the header was written: their discs would be 27 or 96 mm
    deep. There the boxes' median width is taken to be that of the other slices.
    """
    median = float(np.median([d.size[1] * spacing[1] for d in discs]))
    if _BOX_WIDTH_MM[0] <= median <= _BOX_WIDTH_MM[1]:
        return spacing
    factor = _NOMINAL_BOX_WIDTH_MM / median
    return spacing[0] * factor, spacing[1] * factor


def csf_path(image: NDArray[np.float32], spacing_mm: float, discs: Sequence[DiscBox]) -> tuple[Array, Array]:
    """Centre line of the CSF column of a slice with square pixels: (rows, columns) in pixels, one a mm.

    The brightest smooth path, by dynamic programming, in a corridor behind the boxes' posterior edges.
    """
    ordered = sorted(discs, key=lambda d: d.centre[0])
    disc_rows = np.array([d.centre[0] for d in ordered])
    edges = np.array([d.centre[1] + d.size[1] / 2 for d in ordered])
    margin = 30 / spacing_mm
    rows = np.arange(max(disc_rows[0] - margin, 0), min(disc_rows[-1] + margin, image.shape[0] - 1), 1 / spacing_mm)
    edge = np.interp(rows, disc_rows, edges)
    below = rows > disc_rows[-1]
    edge[below] += 0.45 * (rows[below] - disc_rows[-1])  # the sacral canal runs backward
    offsets = np.arange(-6.0, 22.5, 0.5)
    smooth = gaussian_filter(image, (1.5 / spacing_mm, 2.2 / spacing_mm))
    where = np.repeat(rows[:, None], offsets.size, 1), edge[:, None] + offsets / spacing_mm
    values = map_coordinates(smooth, where, order=1, mode="nearest")
    values = values / np.percentile(values, 95) - 0.0006 * (offsets - 7.0) ** 2
    columns_mm = edge[:, None] * spacing_mm + offsets
    columns = best_curve(values, columns_mm, 0.25) / spacing_mm
    return rows, gaussian_filter1d(columns, 3.0)


def best_curve(score: Array, at: Array, stiffness: float) -> Array:
    """The curve through `at` (row, candidate) with the greatest sum of `score` less `stiffness` times its squared steps.

    By dynamic programming (Viterbi 1967).
    """
    best, came_from = score[0], np.zeros(score.shape, dtype=np.intp)
    for i in range(1, score.shape[0]):
        total = best[None, :] - stiffness * (at[i][:, None] - at[i - 1][None, :]) ** 2
        came_from[i] = total.argmax(1)
        best = total[np.arange(score.shape[1]), came_from[i]] + score[i]
    j, curve = int(best.argmax()), np.empty(score.shape[0])
    for i in range(score.shape[0] - 1, -1, -1):
        curve[i] = at[i, j]
        j = int(came_from[i, j])
    return curve
