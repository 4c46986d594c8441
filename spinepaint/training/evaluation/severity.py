"""How severe a lesion looks at one level of a phantom, measured with everything that is known of that phantom.

A phantom's healthy twin says where the sac lies and how bright CSF and annulus are there, so an edit of it can be graded far
more surely than a patient's image. The definitions are those of `docs/2-definitions.md`, the classes' borders those of
`imaging.severity`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, map_coordinates

from spinepaint.imaging.crop import Vector
from spinepaint.imaging.vocabulary import Fsu, Pathology
from spinepaint.training.phantom import FSU_UPPER, Phantom
from spinepaint.training.phantom.anatomy import sample_anatomy
from spinepaint.training.phantom.canal import CanalSurfaces, canal_surfaces

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

# The grid that a level is measured on, mm to the left, down and back from the posterior disc margin in the middle.
LEFT_MM = np.arange(-10.0, 10.01, 1.0)
DOWN_MM = np.arange(-10.0, 10.01, 0.5)
BACK_MM = np.arange(-6.0, 30.01, 0.25)
_STEP_MM = 0.25

_DISC_EDGE = 0.55  # between annulus and CSF: the disc material's edge
_SAC_EDGE = 0.4  # lower, since roots are grey
# Blur and thick slices flatten a bump: true protrusion against measured edge, fitted on phantoms 930,000 to 930,039.
_SLOPE, _OFFSET_MM = 1.14, -0.92


@dataclass(frozen=True)
class LevelGrid:
    """Where one level of a phantom lies: the margin's middle (patient LPS mm) and unit vectors left, down and back."""

    origin: F64
    left: F64
    down: F64
    back: F64
    disc_height_mm: float
    surfaces: CanalSurfaces

    @classmethod
    def of(cls, phantom: Phantom, fsu: Fsu) -> "LevelGrid":
        """The same for a phantom and its healthy twin. Raises KeyError for a level outside the field of view."""
        anatomy, level = sample_anatomy(phantom.seed), FSU_UPPER[fsu]
        centre = np.array(phantom.disc_centres_lps_mm[fsu])
        back = _unit(np.array(phantom.candidate_landmarks_lps_mm[fsu, Pathology.CENTRAL_CANAL_STENOSIS]) - centre)
        left = _unit(-phantom.affine[:3, 0])
        down = np.cross(back, left)
        down = down if down[2] < 0 else -down
        x = np.broadcast_to(LEFT_MM[:, None], (LEFT_MM.size, DOWN_MM.size))
        surfaces = canal_surfaces(anatomy, (), x, anatomy.disc_s[level] + DOWN_MM)
        margin = centre + 0.5 * anatomy.plate_depth[level] * back
        return cls(margin, left, down, back, float(anatomy.disc_height[level]), surfaces)

    def point(self, left_mm: float = 0.0, down_mm: float = 0.0, back_mm: float = 0.0) -> Vector:
        """A point by its offsets from the margin's middle, in patient LPS mm."""
        x, y, z = self.origin + left_mm * self.left + down_mm * self.down + back_mm * self.back
        return float(x), float(y), float(z)

    def left_of(self, point_lps_mm: Vector) -> float:
        """How far to the left of the middle a point lies, in mm."""
        return float((np.array(point_lps_mm) - self.origin) @ self.left)

    def sample(self, voxels: F32, affine: F64) -> F64:
        """Grey values on the grid (left, down, back), linear."""
        across = LEFT_MM[:, None, None, None] * self.left + DOWN_MM[:, None, None] * self.down
        points = self.origin + across + BACK_MM[:, None] * self.back
        inverse = np.linalg.inv(affine)
        index = np.moveaxis(points @ inverse[:3, :3].T + inverse[:3, 3], -1, 0)
        return np.asarray(map_coordinates(voxels, index, order=1, mode="nearest"), dtype=np.float64)


class Grader:
    """Measures one level of a volume against the healthy twin that it was made from."""

    def __init__(self, healthy: Phantom, fsu: Fsu) -> None:
        self.grid, self.affine = LevelGrid.of(healthy, fsu), healthy.affine
        self._well = self.grid.sample(healthy.voxels, healthy.affine)
        s = self.grid.surfaces
        self._front, self._back, self._rear = (edge[:, :, None] for edge in (s.front, s.back, s.rear))
        deep = (self._front + 1 < BACK_MM) & (self._back - 1 > BACK_MM) & (np.abs(LEFT_MM) <= 4)[:, None, None]
        rim = (BACK_MM > -4) & (BACK_MM < -0.5) & (np.abs(LEFT_MM) <= 6)[:, None, None]
        rim = rim & (np.abs(DOWN_MM) <= max(1.0, 0.3 * self.grid.disc_height_mm))[:, None]
        self._dark = float(np.percentile(self._well[rim], 20))
        self._contrast = max(float(np.percentile(self._well[deep], 80)) - self._dark, 1e-6)

    def degree(self, voxels: F32, pathology: Pathology, landmark_lps_mm: Vector) -> float:
        """The degree of what is seen, 0 to about 1: protrusion over 10 mm, or the share of the sac's depth that is lost."""
        if pathology is Pathology.DISC_HERNIATION:
            return self.protrusion_mm(voxels, self.grid.left_of(landmark_lps_mm)) / 10.0
        return 1.0 - self.sac_ratio(voxels)

    def protrusion_mm(self, voxels: F32, left_mm: float) -> float:
        """How far the edge of disc material lies behind the line of the vertebral corners, at most, within 2 mm of `left_mm`."""
        columns = np.abs(LEFT_MM - np.clip(left_mm, -8.0, 8.0)) <= 2
        rows = np.abs(DOWN_MM) <= max(3.0, 0.5 * self.grid.disc_height_mm + 1.0)
        level = gaussian_filter1d(self._relative(voxels), 1.0, axis=1)[columns][:, rows][:, :, BACK_MM >= 0.0]
        bright = level > _DISC_EDGE
        first = np.where(bright.any(axis=2), bright.argmax(axis=2), level.shape[2] - 1)
        after, before = (np.take_along_axis(level, np.maximum(first - k, 0)[..., None], 2)[..., 0] for k in (0, 1))
        part = np.clip((after - _DISC_EDGE) / np.maximum(after - before, 1e-3), 0.0, 1.0)
        edge = np.minimum(_STEP_MM * np.maximum(first - part, 0.0), self._back[columns][:, rows, 0])
        return float(_SLOPE * np.percentile(edge, 95) + _OFFSET_MM)

    def sac_ratio(self, voxels: F32) -> float:
        """What is left of the sac's depth in the middle 6 mm at the disc: the mean of what depth and brightness say.

        Depth: of the bright run up to the flavum, against the twin's. Brightness: its sum there, with the sac's and the
        epidural fat's parts known from the twin (a stenosis that takes all of the sac takes 0.8 of the fat behind it).
        """
        rows = np.abs(DOWN_MM) <= max(1.0, 0.25 * self.grid.disc_height_mm)
        columns = np.abs(LEFT_MM) <= 3
        front, back, rear = (edge[columns][:, rows] for edge in (self._front, self._back, self._rear))
        depths, sums = [], []
        canal = (BACK_MM > -0.5) & (rear > BACK_MM)
        for level in (self._relative(voxels), (self._well - self._dark) / self._contrast):
            smooth = gaussian_filter1d(level, 2.0, axis=1)[columns][:, rows]
            depths.append(float(((smooth > _SAC_EDGE) & (BACK_MM > -0.5) & (rear + 0.5 > BACK_MM)).sum()))
            sums.append(np.clip(level[columns][:, rows], -0.2, 1.6))
        after, before = float((sums[0] * canal).sum()), float((sums[1] * canal).sum())
        sac = float((sums[1] * ((front < BACK_MM) & (back > BACK_MM))).sum())
        fat = float((sums[1] * ((back < BACK_MM) & canal)).sum())
        bright = 1.0 - (before - after) / max(sac + 0.8 * fat, 1e-6)
        return 0.5 * (depths[0] / max(depths[1], 1.0) + bright)

    def _relative(self, voxels: F32) -> F64:
        """Grey values on the grid, 0 as the twin's annulus and 1 as its CSF."""
        return (self.grid.sample(voxels, self.affine) - self._dark) / self._contrast


def _unit(vector: F64) -> F64:
    return vector / np.linalg.norm(vector)
