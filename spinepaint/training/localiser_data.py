"""Training windows for the disc localiser, cut from scenes with other geometry, field of view and appearance."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

from spinepaint.models.localiser import normalise
from spinepaint.training.localiser_bend import Bend
from spinepaint.training.localiser_scenes import SCENE_MM, Disc, Scene, moved_to

_FADE_MM = 8.0  # a target fades with its distance from the midline like a Gaussian of this width


@dataclass(frozen=True)
class Targets:
    """What the network should say on its (H, W) grid: heatmaps (3, H, W) and their weights, and levels with theirs."""

    heat: NDArray[np.float32]
    weight: NDArray[np.float32]
    level: NDArray[np.int64]
    level_weight: NDArray[np.float32]


def render_targets(
    discs: tuple[Disc, ...], shape: tuple[int, int], step_mm: float, levels: int, sigma_mm: float = 5.0
) -> Targets:
    """Draw the discs of a window, whose points are in cells of `step_mm`.

    Where a margin or a canal is unknown, the weight is 0 in the region where it could be.
    """
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float32)

    def spot(point: tuple[float, float], sigma: float) -> NDArray[np.float32]:
        squared = (rows - point[0]) ** 2 + (columns - point[1]) ** 2
        return np.asarray(np.exp(-0.5 * squared * (step_mm / sigma) ** 2), dtype=np.float32)

    heat, weight = np.zeros((3, *shape), np.float32), np.ones((3, *shape), np.float32)
    nearest, level = np.zeros(shape, np.float32), np.zeros(shape, np.int64)
    for disc in discs:
        fade = np.float32(np.exp(-0.5 * (disc.off_slice_mm / _FADE_MM) ** 2))
        for channel, point in enumerate((disc.centre, disc.margin, disc.canal)):
            if point is not None:
                heat[channel] = np.maximum(heat[channel], fade * spot(point, sigma_mm))
            else:
                behind = (disc.centre[0], disc.centre[1] + 22 / step_mm)
                weight[channel] *= spot(behind, 14.0) < 0.4
        body = spot(disc.centre, 8.0)
        level = np.where(body > nearest, max(levels - 1 - disc.level, 0), level)
        nearest = np.maximum(nearest, body)
    return Targets(heat, weight, level, np.where(nearest > 0.3, nearest, 0).astype(np.float32))


def augment(
    scene: Scene, rng: np.random.Generator, shape: tuple[int, int], spacing_mm: float
) -> tuple[NDArray[np.float32], tuple[Disc, ...]]:
    """A window of `shape` at `spacing_mm` cut from a scene, turned, scaled, cropped and disguised; its discs in window pixels."""
    scale = float(np.exp(rng.uniform(np.log(0.72), np.log(1.4))))
    stretch = float(np.exp(rng.normal(0, 0.06)))
    angle = np.deg2rad(float(np.clip(rng.normal(0, 9), -24, 24)))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    # Window pixels to scene pixels; a scale over 1 makes the spine larger.
    matrix = turn @ np.diag([spacing_mm / (scale * stretch), spacing_mm * stretch / scale]) / SCENE_MM
    centres = np.array([d.centre for d in scene.discs])
    anchor = centres[rng.integers(len(centres))] if rng.random() < 0.4 else centres.mean(axis=0)
    jitter = rng.uniform(-0.5, 0.5, 2) * np.array([0.45, 0.4]) * np.array(shape)
    middle = (np.array(shape) - 1) / 2
    offset = anchor - matrix @ (middle + jitter)
    grid = np.indices(shape).reshape(2, -1).astype(np.float64)
    bend = _lordosis(rng, centres)
    window = map_coordinates(scene.image, bend.apply(matrix @ grid + offset[:, None]), order=1, cval=0.0).reshape(shape)
    back = np.linalg.inv(matrix)

    def to_window(point: tuple[float, float]) -> tuple[float, float]:
        r, c = back @ (np.array(bend.undo(point)) - offset)
        return float(r), float(c)

    top, bottom, left, right = _field_of_view(rng, shape)
    window[:top], window[bottom:], window[:, :left], window[:, right:] = 0, 0, 0, 0
    inside = []
    for disc in scene.discs:
        moved = disc.moved(to_window)
        r, c = moved.centre
        if top + 3 < r < bottom - 4 and left + 8 < c < right - 12:
            inside.append(moved)
    return disguise(window.astype(np.float32), rng), tuple(inside)


def _lordosis(rng: np.random.Generator, centres: NDArray[np.float64]) -> Bend:
    """A bend about a place among the discs, half the time none: so the sacrum is steep in one example and level in the next."""
    origin = (float(rng.uniform(centres[:, 0].min(), centres[:, 0].max() + 1)), float(centres[:, 1].mean()))
    curvature = float(np.clip(rng.normal(0, 0.0022), -0.004, 0.004)) if rng.random() < 0.5 else 0.0
    return Bend(origin, curvature * SCENE_MM)


def _field_of_view(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """(top, bottom, left, right) of the part of a window that is imaged; half the time all of it."""
    cuts = np.where(rng.random(4) < 0.3, rng.uniform(0, 0.2, 4), 0)
    rows, columns = shape
    return int(cuts[0] * rows), rows - int(cuts[1] * rows), int(cuts[2] * columns), columns - int(cuts[3] * columns)


def disguise(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Another scanner's look: coil fall-off, contrast, saturation, sharpness and noise."""
    rows, columns = (np.linspace(-1, 1, n, dtype=np.float32) for n in image.shape)
    slope = rng.normal(0, [0.3, 0.4, 0.2, 0.2]).astype(np.float32)
    field = slope[0] * rows[:, None] + slope[1] * columns + slope[2] * rows[:, None] ** 2 + slope[3] * columns**2
    out = np.clip(image, 0, None) ** np.float32(np.exp(rng.normal(0, 0.3))) * np.exp(field)
    if rng.random() < 0.4:
        out = gaussian_filter(out, rng.uniform(0.3, 1.2))
    out = out + rng.normal(0, rng.uniform(0, 0.04) * float(out.mean()) * 2, image.shape)
    ceiling = np.percentile(out, rng.uniform(93, 99.5)) if rng.random() < 0.5 else np.inf
    return normalise(np.minimum(out, ceiling).astype(np.float32))


def example(
    scene: Scene, rng: np.random.Generator, shape: tuple[int, int], spacing_mm: float, levels: int
) -> tuple[NDArray[np.float32], Targets]:
    """An augmented window and its targets on the grid of half its resolution."""
    window, discs = augment(scene, rng, shape, spacing_mm)

    small = tuple(disc.moved(lambda point: moved_to(point, (0.5, 0.5))) for disc in discs)
    return window, render_targets(small, (shape[0] // 2, shape[1] // 2), 2 * spacing_mm, levels)
