"""How severe a lesion looks at one level by grey values alone: what changed there, against the same level before the edit.

The stand-in for `imaging.morphometry` where there is no segmenter. A localiser's points say where the disc ends and where the
sac is; the level's own annulus and CSF, before the edit, are the scale of its grey values.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, map_coordinates

from spinepaint.imaging.crop import Vector
from spinepaint.imaging.orient import Oriented
from spinepaint.imaging.vocabulary import Pathology

F64 = NDArray[np.float64]

# The grid about the posterior disc margin: mm to the left, down and back.
_LEFT_MM = np.arange(-3.0, 3.01, 1.0)
_DOWN_MM = np.arange(-6.0, 6.01, 0.5)
_BACK_MM = np.arange(-6.0, 30.01, 0.25)
_EDGE = 0.55  # between annulus and CSF: the disc material's edge
_DEEPEST_MM = 14.0  # of an edge
_BRIGHTEST = 1.2  # of what counts as CSF, as a share of it

# Fitted on phantoms 940,000 to 940,039 with points 1.5 mm off in both directions: how far the edge moved back, in mm, against a
# herniation's degree (0.08 is a healthy bulge), and the share of the sac's brightness that is lost against a stenosis's.
_HERNIATION = ((0.0, 0.7, 8.0), (0.08, 0.27, 0.9))
_STENOSIS = ((0.0, 0.15, 1.0), (0.0, 0.285, 1.0))


@dataclass(frozen=True)
class GreyLevel:
    """One level of the untouched series, and the scale that it gives.

    points: patient LPS mm (left, down, back, 3); before: its grey values, 0 as the annulus and 1 as the CSF; dark, contrast: of
    that scale; sac_mm: how far behind the margin the sac's middle lies.
    """

    points: F64
    before: F64
    dark: float
    contrast: float
    sac_mm: float

    @classmethod
    def of(cls, view: Oriented, centre: Vector, margin: Vector, canal: Vector, middle_x: float) -> "GreyLevel | None":
        """The level with that disc centre, posterior margin and canal (patient LPS mm), measured about `middle_x`.

        None where its CSF is no brighter than its annulus.
        """
        back = np.array([0.0, canal[1] - centre[1], canal[2] - centre[2]])
        back /= np.linalg.norm(back)
        down = np.array([0.0, back[2], -back[1]])
        start = np.array([middle_x, margin[1], margin[2]])
        sideways = _LEFT_MM[:, None, None, None] * np.array([1.0, 0.0, 0.0])
        points = start + sideways + _DOWN_MM[:, None, None] * down + _BACK_MM[:, None] * back
        grey = _sample(view, points)
        sac_mm = float((np.array(canal) - np.array(margin)) @ back)
        level = grey[:, np.abs(_DOWN_MM) <= 3.0]
        dark = float(np.percentile(level[:, :, (_BACK_MM > -4.0) & (_BACK_MM < -0.5)], 20))
        bright = float(np.percentile(level[:, :, np.abs(_BACK_MM - sac_mm) < 3.0], 80))
        if bright <= dark:
            return None
        return cls(points, (grey - dark) / (bright - dark), dark, bright - dark, sac_mm)

    def degree(self, view: Oriented, pathology: Pathology) -> float:
        """The degree (see `imaging.severity`) of what is seen in a series with the source's geometry."""
        after = (_sample(view, self.points) - self.dark) / self.contrast
        if pathology is Pathology.DISC_HERNIATION:
            moved = np.percentile(_edges(after) - _edges(self.before), 95)
            return float(np.interp(moved, *_HERNIATION))
        return float(np.interp(self._lost(after), *_STENOSIS))

    def _lost(self, after: F64) -> float:
        """The share of the sac's brightness at the disc that an edit took, the fat behind it included in what it took."""
        rows = np.abs(_DOWN_MM) <= 2.0
        behind = _BACK_MM > -0.5
        sums = []
        for grey, end_mm in ((self.before, 2.0), (after, 2.0), (self.before, 0.0)):
            level = np.clip(gaussian_filter1d(grey, 2.0, axis=1), 0.0, _BRIGHTEST)[:, rows]
            sums.append(float(level[:, :, behind & (2 * self.sac_mm + end_mm > _BACK_MM)].sum()))
        return (sums[0] - sums[1]) / max(sums[2], 1e-6)


def _edges(grey: F64) -> F64:
    """(left, down): mm behind the margin at which each row of the middle 4 mm first becomes bright."""
    rows = gaussian_filter1d(grey, 1.0, axis=1)[np.abs(_LEFT_MM) <= 2.0][:, :, _BACK_MM >= -3.0]
    at = _BACK_MM[_BACK_MM >= -3.0]
    bright = rows > _EDGE
    first = np.where(bright.any(axis=2), bright.argmax(axis=2), len(at) - 1)
    after, before = (np.take_along_axis(rows, np.maximum(first - k, 0)[..., None], 2)[..., 0] for k in (0, 1))
    part = np.clip((after - _EDGE) / np.maximum(after - before, 1e-3), 0.0, 1.0)
    edges: F64 = np.minimum(at[first] - part * (at[1] - at[0]), _DEEPEST_MM)
    return edges


def _sample(view: Oriented, points: F64) -> F64:
    index = np.linalg.solve(view.affine[:3, :3], (points - view.affine[:3, 3]).reshape(-1, 3).T)
    values = map_coordinates(view.voxels, index, order=1, mode="nearest")
    return np.asarray(values.reshape(points.shape[:-1]), dtype=np.float64)
