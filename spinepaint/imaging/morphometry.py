"""Measures of one level from a segmentation: the sac, how far the disc reaches back, and how high it is.

A level is measured against lines of its own: that of the posterior corners of the two vertebral bodies beside the disc, and the
middle of its canal. They are found once, in the series before an edit, and serve after it too, so that an edit cannot move what
it is measured by. In-plane distances are fractions of a voxel: masks are sampled linearly, and their edge is at one half.
"""

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from spinepaint.imaging.crop import Vector
from spinepaint.imaging.morphometry_grid import (
    ASIDE_MM,
    BACK_MM,
    BACK_STEP_MM,
    CANAL,
    DOWN_MM,
    DOWN_STEP_MM,
    F64,
    MATERIAL_MM,
    VERTEBRAE,
    Frame,
    Labels,
    at_disc,
    between,
    corner_line,
    disc_at,
    last_edge,
    near_canal,
    sampled,
    unit,
)
from spinepaint.imaging.orient import Oriented
from spinepaint.imaging.severity import PROTRUSION_SCALE_MM
from spinepaint.imaging.vocabulary import Pathology

_CENTRAL_MM = 6.0  # of the canal's middle: the slices that show corners and end plates
_SAC_MM = 3.0  # the sac's depth is a mean over this to either side
_APEX_MM = 10.0  # as far aside as a herniation may have its apex, and half a slice
_APEX_ROWS = 4  # a protrusion is the mean of as many rows

# The canal's label holds the epidural fat, which no border tells from the sac; its part follows the canal's depth, and so does
# its area. Fitted on phantoms 940,000 to 940,029: sac = slope * canal + offset.
_SAC_SLOPE, _SAC_OFFSET_MM = 0.829, -0.885
_AREA_SLOPE, _AREA_OFFSET_MM2 = 0.704, -29.0


@dataclass(frozen=True)
class Morphometry:
    """Measures at a disc.

    canal_ap_mm: sagittal depth of the dural sac, least over the middle of the disc's height, mean over the middle 6 mm.
    csf_area_mm2: axial area of the sac, least over the same height.
    protrusion_mm: furthest disc material behind the line of the posterior vertebral corners; negative where none is behind it.
    canal_share: that as a share of the bony canal's depth, 0 where nothing protrudes.
    disc_height_mm: between end plates in the middle of the disc.
    """

    canal_ap_mm: float
    csf_area_mm2: float
    protrusion_mm: float
    canal_share: float
    disc_height_mm: float

    def as_dict(self) -> dict[str, float]:
        """Rounded for a report."""
        return {name: round(value, 2) for name, value in asdict(self).items()}


@dataclass(frozen=True)
class LevelLines:
    """Where and against what a level is measured.

    slices: (S,) those near the canal's middle, in order; aside_mm: (S,) how far to the left of it. rows, columns: (D, B)
    fractional indices of the grid DOWN_MM x BACK_MM about the disc. centre: the disc's, as a fractional voxel index; centre_mm:
    where on BACK_MM it lies; half_height_mm: of the disc at its rim; canal_mm: from the line to the flavum.
    """

    slices: NDArray[np.intp]
    aside_mm: F64
    rows: F64
    columns: F64
    centre: F64
    centre_mm: float
    half_height_mm: float
    canal_mm: float

    @classmethod
    def of(cls, view: Oriented, labels: Labels, centre: Vector, up: Vector) -> "LevelLines | None":
        """The lines of the disc at `centre` (patient LPS mm) where the spine runs along `up`.

        None where that disc, a body beside it or the canal behind it was not segmented.
        """
        index, spacing = np.array(view.to_index(centre)), np.array(view.spacing)
        disc = disc_at(labels, index, spacing)
        near = near_canal(labels, index, spacing)
        if disc is None or near is None:
            return None
        slices, aside = near
        down = -(view.affine[:3, :3] / spacing).T[1:] @ np.array(up)
        frame = Frame(slices[np.abs(aside) <= max(_CENTRAL_MM, np.abs(aside).min())], index[1:], unit(down), spacing[1:])
        rear = last_edge(frame.sample(disc)[:, np.abs(DOWN_MM) <= 1.5])
        if np.isnan(rear).all():
            return None
        frame = frame.moved(0.0, float(np.nanmedian(rear)), 0.0)
        half_height = 0.0
        for _ in range(2):  # the second time from where the first time's line runs
            found = corner_line(frame.sample(labels == VERTEBRAE), frame.sample(disc))
            if found is None:
                return None
            middle, offset, slope, half_height = found
            frame = frame.moved(middle, offset, slope)
        rear = last_edge(frame.sample(labels == CANAL)[:, at_disc(half_height)])
        if np.isnan(rear).all():
            return None
        centre_mm = float((index[1:] - frame.origin) * spacing[1:] @ frame.back)
        return cls(slices, aside, *frame.grid, index, centre_mm, half_height, float(np.nanmedian(rear)))

    def measure(self, view: Oriented, labels: Labels) -> Morphometry | None:
        """Measure a segmentation with the geometry that the lines are of; None where the disc is gone from it."""
        disc = disc_at(labels, self.centre, np.array(view.spacing))
        if disc is None:
            return None
        canal = sampled(labels == CANAL, self.slices, self.rows, self.columns)[:, at_disc(self.half_height_mm)]
        depth = canal[:, :, BACK_MM > -3.0].sum(axis=2) * BACK_STEP_MM
        sac = between(self.aside_mm, depth, np.linspace(-_SAC_MM, _SAC_MM, 7)).mean(axis=0).min()
        area = between(self.aside_mm, depth, np.arange(1 - ASIDE_MM, ASIDE_MM, 0.5)).sum(axis=0).min() * 0.5
        material = sampled(disc, self.slices, self.rows, self.columns)
        protrusion = self._protrusion(material)
        return Morphometry(
            canal_ap_mm=max(0.0, _SAC_SLOPE * float(sac) + _SAC_OFFSET_MM),
            csf_area_mm2=max(0.0, _AREA_SLOPE * float(area) + _AREA_OFFSET_MM2),
            protrusion_mm=protrusion,
            canal_share=max(0.0, protrusion) / self.canal_mm,
            disc_height_mm=self._height(material),
        )

    def _protrusion(self, material: F64) -> float:
        edges = last_edge(material[np.abs(self.aside_mm) <= _APEX_MM][:, np.abs(DOWN_MM) <= MATERIAL_MM])
        furthest = np.sort(np.where(np.isnan(edges), BACK_MM[0], edges), axis=1)[:, -_APEX_ROWS:]
        return float(furthest.mean(axis=1).max())

    def _height(self, material: F64) -> float:
        middle = np.abs(BACK_MM - max(self.centre_mm, BACK_MM[0] + 3.0)) <= 3.0
        rows = np.abs(DOWN_MM) <= MATERIAL_MM
        central = np.abs(self.aside_mm) <= max(_CENTRAL_MM, np.abs(self.aside_mm).min())
        return float(np.median(material[central][:, rows][:, :, middle].sum(axis=1)) * DOWN_STEP_MM)


def degree_of(pathology: Pathology, before: Morphometry, after: Morphometry) -> float:
    """The degree that was measured (see `imaging.severity`): a stenosis against the same level before the edit."""
    if pathology is Pathology.DISC_HERNIATION:
        return after.protrusion_mm / PROTRUSION_SCALE_MM
    return 1.0 - after.canal_ap_mm / max(before.canal_ap_mm, 1e-6)
