"""Chooses where in a functional spinal unit a pathology is painted.

The localiser's points are within two or three millimetres; the image says the rest: behind a disc the
dark annulus ends at a bright edge, and the bright dural sac ends at a dark one. Where no such edge is
seen the localiser's point stands. Where there is a segmentation, it is asked before the image is, and no
point lies in bone. Points are fractional voxel indices (slice, row, column).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from spinepaint.models.segmentation import STRUCTURES

Point = NDArray[np.float64]
Labels = NDArray[np.uint8]

PARACENTRAL_MM = 5.0  # herniations are drawn this far to either side of the midline
_STEP_MM = 0.25
_MINIMAL_CONTRAST = 0.12  # of an edge, as a share of the profile's own range of grey values
_BONE, _DISC, _CANAL = (STRUCTURES.index(name) + 1 for name in ("vertebrae", "discs", "canal"))
_SAC_MIDDLE = 0.44  # of the canal's depth: there is more fat behind the sac than before it
_OUT_OF_BONE_MM = 10.0  # as far back as a point is moved


@dataclass(frozen=True)
class DiscFrame:
    """A straight frame in one sagittal plane: origin at the localiser's margin point, mm backward and mm downward.

    Attributes
    ----------
    origin: the margin point, in voxel indices.
    backward, downward: unit steps of 1 mm as (row, column) index differences, along the disc and across it.
    """

    origin: Point
    backward: Point
    downward: Point

    @classmethod
    def of(cls, centre: Point, margin: Point, spacing_mm: tuple[float, float, float]) -> "DiscFrame":
        """The frame along the line from a disc's centre to its posterior margin.

        Straight back where the two points coincide.
        """
        in_plane = np.array(spacing_mm[1:])
        axis = (np.asarray(margin)[1:] - np.asarray(centre)[1:]) * in_plane
        length = float(np.linalg.norm(axis))
        axis = axis / length if length > 1.0 else np.array([0.0, 1.0])
        across = np.array([axis[1], -axis[0]])
        return cls(np.asarray(margin, dtype=np.float64), axis / in_plane, across / in_plane)

    def at(self, back_mm: float, down_mm: float = 0.0, place: float | None = None) -> Point:
        """The point this far behind and below the margin, in the plane of slice `place` (by default the margin's)."""
        r, c = self.origin[1:] + back_mm * self.backward + down_mm * self.downward
        return np.array([self.origin[0] if place is None else place, r, c])

    def sample(self, voxels: NDArray[np.float32], back_mm: Point, down_mm: Point, place: float) -> NDArray[np.float64]:
        """Grey values (down, back) on a grid of this frame, linear within and between slices."""
        v, u = np.meshgrid(back_mm, down_mm)
        rows = self.origin[1] + v * self.backward[0] + u * self.downward[0]
        columns = self.origin[2] + v * self.backward[1] + u * self.downward[1]
        where = [np.full(rows.shape, place), rows, columns]
        return np.asarray(map_coordinates(voxels, where, order=1, mode="nearest"), dtype=np.float64)


def choose_landmark(
    voxels: NDArray[np.float32],
    spacing_mm: tuple[float, float, float],
    centre: Point,
    margin: Point,
    canal: Point,
    pathology: str,
    rng: np.random.Generator,
    labels: Labels | None = None,
) -> Point:
    """The point to paint at, refined on the segmentation or on the image, in voxel indices.

    Parameters
    ----------
    voxels: (slice, row, column), rows head to foot, columns front to back.
    spacing_mm: along (slice, row, column).
    centre, margin, canal: the localiser's disc centre, posterior margin and canal centre of the FSU.
    pathology: `disc_herniation`: on the posterior disc margin, up to `PARACENTRAL_MM` beside the midline,
        drawn from `rng`; `central_canal_stenosis`: the middle of the dural sac at disc height.
    labels: as `voxels`, a structure's place in `STRUCTURES` + 1; None where nothing was segmented.

    Raises ValueError for any other pathology.
    """
    frame = DiscFrame.of(centre, margin, spacing_mm)
    last = voxels.shape[0] - 1
    if pathology == "disc_herniation":
        place = float(np.clip(margin[0] + rng.uniform(-PARACENTRAL_MM, PARACENTRAL_MM) / spacing_mm[0], 0, last))
        segmented = None if labels is None else segmented_margin(labels, frame, place)
        point = posterior_margin(voxels, frame, place) if segmented is None else segmented
    elif pathology == "central_canal_stenosis":
        place = float(np.clip(canal[0], 0, last))
        expected = float((np.asarray(canal)[1:] - frame.origin[1:]) @ (frame.backward * np.square(spacing_mm[1:])))
        segmented = None if labels is None else segmented_sac(labels, frame, place)
        point = sac_centre(voxels, frame, place, expected) if segmented is None else segmented
    else:
        raise ValueError(f"no rule for where {pathology!r} can be")
    point = np.clip(point, 0.0, np.array(voxels.shape, dtype=np.float64) - 1)
    return point if labels is None else _out_of_bone(labels, frame, point)


def _edge(profile: NDArray[np.float64], at_mm: Point, expected_mm: float, tolerance_mm: float, rising: bool) -> float | None:
    """Where `profile` rises (or falls) most from 2 mm before to 2 mm after, near `expected_mm`; None if it hardly does."""
    width = round(2.0 / _STEP_MM)
    sums = np.concatenate([[0.0], np.cumsum(profile)])
    means = (sums[width:] - sums[:-width]) / width
    change = (means[width:] - means[:-width]) * (1 if rising else -1)
    middle = at_mm[width : width + change.size] - 0.5 * _STEP_MM
    change = change / (float(np.ptp(profile)) + 1e-6)
    worth = change * np.exp(-0.5 * ((middle - expected_mm) / tolerance_mm) ** 2)
    best = int(worth.argmax())
    return float(middle[best]) if change[best] > _MINIMAL_CONTRAST and worth[best] > 0 else None


def _profile(voxels: NDArray[np.float32], frame: DiscFrame, place: float, back_mm: Point) -> NDArray[np.float64]:
    """Mean grey value at each distance behind the margin, over 3 mm of disc height."""
    return np.asarray(frame.sample(voxels, back_mm, np.arange(-1.5, 1.75, 0.5), place).mean(axis=0))


def posterior_margin(voxels: NDArray[np.float32], frame: DiscFrame, place: float) -> Point:
    """The posterior disc margin in the plane of slice `place`: the dark annulus' bright edge near the localiser's."""
    back = np.arange(-7.0, 7.0 + _STEP_MM / 2, _STEP_MM)
    edge = _edge(_profile(voxels, frame, place, back), back, 0.0, 2.0, rising=True)
    return frame.at(0.0 if edge is None else edge, place=place)


def sac_centre(voxels: NDArray[np.float32], frame: DiscFrame, place: float, expected_mm: float) -> Point:
    """The middle of the sac at disc height in the plane of slice `place`.

    `expected_mm` is how far behind the margin the localiser puts it: that and the middle between the sac's front and back
    edges count equally, since neither tells sac from epidural fat for certain. Where an edge is missing the localiser's stands.
    """
    back = np.arange(-7.0, 30.0 + _STEP_MM / 2, _STEP_MM)
    profile = _profile(voxels, frame, place, back)
    ahead, behind = back <= 7.0 + _STEP_MM / 2, back >= max(expected_mm, 3.0)
    front = _edge(profile[ahead], back[ahead], 0.0, 2.0, rising=True)
    rear = _edge(profile[behind], back[behind], expected_mm + 6.5, 3.5, rising=False)
    if front is None or rear is None:
        return frame.at(expected_mm, place=place)
    seen = float(np.clip(0.5 * (front + rear), expected_mm - 4.0, expected_mm + 4.0))
    return frame.at(0.5 * (seen + expected_mm), place=place)


def segmented_margin(labels: Labels, frame: DiscFrame, place: float) -> Point | None:
    """Where the segmented disc ends behind in the plane of slice `place`; None where it has no end near the localiser's."""
    back = np.arange(-7.0, 7.0 + _STEP_MM / 2, _STEP_MM)
    ends = np.flatnonzero(np.diff((_profile((labels == _DISC).astype(np.float32), frame, place, back) >= 0.5).astype(int)) == -1)
    return None if ends.size == 0 else frame.at(float(back[ends[-1]] + 0.5 * _STEP_MM), place=place)


def segmented_sac(labels: Labels, frame: DiscFrame, place: float) -> Point | None:
    """The middle of the sac in the segmented canal at disc height in the plane of slice `place`; None where there is none."""
    back = np.arange(-7.0, 30.0 + _STEP_MM / 2, _STEP_MM)
    within = back[_profile((labels == _CANAL).astype(np.float32), frame, place, back) >= 0.5]
    if within.size == 0:
        return None
    return frame.at(float(within[0] + _SAC_MIDDLE * (within[-1] - within[0])), place=place)


def _out_of_bone(labels: Labels, frame: DiscFrame, point: Point) -> Point:
    """The first point from here straight back that is not in a vertebra; this one where there is none within reach."""
    last = np.array(labels.shape) - 1
    for step in np.arange(0.0, _OUT_OF_BONE_MM + _STEP_MM, _STEP_MM):
        moved: Point = np.clip(point + np.array([0.0, *(step * frame.backward)]), 0.0, last)
        if labels[tuple(np.rint(moved).astype(int))] != _BONE:
            return moved
    return point
