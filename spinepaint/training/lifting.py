"""Pseudo-volumes lifted from real mid-sagittal slices, with a simulated pathology in them.

A slice is carried sideways: the sac narrows as an ellipse does and gives way to pedicle and fat, a small
drift grows with the distance from the midline, and every slice has noise of its own. What lies beyond some
10 mm from the midline is not to be believed, and `slice_weight` says so.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from spinepaint.imaging.vocabulary import Pathology, Severity
from spinepaint.training.anatomy2d import DiscAnatomy
from spinepaint.training.canal_path import Array
from spinepaint.training.scene import Image, Scene, smooth_step
from spinepaint.training.simulation import (
    Herniation,
    Stenosis,
    apply_herniation,
    apply_stenosis,
    draw_herniation,
    draw_stenosis,
)

Lesion = Herniation | Stenosis


@dataclass(frozen=True)
class LiftedCrop:
    """A crop of (row: superior to inferior, column: anterior to posterior, slice) in the slice's own grey values.

    Attributes
    ----------
    voxels, before: float32, with and without the pathology; drift and noise are the same in both.
    landmark_index: fractional index (row, column, slice) of the bump's base, or of the canal's middle.
    slice_weight: float32 (slice,), 1 near the midline, 0 where the lift is not to be believed.
    degree: the simulated lesion's (see `docs/2-definitions.md`), None without one.
    """

    voxels: NDArray[np.float32]
    landmark_index: tuple[float, float, float]
    before: NDArray[np.float32]
    slice_weight: NDArray[np.float32]
    degree: float | None


def slice_positions_mm(grid: tuple[int, int, int], extent_mm: tuple[float, float, float]) -> Array:
    """Lateral position of each slice's centre, 0 at the crop's middle."""
    return (np.arange(grid[2]) - 0.5 * (grid[2] - 1)) * extent_mm[2] / grid[2]


def _paramedian(scene: Scene, openness: float) -> tuple[Image, DiscAnatomy]:
    """The slice where the sac is down to `openness` of its depth: beside it, pedicle at the bodies, fat at the disc."""
    a = scene.anatomy
    lost = (1.0 - openness) * (a.back - a.front)
    front, back = a.front + 0.3 * lost, a.back - 0.7 * lost
    patch = scene.squeezed(front, back)
    marrow = scene.sample(scene.u, np.minimum(scene.front, 0.0) - 2.5 - 0.7 * np.maximum(scene.v - scene.front, -2.0))
    fat = (0.45 * a.csf + 0.55 * a.marrow) * (1.0 + 0.1 * scene.texture(11, 1.5)) + scene.grain(12)
    foramen = smooth_step(9.0 - np.abs(_from_level(scene.u + 3.0)), 5.0)
    beside = marrow + foramen * (fat - marrow)
    ahead = smooth_step(scene.v - scene.front + 0.2, 1.2) * smooth_step(scene.along(front) - 0.5 - scene.v, 1.0)
    behind = smooth_step(scene.v - scene.along(back) - 0.5, 1.0) * smooth_step(scene.back + 0.2 - scene.v, 1.2)
    opened = 1.0 - openness
    shut = max(1.0 - openness / 0.3, 0.0) * smooth_step(scene.v - scene.front, 1.2) * smooth_step(scene.back - scene.v, 1.2)
    mask = np.clip(ahead + behind + shut, 0.0, 1.0) * float(smooth_step(np.array(opened - 0.12), 0.2))
    return scene.finished(patch + mask * (beside - patch)), replace(a, front=front, back=back)


def _from_level(u: Array, level_mm: float = 33.0) -> Array:
    """Distance along the canal from the nearest level, taken to be `level_mm` apart."""
    return np.asarray((u + 0.5 * level_mm) % level_mm - 0.5 * level_mm)


def _with_lesion(scene: Scene, lesion: Lesion, gain: float) -> Image:
    if isinstance(lesion, Herniation):
        room = 0.85 * float(scene.anatomy.back[scene.anatomy.back.size // 2]) / lesion.depth_mm
        return apply_herniation(scene, lesion, min(gain, room))
    return apply_stenosis(scene, lesion, gain)


def _drift(shape: tuple[int, int], z_mm: Array, spacing_mm: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Displacement in pixels, (slice, row, column, 2), smooth in plane and along the slices, growing with |z|."""
    slope = rng.normal(0.0, 0.025, 2)  # an oblique slice plane
    bend = rng.normal(0.0, 0.0008, 2)
    shift = z_mm[:, None] * slope + z_mm[:, None] ** 2 * bend
    coarse = rng.standard_normal((z_mm.size + 8, 8, 8, 2))
    coarse = gaussian_filter1d(gaussian_filter(coarse, (0, 0.8, 0.8, 0)), 5.0 / abs(z_mm[1] - z_mm[0]), axis=0)[4:-4]
    coarse *= (0.25 + 0.9 * np.abs(z_mm) / 25.0)[:, None, None, None] / coarse.std()
    coarse += shift[:, None, None, :]
    field = torch.nn.functional.interpolate(
        torch.from_numpy(coarse).permute(0, 3, 1, 2).float(), size=shape, mode="bicubic", align_corners=True
    )
    return np.asarray(field.permute(0, 2, 3, 1).numpy() / spacing_mm, dtype=np.float32)


def _warped(stack: NDArray[np.float32], drift: NDArray[np.float32]) -> NDArray[np.float32]:
    """`stack` (slice, channel, row, column) displaced by `drift`, cubic."""
    rows, columns = stack.shape[2:]
    grid = torch.from_numpy(drift[..., ::-1].copy())
    grid[..., 0] += torch.arange(columns)
    grid[..., 1] += torch.arange(rows)[:, None]
    grid = grid * torch.tensor([2.0 / (columns - 1), 2.0 / (rows - 1)]) - 1.0
    moved = torch.nn.functional.grid_sample(
        torch.from_numpy(stack), grid, mode="bicubic", padding_mode="border", align_corners=True
    )
    return np.asarray(moved.numpy())


def _noise(shape: tuple[int, int, int], sigma: float, rng: np.random.Generator) -> NDArray[np.float32]:
    field = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), (0, 0.5, 0.5))
    return np.asarray(field * (sigma / max(float(field.std()), 1e-6)), dtype=np.float32)


def _slices(
    image: Image, anatomy: DiscAnatomy, lesion: Lesion | None, z_mm: Array, z0_mm: float, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(before, after), each (slice, row, column), undrifted and without noise of their own."""
    half_sac, half_lesion = float(rng.uniform(10.0, 13.0)), float(rng.uniform(5.0, 8.0))
    middle = Scene(image, anatomy, reach_mm=60.0)
    sides: dict[float, tuple[Image, DiscAnatomy]] = {}
    before, after = [], []
    for z in z_mm:
        side = round(abs(float(z)), 3)
        if side not in sides:
            openness = float(np.sqrt(max(1.0 - (side / half_sac) ** 2, 0.0))) ** 0.8
            sides[side] = (image, anatomy) if openness > 0.95 else _paramedian(middle, max(openness, 0.04))
        base, here = sides[side]
        before.append(base)
        away = (z - z0_mm) / half_lesion
        gain = float(2.0 ** -(away**2)) if isinstance(lesion, Herniation) else 1.0
        shut = side > half_sac - 0.5
        after.append(base if lesion is None or gain < 0.04 or shut else _with_lesion(Scene(base, here), lesion, gain))
    return np.stack(before), np.stack(after)


def lift(
    image: Image,
    anatomy: DiscAnatomy,
    pathology: Pathology | None,
    severity: Severity | None,
    rng: np.random.Generator,
    grid: tuple[int, int, int] = (128, 128, 16),
    extent_mm: tuple[float, float, float] = (80.0, 80.0, 50.0),
) -> LiftedCrop | None:
    """A crop of `extent_mm` on `grid`, lifted from a slice of that extent; None where the canal has no room for the lesion.

    `image` (row, column) has square pixels of `anatomy.spacing_mm` and covers the crop's first two extents; a
    grid coarser than it by a whole factor is averaged down. Without a pathology, `voxels` equal `before` and
    the landmark is the posterior disc margin in the middle slice.
    """
    z_mm = slice_positions_mm(grid, extent_mm)
    lesion: Lesion | None = None
    z0 = 0.0
    landmark = anatomy.margin
    if pathology is Pathology.DISC_HERNIATION and severity is not None:
        lesion, z0 = draw_herniation(anatomy, severity, rng), float(np.clip(rng.normal(0.0, 3.5), -6.0, 6.0))
        if lesion is None:
            return None
        row, column = anatomy.to_pixels(np.array(lesion.centre_mm), np.array(0.0))
        landmark = (float(row), float(column))
    elif pathology is Pathology.CENTRAL_CANAL_STENOSIS and severity is not None:
        lesion, landmark = draw_stenosis(anatomy, severity, rng), anatomy.canal_centre
    before, after = _slices(image, anatomy, lesion, z_mm, z0, rng)
    drift = _drift(image.shape, z_mm, anatomy.spacing_mm, rng)
    noise = _noise(before.shape, 0.6 * anatomy.noise, rng)
    moved_both = np.maximum(_warped(np.stack([after, before], 1), drift) + noise[:, None], 0.0)
    stacks = [_pooled(moved_both[:, i], grid) for i in (0, 1)]
    k = (z0 - z_mm[0]) / (z_mm[1] - z_mm[0])
    moved = drift[round(k), round(landmark[0]), round(landmark[1])]
    factors = image.shape[0] / grid[0], image.shape[1] / grid[1]
    index = tuple((landmark[i] - float(moved[i]) + 0.5) / factors[i] - 0.5 for i in (0, 1))
    weight = smooth_step(8.5 - np.abs(z_mm), 5.0).astype(np.float32)
    degree = lesion.degree if lesion else None
    return LiftedCrop(stacks[0], (index[0], index[1], float(k)), stacks[1], weight, degree)


def _pooled(stack: NDArray[np.float32], grid: tuple[int, int, int]) -> NDArray[np.float32]:
    """(slice, row, column) averaged down to the grid's rows and columns, as (row, column, slice)."""
    n, rows, columns = stack.shape
    if rows % grid[0] or columns % grid[1] or n != grid[2]:
        raise ValueError(f"a slice of {rows}x{columns} does not average down to a grid of {grid}")
    pooled = stack.reshape(n, grid[0], rows // grid[0], grid[1], columns // grid[1]).mean((2, 4))
    return np.ascontiguousarray(pooled.transpose(1, 2, 0), dtype=np.float32)
