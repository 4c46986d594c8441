"""Whether an edit shows what was asked: the level is measured before and after, by the segmentation where there is one."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from spinepaint.imaging.blending import noise_ratio, seam_ratio
from spinepaint.imaging.crop import Vector
from spinepaint.imaging.grading import GreyLevel
from spinepaint.imaging.measures import LevelFrame, LevelMeasures
from spinepaint.imaging.morphometry import LevelLines, Morphometry, degree_of
from spinepaint.imaging.morphometry_grid import Labels
from spinepaint.imaging.orient import Oriented, orient
from spinepaint.imaging.paste import Pasted
from spinepaint.imaging.severity import middle_of, severity_of
from spinepaint.imaging.vocabulary import Fsu, Pathology, Severity
from spinepaint.imaging.volume import Volume
from spinepaint.models.bundle import Bundle
from spinepaint.models.segmentation import segment
from spinepaint.worker.anatomy import Discs
from spinepaint.worker.spec import Spec


class MeasuredBy(StrEnum):
    """What a level was measured by."""

    SEGMENTATION = "segmentation"
    GREY_VALUES = "grey_values"


Measures = LevelMeasures | Morphometry


@dataclass(frozen=True)
class Quality:
    """What was measured of one edit.

    before, after: the level's measures; None where it cannot be measured. degree: of what is seen afterwards
    (`imaging.severity`), None likewise. asked, found: severities; found is None for no lesion. off_middle: of the degree
    from the middle of the asked severity. elsewhere: by how many mm the
    other levels changed, by FSU and measure. noise_ratio, seam_ratio: how the edit sits (`imaging.blending`).
    """

    measured_by: MeasuredBy
    before: Measures | None
    after: Measures | None
    degree: float | None
    asked: Severity
    found: Severity | None
    off_middle: float
    elsewhere: Mapping[str, Mapping[str, float]]
    noise_ratio: float
    seam_ratio: float

    @property
    def measurable(self) -> bool:
        """Whether attempts can be judged: the level was measured before the edit, or its degree after it."""
        return self.before is not None or self.degree is not None

    @property
    def verified(self) -> bool:
        """Whether the severity that was found is the one that was asked."""
        return self.found is self.asked


class Judge(Protocol):
    """Measures levels that were found, before and after an edit."""

    @property
    def measured_by(self) -> MeasuredBy:
        """What it measures by."""

    def measure(self, fsu: Fsu) -> tuple[Measures | None, Measures | None]:
        """A level's measures before and after; None where there are none."""

    def degree(self, fsu: Fsu, pathology: Pathology) -> float | None:
        """The degree that is seen afterwards; None where it cannot be told."""


@dataclass(frozen=True)
class Structures:
    """By labels (slice, row, column) of the oriented series, before and after."""

    view: Oriented
    labels: tuple[Labels, Labels]
    discs: Discs
    measured_by: MeasuredBy = MeasuredBy.SEGMENTATION

    def measure(self, fsu: Fsu) -> tuple[Morphometry | None, Morphometry | None]:
        """See `Judge`."""
        lines = LevelLines.of(self.view, self.labels[0], self.discs.centres_lps_mm[fsu], self.discs.up(fsu))
        before, after = self.labels
        return (None, None) if lines is None else (lines.measure(self.view, before), lines.measure(self.view, after))

    def degree(self, fsu: Fsu, pathology: Pathology) -> float | None:
        """See `Judge`."""
        before, after = self.measure(fsu)
        return None if before is None or after is None else degree_of(pathology, before, after)


@dataclass(frozen=True)
class Greys:
    """By grey values about a landmark (patient LPS mm), before and after."""

    views: tuple[Oriented, Oriented]
    discs: Discs
    landmark: Vector
    measured_by: MeasuredBy = MeasuredBy.GREY_VALUES

    def measure(self, fsu: Fsu) -> tuple[LevelMeasures | None, LevelMeasures | None]:
        """See `Judge`."""
        before, after = self.views
        frame = LevelFrame.of(before, self.discs.centres_lps_mm[fsu], self.discs.up(fsu), middle_x=self.landmark[0])
        return (None, None) if frame is None else (frame.measure(before), frame.measure(after))

    def degree(self, fsu: Fsu, pathology: Pathology) -> float | None:
        """See `Judge`."""
        before, after = self.views
        centre, margin, canal = (
            known[fsu] for known in (self.discs.centres_lps_mm, self.discs.margins_lps_mm, self.discs.canals_lps_mm)
        )
        level = GreyLevel.of(before, centre, margin, canal, middle_x=self.landmark[0])
        return None if level is None else level.degree(after, pathology)


def verify(models: Bundle, volume: Volume, pasted: Pasted, discs: Discs, landmark: Vector, spec: Spec) -> Quality:
    """Measure every level before and after, and the noise and the border of the edit."""
    views = orient(volume), orient(volume.with_voxels(pasted.voxels))
    judge: Judge = Greys(views, discs, landmark)
    if models.segmenter is not None and discs.labels is not None:
        after = segment(models.segmenter, views[1].voxels, views[1].spacing, diffusion=False).labels
        judge = Structures(views[0], (discs.labels, after), discs)
    pairs = {fsu: judge.measure(fsu) for fsu in discs.levels}
    measured = pairs.get(spec.fsu, (None, None))
    degree = judge.degree(spec.fsu, spec.pathology) if spec.fsu in pairs else None
    part = _around(pasted.mask)
    images = (volume.voxels[part], pasted.voxels[part], pasted.mask[part])
    return Quality(
        measured_by=judge.measured_by,
        before=measured[0],
        after=measured[1],
        degree=degree,
        asked=spec.severity,
        found=None if degree is None else severity_of(spec.pathology, degree),
        off_middle=math.inf if degree is None else abs(degree - middle_of(spec.pathology, spec.severity)),
        elsewhere={
            fsu.value: _change(before, after)
            for fsu, (before, after) in pairs.items()
            if fsu is not spec.fsu and before is not None and after is not None
        },
        noise_ratio=noise_ratio(*images),
        seam_ratio=seam_ratio(*images),
    )


def _change(before: Measures, after: Measures) -> dict[str, float]:
    then, now = before.as_dict(), after.as_dict()
    return {name: round(now[name] - then[name], 2) for name in ("canal_ap_mm", "protrusion_mm")}


def _around(mask: NDArray[np.float32], margin: int = 12) -> tuple[slice, slice, slice]:
    """The box around an edit, with room for a ring outside it."""
    index = np.argwhere(mask > 0)
    low, high = np.maximum(index.min(0) - margin, 0), index.max(0) + margin + 1
    first, second, third = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return first, second, third
