"""Measures of one level from grey values: depth of the CSF behind the disc, and how far the disc reaches back.

Grey values have no unit, so a level is measured against itself: the CSF and the posterior wall are found at the two
vertebral bodies next to the disc, and the same lines and thresholds serve before and after an edit. A segmentation
would measure better; this needs none.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from spinepaint.imaging.crop import Vector
from spinepaint.imaging.orient import Oriented

Array = NDArray[np.float64]

STEP_MM = 0.25
_REACH_MM = np.arange(4.0, 48.0, STEP_MM)
_LATERAL_MM = (-3.0, 0.0, 3.0)
_AT_DISC_MM = (-2.0, -1.0, 0.0, 1.0, 2.0)
_AT_BODY_MM = (12.0, 13.5, 15.0, 16.5)


@dataclass(frozen=True)
class LevelMeasures:
    """Measures at a disc, in mm.

    canal_ap_mm: antero-posterior depth of the bright CSF behind the disc, near the midline; 0 where none is left.
    protrusion_mm: how far the dark of the disc reaches behind the line of the posterior vertebral walls (negative: in front).
    """

    canal_ap_mm: float
    protrusion_mm: float

    def as_dict(self) -> dict[str, float]:
        """Rounded for a report."""
        return {"canal_ap_mm": round(self.canal_ap_mm, 2), "protrusion_mm": round(self.protrusion_mm, 2)}


@dataclass(frozen=True)
class LevelFrame:
    """Where and against what a level is measured; made from the untouched series.

    points: patient LPS mm (profile, v, 3) of antero-posterior profiles at the disc; front_mm, back_mm: borders of the
    CSF column along v, carried over from the neighbouring bodies; dark, bright: the grey values between which CSF is told.
    """

    points: Array
    front_mm: float
    back_mm: float
    dark: float
    bright: float

    @classmethod
    def of(cls, view: Oriented, centre: Vector, up: Vector, middle_x: float | None = None) -> "LevelFrame | None":
        """The frame of the disc at `centre` (LPS mm) where the spine runs along `up`; None where no CSF is found.

        `middle_x` is the canal's left-right position, the disc's own by default.
        """
        origin = np.array(centre if middle_x is None else (middle_x, centre[1], centre[2]))
        axis = np.array([0.0, up[1], up[2]])
        axis /= np.linalg.norm(axis)
        back = np.array([0.0, axis[2], -axis[1]])
        back *= np.sign(back[1]) or 1.0
        bodies = []
        for sense in (1.0, -1.0):
            points = _points(origin, axis, back, tuple(sense * u for u in _AT_BODY_MM))
            column = _csf_column(_sample(view, points).mean(0))
            if column is not None:
                bodies.append(column)
        if not bodies:
            return None
        front, rear, dark, bright = (float(np.mean(values)) for values in zip(*bodies, strict=True))
        return cls(_points(origin, axis, back, _AT_DISC_MM), front, rear, dark, bright)

    def measure(self, view: Oriented) -> LevelMeasures:
        """Measure a series with the source's geometry."""
        profile = _sample(view, self.points).mean(0)
        share = np.clip((profile - self.dark) / (self.bright - self.dark), 0.0, 1.0)
        within = (self.front_mm - 4.0 < _REACH_MM) & (self.back_mm + 2.0 > _REACH_MM)
        bright = within & (share > 0.5)
        if not bright.any():
            return LevelMeasures(0.0, self.back_mm - self.front_mm)
        first, last = np.flatnonzero(bright)[[0, -1]]
        # Between the borders roots are counted with the CSF around them only where they are not as dark as a disc.
        depth = float(np.clip(share[first : last + 1] * 2.0, 0.0, 1.0).sum() * STEP_MM)
        return LevelMeasures(depth, _crossing(share, int(first)) - self.front_mm)


def _points(origin: Array, axis: Array, back: Array, along_mm: tuple[float, ...]) -> Array:
    lateral = np.array([1.0, 0.0, 0.0])
    starts = np.array([origin + u * axis + x * lateral for u in along_mm for x in _LATERAL_MM])
    return starts[:, None, :] + _REACH_MM[:, None] * back


def _sample(view: Oriented, points: Array) -> Array:
    index = np.linalg.solve(view.affine[:3, :3], (points - view.affine[:3, 3]).reshape(-1, 3).T)
    values = ndimage.map_coordinates(view.voxels, index, order=1, mode="nearest")
    return np.asarray(values.reshape(points.shape[:2]), dtype=np.float64)


def _csf_column(profile: Array) -> tuple[float, float, float, float] | None:
    """Front and back of the CSF behind a vertebral body, and the dark and bright grey values around its front.

    The column is the brightest run that starts 8 to 30 mm behind the body's middle, at the half maximum over the dark
    line of cortex and ligament in front of it; deeper than 6 mm and at most 24.
    """
    search = np.abs(_REACH_MM - 21.0) <= 13.0
    smooth = ndimage.gaussian_filter1d(profile, 1.0 / STEP_MM / 2)
    peak = int(np.argmax(np.where(search, smooth, -np.inf)))
    before = smooth[max(0, peak - int(14 / STEP_MM)) : peak + 1]
    dark, bright = float(before.min()), float(np.percentile(smooth[max(0, peak - 12) : peak + 13], 75))
    if bright <= dark:
        return None
    share = (profile - dark) / (bright - dark)
    below_front = np.flatnonzero(share[:peak] < 0.5)
    below_back = np.flatnonzero(share[peak:] < 0.35)
    first = int(below_front[-1]) + 1 if below_front.size else 0
    last = peak + int(below_back[0]) if below_back.size else len(share) - 1
    front, rear = _crossing(share, first), float(_REACH_MM[last])
    return (front, rear, dark, bright) if 6.0 <= rear - front <= 24.0 else None


def _crossing(share: Array, first: int) -> float:
    """Where the share passes one half on the way up to sample `first`, between samples."""
    if first == 0 or share[first] <= share[first - 1]:
        return float(_REACH_MM[first])
    part = np.clip((0.5 - share[first - 1]) / (share[first] - share[first - 1]), 0.0, 1.0)
    return float(_REACH_MM[first - 1] + part * STEP_MM)
