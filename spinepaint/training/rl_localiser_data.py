"""Volumes for the agents to walk in, with the places of their discs: phantoms, and real slices, alone or widened to slabs."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform, gaussian_filter

from spinepaint.models.rl_localiser import RlLocaliserConfig
from spinepaint.models.rl_localiser_views import BYTE, to_agents_grid
from spinepaint.training.localiser_data import augment
from spinepaint.training.localiser_scenes import Scene, random_pathologies, read_scenes
from spinepaint.training.phantom import make_phantom

WINDOWS = ((144, 112), (160, 120), (120, 136))  # of real slices, in voxels of the grid
CUT_SHARE = 0.3  # of the phantoms lose a part of their field of view, and their agents' discs may lie outside


@dataclass(frozen=True)
class Ground:
    """A volume of the agents' grid, uint8 (slice, row, column), and where its discs are.

    targets: (agents, 3) fractional voxels, outside the volume where the field of view ends before the disc; nan where unknown.
    """

    grid: NDArray[np.uint8]
    targets: NDArray[np.float64]

    @property
    def inside(self) -> NDArray[np.bool_]:
        """(agents,) whose disc is known and within the volume."""
        shape = np.array(self.grid.shape) - 1
        with np.errstate(invalid="ignore"):
            return np.asarray(((self.targets >= 0) & (self.targets <= shape)).all(axis=1))


def phantom_ground(seed: int, config: RlLocaliserConfig, *, cut_share: float = CUT_SHARE) -> Ground:
    """A phantom, some of whose FSUs have a pathology; `cut_share` of them end above the sacrum or below L1."""
    phantom = make_phantom(seed, random_pathologies(np.random.default_rng(seed)))
    grid, factor = to_agents_grid(phantom.voxels, phantom.spacing, config.spacing_mm)
    inverse = np.linalg.inv(phantom.affine)
    targets = np.full((len(config.fsus), 3), np.nan)
    for name, point in phantom.disc_centres_lps_mm.items():
        if name in config.fsus:
            index = inverse[:3, :3] @ np.asarray(point) + inverse[:3, 3]
            targets[config.fsus.index(name)] = (index + 0.5) * factor - 0.5
    return _cut(Ground(grid, targets), np.random.default_rng((seed, 31)), cut_share)


def _cut(ground: Ground, rng: np.random.Generator, share: float) -> Ground:
    if rng.random() >= share:
        return ground
    top, bottom = _field_of_view(rng, ground.targets[:, 1], ground.grid.shape[1])
    return Ground(np.ascontiguousarray(ground.grid[:, top:bottom]), ground.targets - np.array([0, top, 0]))


def altered(ground: Ground, rng: np.random.Generator) -> Ground:
    """Another patient by the same anatomy: turned, scaled and stretched in plane, half the time mirrored from left to right."""
    scale, stretch = np.exp(rng.uniform(np.log(0.82), np.log(1.2))), np.exp(rng.normal(0, 0.05))
    angle = np.deg2rad(float(np.clip(rng.normal(0, 7), -20, 20)))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = np.eye(3)  # from the new volume's voxels to the old one's
    matrix[0, 0] = -1.0 if rng.random() < 0.5 else 1.0
    matrix[1:, 1:] = turn @ np.diag([1 / (scale * stretch), stretch / scale])
    middle = (np.array(ground.grid.shape) - 1) / 2
    grid = affine_transform(ground.grid, matrix, offset=middle - matrix @ middle, order=1)
    return Ground(grid, (ground.targets - middle) @ np.linalg.inv(matrix).T + middle)


def spoilt(ground: Ground, rng: np.random.Generator) -> Ground:
    """A variant whose contrast, sharpness and noise are beyond the training's: agents fail there often enough to fit doubt."""
    other = _cut(altered(ground, rng), rng, CUT_SHARE)
    image = gaussian_filter(other.grid.astype(np.float32), (0.0, *[float(rng.uniform(0, 1.5))] * 2))
    image = np.clip(image + rng.normal(0, float(rng.uniform(0, 50)), image.shape), 0, 255) / 255
    return Ground((255 * image ** float(np.exp(rng.normal(0, 0.5)))).astype(np.uint8), other.targets)


def _field_of_view(rng: np.random.Generator, rows: NDArray[np.float64], height: int) -> tuple[int, int]:
    """(top, bottom) of an image that ends between the two upper or the two lower discs."""
    ends, share = np.sort(rows[np.isfinite(rows)]), rng.random()
    if len(ends) < 3:
        return 0, height
    if rng.random() < 0.5:
        return 0, int(ends[-2] + (0.35 + 0.5 * share) * (ends[-1] - ends[-2]))
    return int(ends[0] + (0.15 + 0.5 * share) * (ends[1] - ends[0])), height


def slice_ground(scene: Scene, rng: np.random.Generator, config: RlLocaliserConfig) -> Ground:
    """A boxed slice, turned, scaled and disguised: half the time one slice thick, else a slab that blurs to its sides.

    The slab is no anatomy; it shows agents that have learnt from phantoms where the middle is what real tissue looks like.
    """
    image, discs = augment(scene, rng, WINDOWS[int(rng.integers(len(WINDOWS)))], config.spacing_mm)
    planes, middle = 1, 0
    if rng.random() < 0.5:
        planes = int(rng.integers(16, 45))
        middle = int(np.clip(round(planes / 2 + rng.normal(0, 2)), 0, planes - 1))
    stack = [image if x == middle else gaussian_filter(image, 0.3 * abs(x - middle)) for x in range(planes)]
    grid = np.clip(np.stack(stack) * BYTE, 0, 255).round().astype(np.uint8)
    targets = np.full((len(config.fsus), 3), np.nan)
    for disc in discs:
        if disc.level < len(config.fsus):
            targets[len(config.fsus) - 1 - disc.level] = (middle, *disc.centre)
    return Ground(grid, targets)


def training_grounds(
    config: RlLocaliserConfig, *, seed: int, phantoms: int, spider: Path | None, variants: int
) -> tuple[list[Ground], list[Ground]]:
    """`variants` grounds of each phantom from `seed` on, and of each of SPIDER's boxed training slices; the same for a seed."""
    made = []
    for number in range(seed, seed + phantoms):
        whole, draw = phantom_ground(number, config, cut_share=0.0), np.random.default_rng((number, 34))
        made += [_cut(whole if k == 0 else altered(whole, draw), draw, CUT_SHARE) for k in range(variants)]
    rng = np.random.default_rng((seed, 32))
    scenes = read_scenes(spider)[0] if spider else []
    real = [slice_ground(scene, rng, config) for scene in scenes for _ in range(variants)]
    return made, [ground for ground in real if np.isfinite(ground.targets).any()]
