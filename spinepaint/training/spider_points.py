"""Discs of SPIDER slices that have no boxes, as points: for naming levels, of which boxed slices alone teach too little.

`spider_disc_points.json` gives by slice the (row, column) of each disc from L5-S1 upwards, in pixels of the slice's matrix. The
points were proposed by a localiser trained on the boxed slices, every one was looked at, and L5-S1 was named by eye: the lowest
disc as wide as its vertebrae. Slices whose lowest level could be named one way or the other (a transitional vertebra, a
scoliosis that leaves the slice) were left out.
"""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spinepaint.models.localiser import normalise
from spinepaint.training.localiser_scenes import GAP_MM, PLAUSIBLE_GAP_MM, Disc, Scene, moved_to, square
from spinepaint.training.spider import SpiderSlice, is_held_out, read_slices

_POINTS = Path(__file__).with_name("spider_disc_points.json")


def _spacing(slice_: SpiderSlice, points: NDArray[np.float64]) -> tuple[float, float]:
    """Pixel spacing in mm, corrected where the gaps between lumbar discs show the header's to be wrong.

    Matrices with too large a gap were interpolated along the rows; those with too small a one along both axes.
    """
    rows, columns = slice_.spacing
    gap = float(np.linalg.norm(np.diff(points[:6], axis=0) * slice_.spacing, axis=1).mean())
    if gap > PLAUSIBLE_GAP_MM[1]:
        return rows * GAP_MM / gap, columns
    if gap < PLAUSIBLE_GAP_MM[0]:
        return rows * GAP_MM / gap, columns * GAP_MM / gap
    return rows, columns


def pointed_scene(slice_: SpiderSlice, points: NDArray[np.float64]) -> Scene:
    """The scene of a slice and the (N, 2) points of its discs, L5-S1 first; without margins and canals."""
    image = square(slice_.image, _spacing(slice_, points))
    factor = (image.shape[0] / slice_.image.shape[0], image.shape[1] / slice_.image.shape[1])
    discs = tuple(Disc(level, moved_to((r, c), factor), None, None) for level, (r, c) in enumerate(points))
    return Scene(normalise(image), discs, slice_.name)


def read_pointed_scenes(folder: Path) -> tuple[list[Scene], list[Scene]]:
    """The slices of SPIDER's `folder` whose discs are known as points, as (training, held-out) scenes."""
    points = {name: np.array(discs) for name, discs in json.loads(_POINTS.read_text()).items()}
    training: list[Scene] = []
    held_out: list[Scene] = []
    for slice_ in read_slices(folder):
        if slice_.name in points:
            (held_out if is_held_out(slice_.patient) else training).append(pointed_scene(slice_, points[slice_.name]))
    return training, held_out
