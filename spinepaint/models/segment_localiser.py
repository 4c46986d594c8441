"""Finds the lumbar discs by their segmentation: centroids, named by the same code and evidence as the heatmap's peaks."""

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from spinepaint.models.localiser import DiscLocaliser, heatmaps, normalise, place_warnings, to_grid
from spinepaint.models.naming import name_levels, spine_chain
from spinepaint.models.segmentation import STRUCTURES, Segmentation, Segmenters, segment

DISCS = STRUCTURES.index("discs")
LEAST_ML = 0.8  # of a disc; the sacrum's remnants and islands are smaller


@dataclass(frozen=True)
class SegmentLocalisation:
    """Disc centres, fractional voxel indices (slice, row, column), and confidence by FSU; a level outside the image is absent."""

    centres: dict[str, NDArray[np.float64]]
    confidence: dict[str, float]
    warnings: tuple[str, ...] = field(default=())


def localise_by_segments(
    segmenter: Segmenters, namer: DiscLocaliser, voxels: NDArray[np.float32], spacing_mm: tuple[float, float, float]
) -> SegmentLocalisation:
    """Find and name the discs of a series: the plain network's discs, and the heatmap network's evidence of their levels.

    voxels: (slice, row, column), rows head to foot, columns front to back; spacing_mm along them. The confidence is the mean
    probability of the disc's voxels times that of the naming. Raises ValueError where `voxels` is not three-dimensional.
    """
    found = segment(segmenter, voxels, spacing_mm, diffusion=False)
    parts, numbers = _discs(found, spacing_mm)
    centres = np.array(ndimage.center_of_mass(parts > 0, parts, numbers), dtype=np.float64).reshape(-1, 3)
    scores = np.asarray(ndimage.mean(found.probabilities[DISCS], parts, numbers), dtype=np.float64).reshape(-1)
    chain = spine_chain(centres * spacing_mm, scores)
    order = list(chain.order)
    config = namer.config
    naming = name_levels(_levels(namer, voxels, spacing_mm, centres[order]), chain.ranks, config.levels)
    named = {name: index for name, index in zip(naming.names, order, strict=True) if name in config.fsus}
    return SegmentLocalisation(
        {name: centres[index] for name, index in named.items()},
        {name: float(np.clip(scores[index] * naming.probability, 0.0, 1.0)) for name, index in named.items()},
        place_warnings(config, {name: centres[index] for name, index in named.items()}, naming.margin),
    )


def _discs(found: Segmentation, spacing_mm: tuple[float, float, float]) -> tuple[NDArray[np.int32], list[int]]:
    """Connected discs, numbered (slice, row, column), and the numbers of those that are large enough to be one."""
    parts, _ = ndimage.label(found.labels == DISCS + 1)
    volumes_ml = np.bincount(parts.ravel()) * float(np.prod(spacing_mm)) / 1000
    return parts, [int(number) for number in np.flatnonzero(volumes_ml >= LEAST_ML) if number > 0]


def _levels(
    namer: DiscLocaliser, voxels: NDArray[np.float32], spacing_mm: tuple[float, float, float], centres: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(N, levels) log-probabilities at disc centres, a mean over 9 mm in plane of the slice and its neighbours."""
    slices = torch.from_numpy(normalise(voxels))[:, None]
    _, levels = heatmaps(namer.eval(), to_grid(slices, spacing_mm[1:], namer.config.spacing_mm))
    step = 2 * namer.config.spacing_mm
    evidence = []
    for place, row, column in centres:
        r, c = (round(float(index + 0.5) * mm / step - 0.5) for index, mm in ((row, spacing_mm[1]), (column, spacing_mm[2])))
        s = round(float(place))
        box = levels[max(s - 1, 0) : s + 2, :, max(r - 2, 0) : r + 3, max(c - 2, 0) : c + 3]
        evidence.append(box.mean(axis=(0, 2, 3)))
    return np.array(evidence, dtype=np.float64).reshape(-1, len(namer.config.levels))
