"""Peaks of the localiser's heatmaps, read over all slices together."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional


@dataclass(frozen=True)
class Candidate:
    """A place that may be a disc's centre, in heatmap cells.

    Attributes
    ----------
    slice, row, column: fractional indices.
    score: in [0, 1].
    levels: (levels,) log-probabilities.
    weights: (slices,) how much each slice sees of the disc; they sum to 1.
    """

    slice: float
    row: float
    column: float
    score: float
    levels: NDArray[np.float64]
    weights: NDArray[np.float64]


def _window(centre: tuple[float, float], shape: tuple[int, ...], radius: int) -> tuple[slice, slice]:
    r, c = round(centre[0]), round(centre[1])
    return (
        slice(max(r - radius, 0), min(r + radius + 1, shape[-2])),
        slice(max(c - radius, 0), min(c + radius + 1, shape[-1])),
    )


def _centroid(scores: NDArray[np.float32], centre: tuple[float, float], radius: int) -> tuple[float, float]:
    """Centre of mass of the squared scores around a point of a (H, W) map."""
    rows, columns = _window(centre, scores.shape, radius)
    weight = scores[rows, columns].astype(np.float64) ** 2 + 1e-12
    r, c = np.mgrid[rows, columns]
    return float((r * weight).sum() / weight.sum()), float((c * weight).sum() / weight.sum())


def find_candidates(discs: NDArray[np.float32], levels: NDArray[np.float32], threshold: float, step_mm: float) -> list[Candidate]:
    """Peaks of the best two-slice mean, at least 12 mm apart, with their place across the slices."""
    ordered = np.sort(discs, axis=0)
    plane = ordered[-2:].mean(axis=0)
    radius = round(12 / step_mm)
    peaks = functional.max_pool2d(torch.from_numpy(plane)[None], 2 * radius + 1, stride=1, padding=radius)[0].numpy()
    found = []
    for row, column in np.argwhere((plane == peaks) & (plane >= threshold)):
        rows, columns = _window((row, column), plane.shape, 3)
        patch = discs[:, rows, columns].astype(np.float64)
        best = patch.max(axis=(1, 2))
        weights = best**2 / (best**2).sum()
        mean_map = np.tensordot(weights, discs.astype(np.float64), axes=1).astype(np.float32)
        at = _centroid(mean_map, (row, column), 3)
        mass = patch**2 / (patch**2).sum()
        evidence = (levels[:, :, rows, columns] * mass[:, None]).sum(axis=(0, 2, 3))
        place = float((weights * np.arange(len(weights))).sum())
        found.append(Candidate(place, *at, float(plane[row, column]), evidence, weights))
    return found


def peak_behind(
    scores: NDArray[np.float32],
    weights: NDArray[np.float64],
    origin: NDArray[np.float64],
    direction: NDArray[np.float64],
    reach: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The peak (row, column) of a map behind a point, in heatmap cells.

    Parameters
    ----------
    scores: (slices, H, W), averaged with `weights` (slices,).
    origin, direction: (row, column), the latter of length 1; the peak lies within 39 degrees of it.
    reach: (3,) least, usual and greatest distance along `direction`; the usual one stands where the map is blank.

    Peaks count the more the nearer they lie to the usual distance straight along `direction`: in a steep lordosis
    the next level's own peak is within reach too.
    """
    plane = np.tensordot(weights, scores.astype(np.float64), axes=1).astype(np.float32)
    r, c = np.indices(plane.shape) - origin[:, None, None]
    along, across = r * direction[0] + c * direction[1], np.abs(r * direction[1] - c * direction[0])
    allowed = np.where((along > reach[0]) & (along < reach[2]) & (across < 0.8 * along), plane, 0)
    spread = (reach[2] - reach[0]) / 3
    likely = allowed * np.exp(-0.5 * (((along - reach[1]) / spread) ** 2 + (across / spread) ** 2))
    peak = np.unravel_index(int(likely.argmax()), plane.shape)
    if allowed[peak] < 0.05:
        return np.asarray(origin + reach[1] * direction)
    return np.array(_centroid(plane, (float(peak[0]), float(peak[1])), 2))
