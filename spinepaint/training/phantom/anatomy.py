"""Sampled anatomy: how large each vertebra and disc is, how the spine bends, how wide the canal runs.

Sizes in mm follow the ranges of lumbar morphometry that radiology textbooks give (body about 45 wide, 33
deep and 27 high; disc 7-12 high; dural sac 10-17 deep); every one is drawn anew from the seed.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from spinepaint.training.phantom.tissues import VERTEBRAE

Array = NDArray[np.float64]

# One entry for each of VERTEBRAE: height of the body; height of the disc under it at the posterior wall;
# angle in degrees between it and the next (lordosis positive).
BODY_HEIGHT = np.array(
    [22.0, 23.5, 25.0, 26.0, 27.0, 27.5, 27.5, 27.5, 27.0, 21.0, 17.0]
)
DISC_HEIGHT = np.array([4.2, 4.6, 5.0, 5.8, 6.6, 7.2, 7.4, 6.2, 2.4, 1.4, 1.2])
ANGLE_DEG = np.array([-3.0, -1.0, 1.0, 4.0, 6.5, 9.0, 13.0, 18.0, -12.0, -17.0, -15.0])
BODY_DEPTH = np.array(
    [29.0, 30.0, 31.0, 32.0, 33.0, 33.5, 34.0, 34.0, 29.0, 20.0, 14.0]
)
BODY_WIDTH = np.array(
    [34.0, 37.0, 40.0, 42.0, 43.5, 45.0, 47.0, 50.0, 50.0, 44.0, 38.0]
)


@dataclass(frozen=True)
class Anatomy:
    """One patient's spine, in mm; arrays have one entry for each of VERTEBRAE.

    `s` runs caudally along the line of the posterior vertebral walls, 0 at the upper end of the first
    vertebra; `body_s` are body centres and `disc_s` disc centres (under each body) on that line.
    """

    scale: float
    body_height: Array
    body_depth: Array
    body_width: Array
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
    rotation_deg: float
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
    skin_depth: float
    fat_depth: float
    age: float

    def lateral_shift(self, s: Array) -> Array:
        """Scoliosis and tilt: where the spine's middle lies along the slice axis, in mm, at each `s`."""
        t = (np.asarray(s) - self.body_s[5]) / 100.0
        waves = sum(
            a * np.sin(2 * np.pi * np.asarray(s) / period)
            for a, period in zip(self.shift_mm[1:], self.shift_period_mm, strict=True)
        )
        return np.asarray(self.shift_mm[0] * t + waves - np.mean(waves) * 0.0)


def sample_anatomy(seed: int) -> Anatomy:
    """Draw one patient's anatomy from `seed`."""
    rng = np.random.default_rng([seed, 1])
    n = len(VERTEBRAE)
    scale = float(np.clip(rng.normal(1.0, 0.06), 0.86, 1.14))
    age = float(rng.uniform(0.0, 1.0))
    height = BODY_HEIGHT * scale * rng.normal(1.0, 0.025, n)
    grade_level = np.array([0.0, 0.0, 0.1, 0.2, 0.4, 0.6, 0.9, 0.9, 0.0, 0.0, 0.0])
    grade = np.clip(
        np.round(1.2 + 2.2 * age + grade_level + rng.normal(0, 0.7, n)), 1, 5
    ).astype(np.int64)
    thinning = np.array([1.0, 1.0, 0.94, 0.84, 0.62])[grade - 1]
    disc = (
        DISC_HEIGHT
        * scale
        * rng.normal(1.0, 0.08, n)
        * np.where(np.arange(n) < 8, thinning, 1.0)
    )
    lordosis = rng.uniform(0.65, 1.3)
    angle = ANGLE_DEG * lordosis + rng.normal(0, 1.0, n)
    pitch = height + disc
    top = np.concatenate([[0.0], np.cumsum(pitch)[:-1]])
    body_s = top + height / 2
    disc_s = top + height + disc / 2
    sac = rng.uniform(11.5, 16.0) * np.array(
        [0.98, 1.0, 1.05, 1.08, 1.05, 1.0, 0.97, 0.88, 0.7, 0.45, 0.3]
    )
    return Anatomy(
        scale=scale,
        body_height=height,
        body_depth=BODY_DEPTH
        * scale
        * rng.normal(1.0, 0.03)
        * rng.normal(1.0, 0.015, n),
        body_width=BODY_WIDTH * scale * rng.normal(1.0, 0.04),
        disc_height=disc,
        angle_deg=angle,
        body_wedge=np.array([0.8, 0.8, 0.6, 0.3, 0.2, 0.15, 0.2, 0.4, 1.0, 1.0, 1.0]),
        concavity=rng.uniform(0.3, 1.6, n) * np.where(np.arange(n) < 8, 1.0, 0.2),
        waist=rng.uniform(0.8, 2.6, n) * np.where(np.arange(n) < 8, 1.0, 0.2),
        body_s=body_s,
        disc_s=disc_s,
        pfirrmann=grade,
        bulge=np.clip(rng.normal(0.25, 0.4, n) + 0.3 * (grade - 2), 0.0, 1.8)
        * np.where(np.arange(n) < 8, 1.0, 0.1),
        mid_tilt_deg=float(rng.normal(0.0, 4.0)),
        shift_mm=rng.normal(0.0, 1.0, 3) * np.array([2.0, 1.6, 0.7]),
        shift_period_mm=rng.uniform([220.0, 110.0], [420.0, 180.0]),
        rotation_deg=float(rng.normal(0.0, 2.0)),
        sac_depth=sac * scale,
        sac_half_width=sac * scale * rng.uniform(0.62, 0.78),
        sac_gap=np.array([2.0, 2.0, 2.2, 2.3, 2.4, 2.6, 2.8, 4.5, 6.0, 6.0, 5.0])
        * rng.uniform(0.7, 1.3),
        sac_end_s=float(body_s[9] + rng.normal(0.0, 9.0)),
        conus_s=float(disc_s[3] + rng.normal(-4.0, 10.0)),
        cord_half_depth=float(rng.uniform(3.2, 4.2)),
        epidural_fat=rng.uniform(1.5, 5.5, n) * rng.uniform(0.6, 1.3),
        flavum=float(rng.uniform(2.4, 4.0)),
        spinous_length=rng.uniform(24.0, 32.0, n)
        * scale
        * np.array([1, 1, 1, 1, 1.05, 1.05, 1.0, 0.8, 0.4, 0.3, 0.2]),
        spinous_height=rng.uniform(15.0, 21.0, n)
        * scale
        * np.array([0.7, 0.7, 0.9, 1, 1, 1, 0.95, 0.75, 0.6, 0.5, 0.5]),
        spinous_half_width=float(rng.uniform(2.5, 4.0)),
        pedicle_x=(sac[:] * 0.3 + 11.0) * scale * np.linspace(0.92, 1.12, n),
        skin_depth=float(rng.uniform(64.0, 82.0)),
        fat_depth=float(np.clip(rng.gamma(2.5, 7.0), 5.0, 55.0)),
        age=age,
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
    depth = PchipInterpolator(anatomy.body_s, anatomy.sac_depth)(s)
    width = PchipInterpolator(anatomy.body_s, anatomy.sac_half_width)(s)
    end = np.sqrt(np.clip((anatomy.sac_end_s - s) / 25.0, 0.0, 1.0))
    knots = np.ravel(np.stack([anatomy.body_s, anatomy.disc_s], axis=1))
    at_disc = 1.1 + 0.3 * np.clip(anatomy.sac_gap - 2.5, 0.0, None)
    gap = PchipInterpolator(
        knots, np.ravel(np.stack([anatomy.sac_gap, at_disc], axis=1))
    )(s)
    fat = np.full(s.shape, 0.7)
    for i in range(1, 9):
        fat += anatomy.epidural_fat[i] * np.exp(
            -(np.abs((s - anatomy.disc_s[i] - 1.0) / 9.0) ** 2.5)
        )
    fat += np.interp(s, [anatomy.disc_s[7], anatomy.body_s[9]], [0.0, 5.0])
    return CanalProfile(
        depth * end, np.maximum(width * (0.4 + 0.6 * end), 2.0), gap, fat
    )
