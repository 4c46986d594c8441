"""The pipeline's steps: each takes plain values, makes one call into `imaging` or `models`, and returns plain values."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from spinepaint.imaging.crop import Crop, Vector, cut
from spinepaint.imaging.errors import Refusal
from spinepaint.imaging.orient import orient
from spinepaint.imaging.paste import Pasted, paste_blend, paste_difference, paste_mask
from spinepaint.imaging.vocabulary import Fsu, condition_index, fsu_index
from spinepaint.imaging.volume import Volume
from spinepaint.models.bundle import Bundle, draw_degree, guidance_for
from spinepaint.models.encoding import encoding_once as inpainter_encoding_once
from spinepaint.models.inpaint import Decoded, Draw, inpaint
from spinepaint.models.intensity import IntensityRange
from spinepaint.models.landmarks import choose_landmark as landmark_index
from spinepaint.worker.anatomy import Discs, as_vector, localise_discs
from spinepaint.worker.device import Sampler
from spinepaint.worker.spec import Spec
from spinepaint.worker.verify import verify

__all__ = [
    "Discs",
    "Painted",
    "choose_landmark",
    "cut_crop",
    "degree_of",
    "edited_box",
    "encoding_once",
    "localise_discs",
    "paint",
    "paste",
    "verify",
]

LEAST_CONFIDENCE = 0.1
"""Of a level that is painted at without a landmark of the caller's: noise gave a level of 0.07, real series give over 0.7."""


@dataclass(frozen=True)
class Painted:
    """The decoded original and edit, (X, Y, Z) in the networks' range, and the grey values that the range stands for."""

    decoded: Decoded
    intensity: IntensityRange


def choose_landmark(volume: Volume, discs: Discs, spec: Spec) -> Vector:
    """The caller's landmark, or one drawn where the pathology can be at that level.

    Raises Refusal `fsu-not-found` where the level is outside the field of view or hardly to be believed, and `landmark-outside`.
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
    if discs.confidence.get(spec.fsu, 1.0) < LEAST_CONFIDENCE:
        raise Refusal(
            "fsu-not-found",
            f"{spec.fsu.value} was not found with any confidence.",
            f"Its confidence is {discs.confidence[spec.fsu]}. If this is a lumbar spine, give the landmark in patient LPS mm.",
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
        labels=discs.labels,
    )
    landmark = oriented.to_patient(as_vector(index))
    _require_inside(volume, landmark)
    return landmark


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


def degree_of(models: Bundle, spec: Spec, correction: float = 0.0) -> float | None:
    """The degree to ask the network for: drawn within the bundle's range by the spec's seed, moved by `correction`, in [0, 1].

    None where the bundle's network does not know degrees.
    """
    drawn = draw_degree(models.config.sampling, condition_index(spec.pathology, spec.severity), spec.seed)
    return None if drawn is None else min(max(drawn + correction, 0.0), 1.0)


def paint(
    models: Bundle,
    crop: Crop,
    landmark: Vector,
    spec: Spec,
    degree: float | None,
    report: Callable[[float], None],
    sample: Sampler = inpaint,
) -> Painted:
    """Encode, noise by distance from the landmark, denoise, decode: alone, or by `sample` beside others."""
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
        degree=degree,
    )
    normalised = torch.from_numpy(np.ascontiguousarray(intensity.normalise(crop.voxels)))
    return Painted(sample(models.inpainter, normalised, draw, report), intensity)


def encoding_once(models: Bundle) -> Bundle:
    """The bundle for several attempts at one crop, which it encodes once."""
    return replace(models, inpainter=inpainter_encoding_once(models.inpainter))


def paste(models: Bundle, volume: Volume, crop: Crop, painted: Painted, landmark: Vector) -> Pasted:
    """Bring the edit back under the mask, by the bundle's way."""
    how = models.config.paste
    mask = paste_mask(volume, landmark, how.inner_mm, how.outer_mm)
    edit, original = painted.decoded.edit.numpy(), painted.decoded.original.numpy()
    if how.mode == "blend":
        return paste_blend(volume, crop, painted.intensity.restore(edit), mask)
    return paste_difference(volume, crop, painted.intensity.restore_difference(edit - original), mask)


def edited_box(changed: NDArray[np.bool_]) -> list[list[int]]:
    """First and last (slice, row, column) that changed; empty where nothing did."""
    if not changed.any():
        return []
    index = np.argwhere(changed)
    return [index.min(0).tolist(), index.max(0).tolist()]
