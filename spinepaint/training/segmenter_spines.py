"""Spines for the segmenter to learn from: phantoms in T2 and T1 with exact labels, and the looks of real slices."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from spinepaint.models.localiser import normalise
from spinepaint.training.localiser_scenes import SCENE_MM, UNFIT, calibrated, moved_to, random_pathologies, square
from spinepaint.training.phantom import CANAL_TISSUES, DISC_TISSUES, Phantom, Tissue, make_phantom
from spinepaint.training.spider import read_slices

BODY_TISSUES = (Tissue.VERTEBRA, Tissue.SCHMORL_NODE)
HELD_OUT_SEED = 1_000_000  # the first of the phantoms that are never trained on
_WHITE = 1.5  # `normalise` clips there
_T2, _T1, _LABELS = range(3)


@dataclass(frozen=True)
class Spine:
    """A phantom at `SCENE_MM` in plane: planes uint8 (3, slice, row, column), T2, T1 and the labels of `structure_labels`."""

    seed: int
    planes: NDArray[np.uint8]

    @property
    def labels(self) -> NDArray[np.uint8]:
        """uint8 (slice, row, column)."""
        return np.asarray(self.planes[_LABELS])

    def image(self, *, t1: bool) -> NDArray[np.uint8]:
        """Grey values (slice, row, column) of one contrast; `grey` makes them about 0–1."""
        return np.asarray(self.planes[_T1 if t1 else _T2])


@dataclass(frozen=True)
class Look:
    """A real mid-sagittal slice at `SCENE_MM`, about 0–1, its patient, and its discs' centres (row, column), head first."""

    patient: int
    image: NDArray[np.float32]
    centres: NDArray[np.float64]


def structure_labels(phantom: Phantom) -> NDArray[np.uint8]:
    """The exact labels (slice, row, column): vertebral bodies with their Schmorl nodes 1, discs with herniations 2, canal 3."""
    labels = np.zeros(phantom.labels.shape, np.uint8)
    for value, tissues in enumerate((BODY_TISSUES, DISC_TISSUES, CANAL_TISSUES), start=1):
        labels[np.isin(phantom.labels, tissues)] = value
    return labels


def phantom_of(seed: int, weighting: str = "T2") -> Phantom:
    """The phantom of `seed`, some of whose discs have a pathology."""
    return make_phantom(seed, random_pathologies(np.random.default_rng(seed)), weighting=weighting)


def grey(stored: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Grey values as a Spine keeps them, to 0–1.5."""
    return stored.astype(np.float32) * np.float32(_WHITE / 255)


def read_spine(seed: int, folder: Path) -> Spine:
    """The spine of `seed`, from `folder` where it was made before; memory-mapped."""
    path = folder / f"{seed:07d}.npy"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            np.save(file, _planes(seed))
        partial.replace(path)
    return Spine(seed, np.load(path, mmap_mode="r"))


def _planes(seed: int) -> NDArray[np.uint8]:
    t2, t1 = (phantom_of(seed, weighting) for weighting in ("T2", "T1"))
    size = [round(n * mm / SCENE_MM) for n, mm in zip(t2.voxels.shape[1:], t2.spacing[1:], strict=True)]

    def stored(phantom: Phantom) -> NDArray[np.uint8]:
        image = torch.from_numpy(normalise(phantom.voxels))[:, None]
        small = functional.interpolate(image, size=size, mode="bilinear", antialias=True, align_corners=False)[:, 0]
        return np.asarray((small * (255 / _WHITE)).round().clamp(0, 255).to(torch.uint8).numpy())

    labels = torch.from_numpy(structure_labels(t2))[:, None]
    small = functional.interpolate(labels, size=size, mode="nearest-exact")[:, 0].numpy()
    return np.stack([stored(t2), stored(t1), small])


def read_looks(folder: Path, wanted: Callable[[int], bool]) -> list[Look]:
    """The boxed SPIDER slices of `wanted` patients."""
    looks = []
    for slice_ in read_slices(folder):
        if slice_.discs and slice_.name not in UNFIT and wanted(slice_.patient):
            image = square(slice_.image, calibrated(slice_))
            factor = (image.shape[0] / slice_.image.shape[0], image.shape[1] / slice_.image.shape[1])
            centres = np.array(sorted(moved_to(disc.centre, factor) for disc in slice_.discs))
            looks.append(Look(slice_.patient, normalise(image), centres))
    return looks
