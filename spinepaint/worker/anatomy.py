"""Where things are in a series: its discs, and its structures where the bundle has a segmenter."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spinepaint.imaging.crop import Vector
from spinepaint.imaging.orient import orient
from spinepaint.imaging.vocabulary import Fsu
from spinepaint.imaging.volume import Volume
from spinepaint.models.bundle import Bundle
from spinepaint.models.localiser import localise
from spinepaint.models.segmentation import segment


@dataclass(frozen=True)
class Discs:
    """The discs that were found, by FSU: centre, posterior margin and canal in patient LPS mm.

    Levels outside the field of view are absent. labels: of the oriented series (slice, row, column), a structure's place in
    `STRUCTURES` + 1, where the bundle has a segmenter.
    """

    centres_lps_mm: dict[str, Vector]
    margins_lps_mm: dict[str, Vector]
    canals_lps_mm: dict[str, Vector]
    confidence: dict[str, float]
    warnings: tuple[str, ...]
    labels: NDArray[np.uint8] | None = None

    @property
    def levels(self) -> list[Fsu]:
        """Those that were found, cranial to caudal."""
        return [level for level in Fsu if level in self.centres_lps_mm]

    def up(self, fsu: Fsu) -> Vector:
        """Direction of the spine at a level, from the discs next to it; straight up where there are none."""
        place = self.levels.index(fsu)
        above, below = self.levels[max(place - 1, 0)], self.levels[min(place + 1, len(self.levels) - 1)]
        if above == below:
            return (0.0, 0.0, 1.0)
        return as_vector(np.subtract(self.centres_lps_mm[above], self.centres_lps_mm[below]))


def localise_discs(models: Bundle, volume: Volume) -> Discs:
    """Find and name the discs L1-L2 … L5-S1, and segment the series where the bundle can."""
    oriented = orient(volume)
    found = localise(models.localiser, oriented.voxels, oriented.spacing)

    segmenter = models.segmenter
    labels = None if segmenter is None else segment(segmenter, oriented.voxels, oriented.spacing, diffusion=False).labels

    def in_patient(points: Mapping[str, NDArray[np.float64]]) -> dict[str, Vector]:
        return {fsu: oriented.to_patient(as_vector(index)) for fsu, index in points.items()}

    return Discs(
        centres_lps_mm=in_patient(found.centres),
        margins_lps_mm=in_patient(found.margins),
        canals_lps_mm=in_patient(found.canals),
        confidence={fsu: round(float(value), 3) for fsu, value in found.confidence.items()},
        warnings=tuple(found.warnings),
        labels=labels,
    )


def as_vector(values: NDArray[np.float64]) -> Vector:
    """Three numbers as a point or a direction."""
    x, y, z = (float(value) for value in values)
    return x, y, z
