"""Sampled anatomy: how large each vertebra and disc is, how the spine bends, how wide the canal runs.

Sizes in mm follow the ranges of lumbar morphometry that radiology textbooks give (body about 45 wide, 33
deep and 27 high; disc 7-12 high; dural sac 10-17 deep); every one is drawn anew from the seed.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from spinepaint.training.phantom.tissues import L1, L3, L5, S1, S2, S3, VERTEBRAE

Array = NDArray[np.float64]

# One entry for each of VERTEBRAE: height of the body; height of the disc under it at the posterior wall; angle in
# degrees between it and the next (lordosis positive); depth and width of the end plates beside the disc under it.
BODY_HEIGHT = np.array([20.5, 21.0, 22.0, 23.5, 25.0, 26.0, 27.0, 27.5, 27.5, 27.5, 27.0, 21.0, 17.0, 15.0])
DISC_HEIGHT = np.array([3.6, 3.8, 4.2, 4.6, 5.0, 5.8, 6.6, 7.2, 7.4, 6.2, 2.4, 1.4, 1.0, 1.0])
ANGLE_DEG = np.array([-4.0, -4.0, -3.0, -1.0, 1.0, 4.0, 6.5, 9.0, 13.0, 18.0, -12.0, -17.0, -15.0, -12.0])
PLATE_DEPTH = np.array([28.0, 29.0, 30.0, 31.0, 32.0, 33.0, 34.0, 34.5, 34.5, 33.5, 24.0, 17.0, 12.5, 10.0])
PLATE_WIDTH = np.array([32.0, 34.0, 36.0, 39.0, 42.0, 44.0, 46.0, 48.0, 50.0, 52.0, 47.0, 42.0, 36.0, 30.0])
SAC_SHAPE = np.array([0.98, 0.98, 0.98, 1.0, 1.05, 1.08, 1.05, 1.0, 0.97, 0.88, 0.7, 0.45, 0.3, 0.3])
SAC_GAP = np.array([1.8, 1.8, 1.8, 1.8, 1.9, 1.9, 2.0, 2.1, 2.4, 4.0, 6.0, 6.0, 5.0, 5.0])
SPINOUS_SHAPE = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 1.05, 1.1, 1.1, 1.0, 0.75, 0.4, 0.3, 0.2, 0.2])
# The sacrum is one bone: its remnant discs neither degenerate nor bulge.
MOBILE = np.arange(len(VERTEBRAE)) < S1


@dataclass(frozen=True)
class Anatomy:
    """One patient's spine, in mm; arrays have one entry for each of VERTEBRAE.

    `s` runs caudally along the line of the posterior vertebral walls, 0 at the upper end of the first
    vertebra; `body_s` are body centres and `disc_s` disc centres (under each body) on that line.
    """

    scale: float
    age: float
    body_height: Array
    plate_depth: Array
    plate_width: Array
    disc_height: Array
    angle_deg: Array
    body_wedge: Array
    concavity: Array
    waist: Array
    body_s: Array
    disc_s: Array
    pfirrmann: NDArray[np.int64]
    bulge: Array
    mid_tilt_deg: float
    shift_mm: Array
    shift_period_mm: Array
    sac_depth: Array
    sac_half_width: Array
    sac_gap: Array
    sac_end_s: float
    conus_s: float
    cord_half_depth: float
    epidural_fat: Array
    flavum: float
    spinous_length: Array
    spinous_height: Array
    spinous_half_width: float
    pedicle_x: Array
    fat_depth: float

    def lateral_shift(self, s: Array) -> Array:
        """Scoliosis and tilt: where the spine's middle lies along the slice axis, in mm, at each `s`."""
        t = np.asarray(s) - self.body_s[L3]
        first, second = (
            a * np.sin(2 * np.pi * np.asarray(s) / period)
            for a, period in zip(self.shift_mm[1:], self.shift_period_mm, strict=True)
        )
        return np.asarray(self.shift_mm[0] * t / 100.0 + first + second)

    def depth_at(self, s: Array) -> Array:
        """Antero-posterior depth of bodies and discs at `s`, without the bodies' waist."""
        return np.asarray(self._depth_curve(np.clip(s, self.disc_s[0], self.disc_s[-1])))

    def width_at(self, s: Array) -> Array:
        """Left-right width of bodies and discs at `s`, without the bodies' waist."""
        return np.asarray(self._width_curve(np.clip(s, self.disc_s[0], self.disc_s[-1])))

    # Curves are fitted once: hundreds of structures ask for them.
    @cached_property
    def _depth_curve(self) -> PchipInterpolator:
        return PchipInterpolator(self.disc_s, self.plate_depth, extrapolate=False)

    @cached_property
    def _width_curve(self) -> PchipInterpolator:
        return PchipInterpolator(self.disc_s, self.plate_width, extrapolate=False)

    @cached_property
    def sac_curves(self) -> tuple[PchipInterpolator, PchipInterpolator, PchipInterpolator]:
        """Depth and half-width of the sac, and the gap in front of it, along s, in mm."""
        knots = np.ravel(np.stack([self.body_s, self.disc_s], axis=1))
        at_disc = 1.2 + 0.5 * np.clip(self.sac_gap - 2.2, 0.0, None)
        gap = PchipInterpolator(knots, np.ravel(np.stack([self.sac_gap, at_disc], axis=1)))
        return PchipInterpolator(self.body_s, self.sac_depth), PchipInterpolator(self.body_s, self.sac_half_width), gap


def sample_anatomy(seed: int) -> Anatomy:
    """Draw one patient's anatomy from `seed`."""
    rng = np.random.default_rng([seed, 1])
    n = len(VERTEBRAE)
    scale = float(np.clip(rng.normal(1.0, 0.06), 0.86, 1.14))
    age = float(rng.uniform(0.0, 1.0))
    height = BODY_HEIGHT * scale * rng.normal(1.0, 0.025, n)
    lower_levels = np.clip((np.arange(n) - L1) * 0.22, 0.0, 0.9)
    grade = np.clip(np.round(1.1 + 2.2 * age + lower_levels + rng.normal(0, 0.7, n)), 1, 5).astype(np.int64)
    thinning = np.where(MOBILE, np.array([1.0, 1.0, 0.94, 0.84, 0.62])[grade - 1], 1.0)
    disc = DISC_HEIGHT * scale * rng.normal(1.0, 0.08, n) * thinning
    top = np.concatenate([[0.0], np.cumsum(height + disc)[:-1]])
    body_s, disc_s = top + height / 2, top + height + disc / 2
    sac = rng.uniform(11.5, 15.0) * SAC_SHAPE * scale
    # widths of bodies and canal go together, so the pedicles stand outside the sac
    sac_half_width = sac * rng.uniform(0.62, 0.78)
    return Anatomy(
        scale=scale,
        age=age,
        body_height=height,
        plate_depth=PLATE_DEPTH * scale * rng.normal(1.0, 0.03) * rng.normal(1.0, 0.012, n),
        plate_width=PLATE_WIDTH * scale * rng.normal(1.0, 0.04),
        disc_height=disc,
        angle_deg=ANGLE_DEG * rng.uniform(0.65, 1.3) + rng.normal(0, 1.0, n),
        body_wedge=np.array([0.8, 0.8, 0.8, 0.8, 0.6, 0.3, 0.2, 0.15, 0.2, 0.4, 1.0, 1.0, 1.0, 1.0]),
        concavity=rng.uniform(0.3, 1.6, n) * np.where(MOBILE, 1.0, 0.2),
        waist=rng.uniform(0.8, 2.4, n) * np.where(MOBILE, 1.0, 0.1),
        body_s=body_s,
        disc_s=disc_s,
        pfirrmann=grade,
        bulge=np.clip(rng.normal(0.25, 0.4, n) + 0.3 * (grade - 2), 0.0, 1.8) * np.where(MOBILE, 1.0, 0.1),
        mid_tilt_deg=float(rng.normal(0.0, 4.0)),
        shift_mm=rng.normal(0.0, 1.0, 3) * np.array([2.0, 1.6, 0.7]),
        shift_period_mm=rng.uniform([220.0, 110.0], [420.0, 180.0]),
        sac_depth=sac,
        sac_half_width=sac_half_width,
        sac_gap=SAC_GAP * rng.uniform(0.8, 1.2),
        sac_end_s=float(body_s[S2] + rng.normal(0.0, 9.0)),
        conus_s=float(disc_s[L1] + rng.normal(-4.0, 10.0)),
        cord_half_depth=float(rng.uniform(3.2, 4.2)),
        epidural_fat=rng.uniform(1.5, 4.5, n) * rng.uniform(0.6, 1.1),
        flavum=float(rng.uniform(2.4, 4.0)),
        spinous_length=rng.uniform(25.0, 31.0, n) * scale * SPINOUS_SHAPE,
        spinous_height=rng.uniform(0.58, 0.78, n) * height * np.where(np.arange(n) >= L5, 0.75, 1.0),
        spinous_half_width=float(rng.uniform(2.8, 4.5)),
        pedicle_x=sac_half_width[L1] + scale * np.interp(np.arange(n), [0, L1, L5, S1, S3], [4.0, 4.5, 8.0, 11.0, 11.0]),
        fat_depth=float(np.clip(rng.gamma(2.5, 7.0), 5.0, 55.0)),
    )


@dataclass(frozen=True)
class CanalProfile:
    """Without lesions, along s in mm: sac depth and half-width, gap in front of the sac, fat behind it."""

    depth: Array
    half_width: Array
    gap: Array
    fat: Array


def canal_profile(anatomy: Anatomy, s: Array) -> CanalProfile:
    """The canal's sizes at `s` (S,) in mm, without lesions."""
    depth, width, gap = (curve(s) for curve in anatomy.sac_curves)
    end = np.sqrt(np.clip((anatomy.sac_end_s - s) / 25.0, 0.0, 1.0))
    fat = np.full(s.shape, 0.7)
    for i in range(L5 + 1):
        # the pad fills the gap between two laminae, thickest just under the upper one
        offset = s - anatomy.disc_s[i] - 2.0
        fat += anatomy.epidural_fat[i] * np.exp(-(np.abs(offset / np.where(offset < 0, 8.0, 10.0)) ** 2.5))
    fat += np.interp(s, [anatomy.disc_s[L5], anatomy.body_s[S2]], [0.0, 5.0])
    return CanalProfile(depth * end, np.maximum(width * (0.4 + 0.6 * end), 2.0), gap, fat)
