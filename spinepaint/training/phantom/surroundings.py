"""Everything around the spine, in image space: muscle, fat, skin, psoas, abdomen and great vessels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from spinepaint.training.phantom.anatomy import Anatomy
from spinepaint.training.phantom.contrast import Signals
from spinepaint.training.phantom.geometry import Centreline
from spinepaint.training.phantom.texture import smooth_noise
from spinepaint.training.phantom.tissues import L1, L2, L3, L4, L5, S1, S3, T12, Tissue

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Labels = NDArray[np.uint8]


@dataclass(frozen=True)
class Place:
    """Where each pixel is: x (slices, rows, columns) lateral, s and d (rows, columns) curvilinear, y and z image axes, mm."""

    x: F32
    s: F32
    d: F32
    y: F64
    z: F64
    pixel_mm: float


def _ramp(distance: F32, width: float) -> F32:
    return np.asarray(np.clip(np.float32(0.5) - distance / np.float32(width), 0, 1), np.float32)


def _lay(image: F32, labels: Labels, alpha: F32, value: F32 | np.float32, tissue: Tissue | None) -> None:
    image += alpha * (value - image)
    if tissue is not None:
        labels[np.broadcast_to(alpha >= 0.5, labels.shape)] = tissue


def surroundings(anatomy: Anatomy, line: Centreline, signals: Signals, place: Place, seed: int) -> tuple[F32, Labels]:
    """Signals and labels (slices, rows, columns) of the soft tissue."""
    rng = np.random.default_rng([seed, 10])
    shape, px = place.x.shape, place.pixel_mm
    coarse = smooth_noise(rng, shape, (2.0, 14.0 / px, 14.0 / px))
    fine = smooth_noise(rng, shape, (1.0, 2.0 / px, 2.0 / px))
    muscle = np.float32(signals.muscle) * (1 + np.float32(0.12) * fine + np.float32(0.1) * coarse)
    septa = np.exp(-((smooth_noise(rng, shape, (2.0, 20.0 / px, 5.0 / px)) / np.float32(0.08)) ** 2))
    fat = np.float32(signals.fat) * (1 - np.float32(0.25) * septa + np.float32(0.03) * coarse)
    image = np.float32(signals.fat) * (1 + np.float32(0.05) * coarse - np.float32(0.06) * np.clip(fine, 0, None))
    labels = np.full(shape, Tissue.FAT, np.uint8)
    _front(rng, anatomy, signals, place, fine, muscle, image, labels)
    _back(rng, anatomy, line, signals, place, (coarse, muscle, fat), image, labels)
    return image, labels


def _front(
    rng: np.random.Generator, anatomy: Anatomy, signals: Signals, place: Place, fine: F32, muscle: F32, image: F32, labels: Labels
) -> None:
    """Bowel in fat, psoas beside the bodies, aorta and vena cava as flow voids down to L4."""
    px, shape = place.pixel_mm, place.x.shape
    blobs = smooth_noise(rng, shape, (2.5, 15.0 / px, 13.0 / px)) + np.float32(0.35) * smooth_noise(
        rng, shape, (1.5, 6.0 / px, 6.0 / px)
    )
    tone = smooth_noise(rng, shape, (2.5, 25.0 / px, 25.0 / px))
    bowel = np.float32(signals.bowel) * np.clip(1 + np.float32(0.6) * tone + np.float32(0.15) * fine, 0.05, 2.2)
    depth = anatomy.depth_at(place.s.astype(np.float64)).astype(np.float32)
    ahead = -(place.d + depth)[None]
    free = _ramp(np.float32(18.0 + 4.0 * rng.random()) - ahead, 10.0)
    _lay(image, labels, np.clip((blobs - np.float32(rng.uniform(-0.2, 0.4))) * 3, 0, 1) * free, bowel, Tissue.BOWEL)
    s = place.s[None]
    grown = np.clip((s - np.float32(anatomy.body_s[T12])) / np.float32(100.0), 0.05, 1.0)
    lateral = np.abs(place.x)
    psoas = np.sqrt(((lateral - 26 - 14 * grown) / (17 * grown + 2)) ** 2 + ((place.d[None] + 20) / (21 * grown + 3)) ** 2) - 1
    _lay(image, labels, _ramp(psoas * np.float32(15), 2.5) * (s > anatomy.body_s[T12]), muscle, Tissue.MUSCLE)
    quadratus = np.maximum(np.abs(place.d[None] - 2) - 9, 44 - lateral)
    _lay(image, labels, _ramp(quadratus.astype(np.float32), 2.5) * (s < anatomy.body_s[L5]), muscle, Tissue.MUSCLE)
    for side, radius in ((rng.uniform(4.0, 12.0), rng.uniform(7.0, 9.5)), (rng.uniform(-18.0, -10.0), rng.uniform(8.0, 11.0))):
        spread = np.clip((s - np.float32(anatomy.body_s[L4])) / np.float32(40.0), 0, 2) * np.float32(24.0 * np.sign(side))
        width = np.float32(radius) * (
            1 - np.float32(0.2) * np.clip((s - np.float32(anatomy.body_s[L4])) / np.float32(30.0), 0, 1)
        )
        vessel = np.sqrt((place.x - np.float32(side) - spread) ** 2 + (ahead - np.float32(radius + 3.0)) ** 2) - width
        reach = _ramp(s - np.float32(anatomy.body_s[S1]), 4.0)
        _lay(image, labels, _ramp(vessel - np.float32(1.0), 1.0) * reach, np.float32(signals.muscle), Tissue.VESSEL)
        _lay(image, labels, _ramp(vessel, 1.0) * reach, np.float32(signals.vessel), Tissue.VESSEL)


def _back(
    rng: np.random.Generator, anatomy: Anatomy, line: Centreline, signals: Signals, place: Place,
    tissue: tuple[F32, F32, F32], image: F32, labels: Labels,
) -> None:  # fmt: skip
    """Paraspinal muscle with fatty streaks, fascia, subcutaneous fat, skin and air."""
    coarse, muscle, fat = tissue
    px, shape = place.pixel_mm, place.x.shape
    streak = smooth_noise(rng, shape, (1.5, 12.0 / px, 2.5 / px)) + np.float32(0.5) * smooth_noise(
        rng, shape, (1.0, 5.0 / px, 1.5 / px)
    )
    fascia, skin = _back_contour(anatomy, line, place.z[:, 0])
    behind = (place.y - fascia[:, None]).astype(np.float32)[None]
    lateral = np.abs(place.x)
    # fat gathers low, deep and near the middle, and with age
    lean = 1.7 - 1.1 * anatomy.age - 0.35 * np.clip((place.s - anatomy.disc_s[L3]) / 60.0, -1, 1)
    lean = lean[None] + np.clip((lateral - 10) / 25, 0, 0.9) - 0.5 * np.exp(-(((place.d[None] - 28) / 10.0) ** 2))
    infiltration = np.clip((streak + 0.4 * coarse - lean.astype(np.float32)) * np.float32(0.8), 0, 0.95)
    back = muscle + (fat * np.float32(0.9) - muscle) * infiltration
    _lay(image, labels, _ramp(3.0 - place.d[None], 3.0), back, Tissue.MUSCLE)
    _lay(image, labels, _ramp(-behind, 1.5), fat, Tissue.FAT)
    _lay(image, labels, _ramp(np.abs(behind) - np.float32(0.5), 1.0) * np.float32(0.8), np.float32(signals.cortex), None)
    to_skin = (place.y - skin[:, None]).astype(np.float32)[None]
    _lay(
        image,
        labels,
        _ramp(np.abs(to_skin + np.float32(1.2)) - np.float32(0.8), 0.8),
        np.float32(signals.muscle),
        None,
    )
    _lay(image, labels, _ramp(-to_skin, 1.0), np.float32(0.0), Tissue.BACKGROUND)


def _back_contour(anatomy: Anatomy, line: Centreline, z: F64) -> tuple[F64, F64]:
    """y of the fascia and of the skin for each row."""
    order = np.argsort(line.z)
    y_line = np.interp(z, line.z[order], line.y[order])
    s_row = np.interp(z, line.z[order], line.s[order])
    depth = np.interp(s_row, anatomy.body_s[[T12, L2, L5, S1, S3]], np.array([50.0, 56.0, 52.0, 40.0, 16.0]) * anatomy.scale)
    step = abs(z[1] - z[0])
    fascia = gaussian_filter1d(y_line + depth, 14.0 / step, mode="nearest")
    fat = anatomy.fat_depth * np.interp(s_row, anatomy.body_s[[L1, L3, S1, S3]], [0.7, 0.85, 1.3, 1.3])
    return fascia, gaussian_filter1d(fascia + fat, 22.0 / step, mode="nearest")
