"""Training windows for the segmenter: a slice with its neighbours and its masks, turned, scaled and disguised."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from spinepaint.models.segmentation import STRUCTURES
from spinepaint.training.localiser_scenes import SCENE_MM
from spinepaint.training.segmenter_looks import disguise
from spinepaint.training.segmenter_spines import Look, Spine, grey

# (rows, columns); about the same number of pixels in each, multiples of 16
WINDOWS = ((208, 160), (176, 192), (240, 144), (192, 176))


def window(
    spine: Spine, looks: list[Look], rng: np.random.Generator, shape: tuple[int, int], spacing_mm: float, *, t1: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """An example of `shape` at `spacing_mm`: the image (3, H, W), and masks (structure, H, W) from 0 to 1.

    Slices that show the spine are drawn four times as often as those beside it. One example in four has no neighbours of its
    own, like the outermost slice of a series.
    """
    seen = np.isin(spine.labels[:, ::4, ::4], (1, 2)).sum(axis=(1, 2))
    chances = np.where(seen > 0.3 * seen.max(), 4.0, 1.0)
    middle = int(rng.choice(len(chances), p=chances / chances.sum()))
    last = len(chances) - 1
    alone = rng.random() < 0.25
    neighbours = [middle if alone else min(max(middle + d, 0), last) for d in (-1, 0, 1)]
    if rng.random() < 0.5:  # left and right may change places
        neighbours.reverse()
    labels = spine.labels[middle]
    places = _places(labels, rng, shape, spacing_mm)
    planes = {k: _sampled(grey(spine.image(t1=t1)[k]), places, shape) for k in set(neighbours)}
    image = np.stack([planes[k] for k in neighbours])
    masks = np.stack([_sampled((labels == k + 1).astype(np.float32), places, shape) for k in range(len(STRUCTURES))])
    return _field_of_view(disguise(image, masks, looks, spacing_mm, rng, t1=t1), masks, rng)


def _places(
    labels: NDArray[np.uint8], rng: np.random.Generator, shape: tuple[int, int], spacing_mm: float
) -> NDArray[np.float64]:
    """Where in a slice each pixel of the window lies: (2, pixels)."""
    scale, stretch = float(np.exp(rng.uniform(np.log(0.78), np.log(1.3)))), float(np.exp(rng.normal(0, 0.06)))
    angle = np.deg2rad(float(np.clip(rng.normal(0, 8), -22, 22)))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.diag([spacing_mm / (scale * stretch), spacing_mm * stretch / scale]) / SCENE_MM
    found = np.argwhere(labels[::2, ::2] > 0) * 2
    anchor = found[rng.integers(len(found))] if len(found) else np.array(labels.shape) * rng.uniform(0.3, 0.7, 2)
    jitter = rng.uniform(-0.3, 0.3, 2) * np.array(shape)
    offset = anchor - matrix @ ((np.array(shape) - 1) / 2 + jitter)
    grid = np.indices(shape).reshape(2, -1).astype(np.float64)
    return np.asarray(matrix @ grid + offset[:, None])


def _sampled(plane: NDArray[np.float32], places: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.float32]:
    return np.asarray(map_coordinates(plane, places, order=1, cval=0.0).reshape(shape), np.float32)


def _field_of_view(
    image: NDArray[np.float32], masks: NDArray[np.float32], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Now and then the image ends within the window, and its masks with it."""
    rows, columns = image.shape[1:]
    cuts = np.where(rng.random(4) < 0.15, rng.uniform(0, 0.2, 4), 0)
    inside = np.zeros((rows, columns), np.float32)
    inside[int(cuts[0] * rows) : rows - int(cuts[1] * rows), int(cuts[2] * columns) : columns - int(cuts[3] * columns)] = 1
    return image * inside, masks * inside
