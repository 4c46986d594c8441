"""The pipeline's steps: each takes plain values, makes one call into `imaging` or `models`, and returns plain values."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from spinepaint.imaging.blending import noise_ratio, seam_ratio
from spinepaint.imaging.crop import Crop, Vector, cut
from spinepaint.imaging.errors import Refusal
from spinepaint.imaging.measures import LevelFrame, LevelMeasures
from spinepaint.imaging.orient import orient
from spinepaint.imaging.paste import Pasted, paste_blend, paste_difference, paste_mask
from spinepaint.imaging.vocabulary import Fsu, Pathology, condition_index, fsu_index
from spinepaint.imaging.volume import Volume
from spinepaint.models.bundle import Bundle, draw_degree, guidance_for
from spinepaint.models.inpaint import Decoded, Draw, inpaint
from spinepaint.models.intensity import IntensityRange
from spinepaint.models.landmarks import choose_landmark as landmark_index
from spinepaint.models.localiser import localise
from spinepaint.worker.spec import Spec


@dataclass(frozen=True)
class Discs:
    """The discs that were found, by FSU: centre, posterior margin and canal in patient LPS mm.

    Levels outside the field of view are absent.
    """

    centres_lps_mm: dict[str, Vector]
    margins_lps_mm: dict[str, Vector]
    canals_lps_mm: dict[str, Vector]
    confidence: dict[str, float]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Painted:
    """The decoded original and edit, (X, Y, Z) in the networks' range, and the grey values that the range stands for."""

    decoded: Decoded
    intensity: IntensityRange


@dataclass(frozen=True)
class Quality:
    """The level's measures before and after, whether they moved enough the way that was asked, and how the edit sits."""

    before: LevelMeasures | None
    after: LevelMeasures | None
    verified: bool
    noise_ratio: float
    seam_ratio: float

    @property
    def measurable(self) -> bool:
        """Whether the level could be measured at all."""
        return self.before is not None and self.after is not None


def localise_discs(models: Bundle, volume: Volume) -> Discs:
    """Find and name the discs L1-L2 … L5-S1."""
    oriented = orient(volume)
    found = localise(models.localiser, oriented.voxels, oriented.spacing)

    def in_patient(points: Mapping[str, NDArray[np.float64]]) -> dict[str, Vector]:
        return {fsu: oriented.to_patient(_vector(index)) for fsu, index in points.items()}

    return Discs(
        centres_lps_mm=in_patient(found.centres),
        margins_lps_mm=in_patient(found.margins),
        canals_lps_mm=in_patient(found.canals),
        confidence={fsu: round(float(value), 3) for fsu, value in found.confidence.items()},
        warnings=tuple(found.warnings),
    )


def choose_landmark(volume: Volume, discs: Discs, spec: Spec) -> Vector:
    """The caller's landmark, or one drawn where the pathology can be at that level.

    Raises Refusal `fsu-not-found` where the level is outside the field of view, and `landmark-outside`.
    """
    if spec.landmark_lps_mm is not None:
        _require_inside(volume, spec.landmark_lps_mm)
        return spec.landmark_lps_mm
    if spec.fsu not in discs.centres_lps_mm:
        seen = ", ".join(fsu for fsu in Fsu if fsu in discs.centres_lps_mm) or "none"
        raise Refusal(
            "fsu-not-found",
            f"{spec.fsu.value} was not found in the series.",
            f"Levels found: {seen}. Choose one of these, or give the landmark in patient LPS mm.",
        )
    oriented = orient(volume)
    index = landmark_index(
        oriented.voxels,
        oriented.spacing,
        centre=np.array(oriented.to_index(discs.centres_lps_mm[spec.fsu])),
        margin=np.array(oriented.to_index(discs.margins_lps_mm[spec.fsu])),
        canal=np.array(oriented.to_index(discs.canals_lps_mm[spec.fsu])),
        pathology=spec.pathology.value,
        rng=np.random.default_rng(spec.seed),
    )
    landmark = oriented.to_patient(_vector(index))
    _require_inside(volume, landmark)
    return landmark


def _vector(values: NDArray[np.float64]) -> Vector:
    x, y, z = (float(value) for value in values)
    return x, y, z


def _require_inside(volume: Volume, point: Vector) -> None:
    index = volume.to_index(np.array(point))
    if (index < -0.5).any() or (index > np.array(volume.voxels.shape) - 0.5).any():
        raise Refusal(
            "landmark-outside",
            "The landmark lies outside the series.",
            "It is in patient LPS millimetres: x to the left, y to the back, z to the head.",
        )


def cut_crop(models: Bundle, volume: Volume, landmark: Vector) -> Crop:
    """The FSU crop, centred on the landmark: so the whole edit lies inside it."""
    return cut(volume, landmark, models.config.crop.extent_mm, models.config.crop.grid)


def paint(models: Bundle, crop: Crop, landmark: Vector, spec: Spec, report: Callable[[float], None]) -> Painted:
    """Encode, noise by distance from the landmark, denoise, decode."""
    intensity = IntensityRange.of(crop.voxels)
    condition = condition_index(spec.pathology, spec.severity)
    draw = Draw(
        condition=condition,
        fsu=fsu_index(spec.fsu),
        landmark_mm=crop.to_corner_mm(landmark),
        sigma_mm=spec.sigma_mm,
        method=spec.method,
        solver=spec.solver,
        steps=spec.steps,
        guidance=guidance_for(models.config.sampling, condition),
        seed=spec.seed,
        degree=draw_degree(models.config.sampling, condition, spec.seed),
    )
    normalised = torch.from_numpy(np.ascontiguousarray(intensity.normalise(crop.voxels)))
    return Painted(inpaint(models.inpainter, normalised, draw, report), intensity)


def paste(models: Bundle, volume: Volume, crop: Crop, painted: Painted, landmark: Vector) -> Pasted:
    """Bring the edit back under the mask, by the bundle's way."""
    how = models.config.paste
    mask = paste_mask(volume, landmark, how.inner_mm, how.outer_mm)
    edit, original = painted.decoded.edit.numpy(), painted.decoded.original.numpy()
    if how.mode == "blend":
        return paste_blend(volume, crop, painted.intensity.restore(edit), mask)
    return paste_difference(volume, crop, painted.intensity.restore_difference(edit - original), mask)


def verify(volume: Volume, pasted: Pasted, discs: Discs, landmark: Vector, spec: Spec) -> Quality:
    """Measure the level before and after, and the noise and the border of the edit."""
    centre = discs.centres_lps_mm.get(spec.fsu)
    before = after = None
    if centre is not None:
        view = orient(volume)
        frame = LevelFrame.of(view, centre, _up(discs, spec.fsu), middle_x=landmark[0])
        if frame is not None:
            before = frame.measure(view)
            after = frame.measure(orient(volume.with_voxels(pasted.voxels)))
    part = _around(pasted.mask)
    images = (volume.voxels[part], pasted.voxels[part], pasted.mask[part])
    return Quality(before, after, _moved_as_asked(before, after, spec.pathology), noise_ratio(*images), seam_ratio(*images))


def _up(discs: Discs, fsu: Fsu) -> Vector:
    """Direction of the spine at a level, from the discs next to it; straight up where there are none."""
    levels = [level for level in Fsu if level in discs.centres_lps_mm]
    place = levels.index(fsu)
    above, below = levels[max(place - 1, 0)], levels[min(place + 1, len(levels) - 1)]
    if above == below:
        return (0.0, 0.0, 1.0)
    x, y, z = np.subtract(discs.centres_lps_mm[above], discs.centres_lps_mm[below])
    return float(x), float(y), float(z)


def _around(mask: NDArray[np.float32], margin: int = 12) -> tuple[slice, slice, slice]:
    """The box around an edit, with room for a ring outside it."""
    index = np.argwhere(mask > 0)
    low, high = np.maximum(index.min(0) - margin, 0), index.max(0) + margin + 1
    first, second, third = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return first, second, third


# The least change that is taken for the pathology: noise alone moves the measures by a few tenths of a millimetre.
LEAST_PROTRUSION_MM = 1.0
LEAST_NARROWING = 0.15


def _moved_as_asked(before: LevelMeasures | None, after: LevelMeasures | None, pathology: Pathology) -> bool:
    if before is None or after is None:
        return False
    if pathology is Pathology.DISC_HERNIATION:
        return after.protrusion_mm >= before.protrusion_mm + LEAST_PROTRUSION_MM
    return after.canal_ap_mm <= (1 - LEAST_NARROWING) * before.canal_ap_mm


def edited_box(changed: NDArray[np.bool_]) -> list[list[int]]:
    """First and last (slice, row, column) that changed; empty where nothing did."""
    if not changed.any():
        return []
    index = np.argwhere(changed)
    return [index.min(0).tolist(), index.max(0).tolist()]
