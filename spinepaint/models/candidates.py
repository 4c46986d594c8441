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
    scores: NDArray[np.float32], disc: Candidate, step_mm: float, reach_mm: tuple[float, float], usual_mm: float
) -> NDArray[np.float64]:
    """The peak (row, column) of a map behind a disc's centre within `reach_mm`; where it is blank, `usual_mm` behind."""
    plane = np.tensordot(disc.weights, scores.astype(np.float64), axes=1).astype(np.float32)
    r, c = np.mgrid[: plane.shape[0], : plane.shape[1]]
    behind, across = (c - disc.column) * step_mm, np.abs(r - disc.row) * step_mm
    allowed = np.where((behind > reach_mm[0]) & (behind < reach_mm[1]) & (across < 0.8 * behind), plane, 0)
    peak = np.unravel_index(int(allowed.argmax()), plane.shape)
    if allowed[peak] < 0.05:
        return np.array([disc.row, disc.column + usual_mm / step_mm])
    return np.array(_centroid(plane, (float(peak[0]), float(peak[1])), 2))
