"""Slices for the disc localiser to learn from: SPIDER's boxed slices and phantoms, as images with points."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from spinepaint.imaging.vocabulary import CONDITIONS, Fsu, Pathology
from spinepaint.models.localiser import normalise
from spinepaint.training.anatomy2d import find_anatomy
from spinepaint.training.canal_path import csf_path
from spinepaint.training.phantom import DISC_TISSUES, VERTEBRAE, make_phantom
from spinepaint.training.spider import DiscBox, SpiderSlice, is_held_out, read_slices

SCENE_MM = 1.0
GAP_MM, PLAUSIBLE_GAP_MM = 36.0, (30.0, 43.0)
_WIDTH_MM, _PLAUSIBLE_WIDTH_MM = 46.0, (38.0, 57.0)

# Boxed slices that would teach wrong levels or places, found by looking at every one: the lowest box is not that of L5-S1, which
# is in view without a box, or a box spans a vertebra with its discs.
UNFIT = frozenset({"19_t2", "52_t2_SPACE", "57_t2", "89_t2", "226_t2", "228_t2"})


@dataclass(frozen=True)
class Disc:
    """A disc on a slice: points (row, column) in pixels, its level counted up from L5-S1 = 0, its distance off the slice.

    `margin` and `canal` are None where they are not known.
    """

    level: int
    centre: tuple[float, float]
    margin: tuple[float, float] | None
    canal: tuple[float, float] | None
    off_slice_mm: float = 0.0

    def moved(self, by: Callable[[tuple[float, float]], tuple[float, float]]) -> "Disc":
        """The disc with its points taken elsewhere."""
        margin, canal = (point and by(point) for point in (self.margin, self.canal))
        return replace(self, centre=by(self.centre), margin=margin, canal=canal)


@dataclass(frozen=True)
class Scene:
    """A slice of about 0–1 with square pixels of `SCENE_MM`, and its discs."""

    image: NDArray[np.float32]
    discs: tuple[Disc, ...]
    name: str = ""


def calibrated(slice_: SpiderSlice) -> tuple[float, float]:
    """Pixel spacing (row, column) in mm of a boxed slice, each axis corrected where the boxes show the header's to be wrong.

    Some matrices were interpolated along one axis or both after their header was written.
    """
    rows, columns = slice_.spacing
    gap = float(np.mean(np.linalg.norm(np.diff([d.centre for d in slice_.discs], axis=0) * slice_.spacing, axis=1)))
    width = float(np.median([d.size[1] for d in slice_.discs])) * columns
    if not PLAUSIBLE_GAP_MM[0] <= gap <= PLAUSIBLE_GAP_MM[1]:
        rows *= GAP_MM / gap
    if not _PLAUSIBLE_WIDTH_MM[0] <= width <= _PLAUSIBLE_WIDTH_MM[1]:
        columns *= _WIDTH_MM / width
    return rows, columns


def square(image: NDArray[np.float32], spacing: tuple[float, float], target_mm: float = SCENE_MM) -> NDArray[np.float32]:
    """A (row, column) image at square pixels of `target_mm`, averaged where that is coarser."""
    size = [max(1, round(n * s / target_mm)) for n, s in zip(image.shape, spacing, strict=True)]
    tensor = torch.from_numpy(np.ascontiguousarray(image))[None, None]
    out: NDArray[np.float32] = functional.interpolate(tensor, size=size, mode="bilinear", antialias=True)[0, 0].numpy()
    return out


def moved_to(point: tuple[float, float], factor: tuple[float, float]) -> tuple[float, float]:
    """A (row, column) pixel in an image `factor` times as large; pixel centres lie half a pixel from their corner."""
    return (point[0] + 0.5) * factor[0] - 0.5, (point[1] + 0.5) * factor[1] - 0.5


def spider_scene(slice_: SpiderSlice) -> Scene:
    """The scene of a boxed SPIDER slice; margins and canals only where the image shows them with certainty."""
    spacing = calibrated(slice_)
    image = square(slice_.image, spacing)
    factor = (image.shape[0] / slice_.image.shape[0], image.shape[1] / slice_.image.shape[1])
    boxes = tuple(
        DiscBox(d.ivd_label, moved_to(d.centre, factor), (d.size[0] * factor[0], d.size[1] * factor[1]), d.grades)
        for d in slice_.discs
    )
    path = csf_path(image, SCENE_MM, boxes)
    discs = []
    for box in boxes:
        found = find_anatomy(image, SCENE_MM, box, path)
        ends = (found.margin, found.canal_centre) if found else (None, None)
        discs.append(Disc(box.ivd_label - 1, box.centre, *ends))
    return Scene(normalise(image), tuple(discs), slice_.name)


def random_pathologies(rng: np.random.Generator) -> dict[str, tuple[str, str]]:
    """Each FSU healthy three times in four, else with any pathology of any severity."""
    chosen = {}
    for fsu in Fsu:
        pathology, severity = CONDITIONS[int(rng.integers(len(CONDITIONS)))]
        if rng.random() < 0.25:
            chosen[fsu.value] = (pathology.value, severity.value)
    return chosen


def phantom_scenes(seed: int) -> tuple[Scene, ...]:
    """A scene for each slice of a phantom, some of whose FSUs have a pathology."""
    phantom = make_phantom(seed, random_pathologies(np.random.default_rng(seed)))
    inverse = np.linalg.inv(phantom.affine)

    def index(point: tuple[float, float, float]) -> NDArray[np.float64]:
        return np.asarray(inverse[:3, :3] @ np.asarray(point) + inverse[:3, 3])

    spots: list[tuple[int, NDArray[np.float64], NDArray[np.float64] | None, NDArray[np.float64] | None]] = []
    lowest = VERTEBRAE.index("L5")
    for place, upper in enumerate(VERTEBRAE[: lowest + 1]):
        name = f"{upper}-{VERTEBRAE[place + 1]}"
        if name in phantom.disc_centres_lps_mm:
            margin, canal = (index(phantom.candidate_landmarks_lps_mm[name, p.value]) for p in Pathology)
            spots.append((lowest - place, index(phantom.disc_centres_lps_mm[name]), margin, canal))
        elif name not in {f.value for f in Fsu}:
            voxels = np.argwhere(np.isin(phantom.labels, DISC_TISSUES) & (phantom.levels == place + 1))
            if len(voxels) and voxels[:, 1].min() > 2:
                spots.append((lowest - place, voxels.mean(axis=0), None, None))
    image = normalise(phantom.voxels)
    thickness, *spacing = phantom.spacing
    scenes = []
    for number, plane in enumerate(image):
        small = square(plane, (spacing[0], spacing[1]))
        factor = (small.shape[0] / plane.shape[0], small.shape[1] / plane.shape[1])
        discs = tuple(
            Disc(
                level,
                moved_to((c[1], c[2]), factor),
                None if m is None else moved_to((m[1], m[2]), factor),
                None if k is None else moved_to((k[1], k[2]), factor),
                float(abs(number - c[0])) * thickness,
            )
            for level, c, m, k in spots
        )
        scenes.append(Scene(small, discs, f"phantom {seed} slice {number}"))
    return tuple(scenes)


def read_scenes(folder: Path) -> tuple[list[Scene], list[Scene]]:
    """Boxed SPIDER slices as (training, held-out) scenes, but for the `UNFIT`."""
    training: list[Scene] = []
    held_out: list[Scene] = []
    for slice_ in read_slices(folder):
        if slice_.discs and slice_.name not in UNFIT:
            (held_out if is_held_out(slice_.patient) else training).append(spider_scene(slice_))
    return training, held_out
