"""How good a segmenter is: Dice per structure on phantoms with exact truth, healthy discs against degenerate ones, seconds."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from statistics import fmean

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, find_objects, label

from spinepaint.models.segmentation import STRUCTURES, EnsembleConfig, Segmenters, segment
from spinepaint.training.localiser_scenes import UNFIT, calibrated
from spinepaint.training.phantom import FSU_UPPER, Phantom
from spinepaint.training.ranking import auc
from spinepaint.training.segmenter_spines import phantom_of, structure_labels
from spinepaint.training.spider import DiscBox, read_slices

DISC = STRUCTURES.index("discs") + 1
_DEGENERATE_GRADE = 4  # Pfirrmann


@dataclass(frozen=True)
class Case:
    """A phantom to segment: its seed and weighting, T2 or T1."""

    seed: int
    weighting: str = "T2"


@lru_cache(maxsize=8)
def _phantom(case: Case) -> Phantom:
    return phantom_of(case.seed, case.weighting)


def dice(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """2|A ∩ B| / (|A| + |B|); 1 where both are empty."""
    total = int(found.sum()) + int(truth.sum())
    return 2.0 * int((found & truth).sum()) / total if total else 1.0


def is_degenerate(phantom: Phantom, fsu: str) -> bool:
    """Whether a disc has a lesion or a Pfirrmann grade of 4 or 5."""
    return phantom.conditions[fsu] is not None or phantom.pfirrmann[fsu] >= _DEGENERATE_GRADE


def disc_scores(found: NDArray[np.bool_], phantom: Phantom) -> dict[str, float]:
    """Dice of each disc L1-L2 … L5-S1 in view; what was found belongs to the disc that is nearest in millimetres."""
    truth = structure_labels(phantom) == DISC
    box = find_objects((found | truth).astype(np.uint8))[0]
    found, truth, levels = found[box], truth[box], phantom.levels[box]
    nearest = distance_transform_edt(~truth, sampling=phantom.spacing, return_distances=False, return_indices=True)
    owner = levels[tuple(nearest)]
    return {
        fsu: dice(found & (owner == FSU_UPPER[fsu] + 1), truth & (levels == FSU_UPPER[fsu] + 1))
        for fsu in phantom.disc_centres_lps_mm
    }


def score_phantoms(models: Segmenters, cases: Sequence[Case], how: EnsembleConfig | None) -> dict[str, float]:
    """Mean Dice by structure and of all, of healthy and of degenerate discs, AUCs of the uncertainty, and seconds a volume.

    uncertainty_auc: how well it tells voxels with a wrong label from the others; spine_auc: the same among the voxels that have a
    structure in the labels or in the truth, where background that nobody doubts does not count. how: the ensemble, or None for
    the plain network alone. A figure for which there is no case is left out.
    """
    rows: list[dict[str, float]] = []
    discs: dict[str, list[float]] = {"healthy_discs": [], "degenerate_discs": []}
    for case in cases:
        phantom = _phantom(case)
        began = time.perf_counter()
        found = segment(models, phantom.voxels, phantom.spacing, diffusion=how is not None, how=how)
        seconds = time.perf_counter() - began
        labels, truth = found.labels, structure_labels(phantom)
        wrong, spine = labels != truth, (labels > 0) | (truth > 0)
        scores = {name: dice(labels == k, truth == k) for k, name in enumerate(STRUCTURES, start=1)}
        told = {
            "uncertainty_auc": auc(found.uncertainty.ravel(), wrong.ravel()),
            "spine_auc": auc(found.uncertainty[spine], wrong[spine]),
        }
        rows.append({**scores, "mean": fmean(scores.values()), **told, "seconds": seconds})
        for fsu, score in disc_scores(labels == DISC, phantom).items():
            discs["degenerate_discs" if is_degenerate(phantom, fsu) else "healthy_discs"].append(score)
    means = {name: fmean(row[name] for row in rows) for name in rows[0]} if rows else {}
    return means | {name: fmean(values) for name, values in discs.items() if values}


def compare(models: Segmenters, cases: Sequence[Case], steps: Sequence[int] = (10, 30, 100, 1000)) -> dict[str, dict[str, float]]:
    """The plain network against diffusion over T, by name: figures of `score_phantoms`."""
    table = {"plain": score_phantoms(models, cases, None)}
    for t in steps:
        table[f"diffusion T={t}"] = score_phantoms(models, cases, replace(models.config.ensemble, steps=t))
    return table


def box_overlap(discs: NDArray[np.bool_], box: DiscBox) -> float:
    """Intersection over union of a disc's box and the box about the connected discs (row, column) that lie most within it."""
    low = [max(0, round(c - s / 2)) for c, s in zip(box.centre, box.size, strict=True)]
    high = [max(a + 1, round(c + s / 2)) for a, c, s in zip(low, box.centre, box.size, strict=True)]
    parts, _ = label(discs)
    inside = np.bincount(parts[low[0] : high[0], low[1] : high[1]].ravel(), minlength=2)[1:]
    if not inside.any():
        return 0.0
    rows, columns = find_objects(parts)[int(inside.argmax())]
    drawn, found = np.zeros_like(discs), np.zeros_like(discs)
    drawn[low[0] : high[0], low[1] : high[1]] = True
    found[rows, columns] = True
    return float((drawn & found).sum() / (drawn | found).sum())


def score_looks(models: Segmenters, spider: Path, wanted: Callable[[int], bool]) -> dict[str, float]:
    """How well the plain network's discs fill the boxes that were drawn on real slices of `wanted` patients.

    real_disc_box_iou: mean intersection over union of the boxes; real_discs_found: the share over 0.3. Empty without slices.
    """
    overlaps = []
    for slice_ in read_slices(spider):
        if slice_.discs and slice_.name not in UNFIT and wanted(slice_.patient):
            row, column = calibrated(slice_)
            labels = segment(models, slice_.image[None], (4.0, row, column), diffusion=False).labels[0]
            overlaps += [box_overlap(labels == DISC, box) for box in slice_.discs]
    if not overlaps:
        return {}
    return {"real_disc_box_iou": fmean(overlaps), "real_discs_found": fmean(float(o > 0.3) for o in overlaps)}
