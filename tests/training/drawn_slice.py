"""A drawn mid-sagittal slice: vertebrae, discs and a straight sac, with every measure known."""

import numpy as np
from scipy.ndimage import gaussian_filter

from spinepaint.training.anatomy2d import DiscAnatomy, find_anatomy
from spinepaint.training.canal_path import csf_path
from spinepaint.training.scene import Image
from spinepaint.training.spider import DiscBox

SPACING_MM = 0.625
WALL_MM, SAC_MM, LEVEL_MM = 50.0, 14.0, 34.0
CSF, MARROW, ANNULUS = 220.0, 110.0, 40.0


def draw_slice(seed: int = 0, sac_grey: float = CSF) -> tuple[Image, tuple[DiscBox, ...]]:
    """A slice of 160x100 mm with four discs of 10 mm whose posterior margins lie at column 50 mm, and their boxes."""
    rows, columns = np.meshgrid(np.arange(256) * SPACING_MM, np.arange(160) * SPACING_MM, indexing="ij")
    image = np.full(rows.shape, 30.0)
    body = (columns > WALL_MM - 34) & (columns < WALL_MM)
    image[body] = MARROW
    image[body & (columns > WALL_MM - 1.0)] = 40.0
    boxes = []
    for i in range(4):
        centre = 29.0 + LEVEL_MM * i
        disc = body & (np.abs(rows - centre) < 5.0)
        image[disc] = ANNULUS
        image[disc & (np.abs(rows - centre) < 2.5) & (columns < WALL_MM - 6) & (columns > WALL_MM - 28)] = 130.0
        size = 20.0 / SPACING_MM, 44.0 / SPACING_MM
        boxes.append(DiscBox(4 - i, (centre / SPACING_MM, (WALL_MM - 17) / SPACING_MM), size, {"Disc herniation": 0}))
    sac = (columns > WALL_MM) & (columns < WALL_MM + SAC_MM)
    image[sac] = sac_grey
    image[columns > WALL_MM + SAC_MM + 2.0] = 80.0
    image = gaussian_filter(image, 0.7) + np.random.default_rng(seed).normal(0.0, 3.0, rows.shape)
    return np.maximum(image, 0.0).astype(np.float32), tuple(boxes)


def drawn_anatomy(image: Image, boxes: tuple[DiscBox, ...]) -> DiscAnatomy:
    """The second disc's anatomy, as found."""
    found = find_anatomy(image, SPACING_MM, boxes[1], csf_path(image, SPACING_MM, boxes))
    assert found is not None
    return found
