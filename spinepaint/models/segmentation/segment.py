"""A series in, its structures out: labels, probabilities and uncertainty on the series' own grid."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from spinepaint.models.localiser import normalise, to_grid
from spinepaint.models.placement import device_of, half_precision
from spinepaint.models.segmentation.config import NEIGHBOURS, EnsembleConfig, SegmenterConfig
from spinepaint.models.segmentation.diffusion import Drawn, ensemble, uncertainty_of
from spinepaint.models.segmentation.networks import DiffusionNetwork, PlainSegmenter

_BATCH = 4  # slices at once: more are no faster on a CPU

Progress = Callable[[float], None]


@dataclass(frozen=True)
class Segmenters:
    """The networks of a bundle's segmenter, in evaluation mode."""

    config: SegmenterConfig
    plain: PlainSegmenter
    diffusion: DiffusionNetwork


@dataclass(frozen=True)
class Segmentation:
    """What was found in a series.

    Attributes
    ----------
    labels: uint8 (slice, row, column): 0, or the place of a structure in `STRUCTURES` + 1.
    probabilities: float32 (structure, slice, row, column), 0 to 1; of each structure by itself.
    uncertainty: float32 (slice, row, column), nats, 0 to 1/e: the highest of any structure and averaged step.
    """

    labels: NDArray[np.uint8]
    probabilities: NDArray[np.float32]
    uncertainty: NDArray[np.float32]


def segment(
    models: Segmenters,
    voxels: NDArray[np.float32],
    spacing_mm: tuple[float, float, float],
    *,
    diffusion: bool = True,
    how: EnsembleConfig | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Segmentation:
    """Segment a series.

    Parameters
    ----------
    voxels: (slice, row, column), sagittal slices in order, rows head to foot, columns front to back; T1 or T2.
    spacing_mm: along (slice, row, column).
    diffusion: False for the plain network alone, whose uncertainty is that of its own probabilities.
    how: the ensemble, `models.config.ensemble` when left out.
    seed: the same seed gives the same masks on the same platform.
    progress: is told the share that is done.

    Raises ValueError where `voxels` is not three-dimensional.
    """
    if voxels.ndim != 3:
        raise ValueError(f"a series has three axes (slice, row, column), not {voxels.ndim}")
    config = models.config
    slices = torch.from_numpy(normalise(voxels))[:, None]
    grid = with_neighbours(to_grid(slices, spacing_mm[1:], config.spacing_mm, config.multiple)[:, 0])
    size = [max(1, round(n * s / config.spacing_mm)) for n, s in zip(voxels.shape[1:], spacing_mm[1:], strict=True)]
    generator = torch.Generator().manual_seed(seed)
    probabilities = np.empty((3, *voxels.shape), np.float32)
    uncertainty = np.empty(voxels.shape, np.float32)
    for first in range(0, len(grid), _BATCH):
        part = slice(first, first + _BATCH)
        drawn = draw(models, grid[part], how or config.ensemble if diffusion else None, generator)
        both = torch.cat([drawn.probability, drawn.uncertainty.amax(dim=1, keepdim=True)], dim=1)[:, :, : size[0], : size[1]]
        back = functional.interpolate(both.cpu(), size=voxels.shape[1:], mode="bilinear", align_corners=False).numpy()
        probabilities[:, part] = back[:, :-1].transpose(1, 0, 2, 3)
        uncertainty[part] = back[:, -1]
        if progress:
            progress(min(1.0, (first + _BATCH) / len(grid)))
    return Segmentation(labels_of(probabilities), probabilities, uncertainty)


@torch.inference_mode()
def draw(models: Segmenters, image: Tensor, how: EnsembleConfig | None, generator: torch.Generator) -> Drawn:
    """Probability and uncertainty of slices (B, 3, H, W) on the networks' grid and device; without `how` by the plain one."""
    device = device_of(models.plain)
    image = image.to(device).contiguous(memory_format=torch.channels_last)
    with half_precision(device):
        probability = torch.sigmoid(models.plain(image).float())
        if how is None:
            return Drawn(probability, uncertainty_of(probability))
        return ensemble(models.diffusion, image, pre_segmentation(probability), how, generator)


def pre_segmentation(probability: Tensor) -> Tensor:
    """The plain network's masks as ±1, each pixel of the structure it belongs to most, if to any."""
    most = probability == probability.amax(dim=1, keepdim=True)
    return torch.where(most & (probability > 0.5), 1.0, -1.0)


def with_neighbours(slices: Tensor) -> Tensor:
    """(N, H, W) → (N, 3, H, W): each slice between the one before and the one after; the outer ones beside themselves."""
    reach = NEIGHBOURS // 2
    last = len(slices) - 1
    places = [[min(max(k + d, 0), last) for k in range(len(slices))] for d in range(-reach, reach + 1)]
    return torch.stack([slices[place] for place in places], dim=1)


def labels_of(probabilities: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(structure, ...) → uint8 (...): the likeliest structure + 1 where its probability is over one half, else 0."""
    best = probabilities.argmax(axis=0).astype(np.uint8)
    return np.where(probabilities.max(axis=0) > 0.5, best + np.uint8(1), np.uint8(0)).astype(np.uint8)
