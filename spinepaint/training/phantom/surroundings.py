"""Everything around the spine, in image space: muscle, fat, skin, psoas, abdomen and great vessels."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from spinepaint.training.phantom.anatomy import Anatomy
from spinepaint.training.phantom.contrast import Signals
from spinepaint.training.phantom.geometry import Centreline
from spinepaint.training.phantom.texture import smooth_noise
from spinepaint.training.phantom.tissues import Tissue

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


def _ramp(distance: F32, width: float) -> F32:
    return np.clip(np.float32(0.5) - distance / np.float32(width), 0, 1)


def surroundings(
    anatomy: Anatomy,
    line: Centreline,
    signals: Signals,
    x: F32,
    s: F32,
    d: F32,
    y: F64,
    z: F64,
    pixel_mm: float,
    seed: int,
) -> tuple[F32, NDArray[np.uint8]]:
    """Signals and labels (slices, rows, columns) of the soft tissue.

    x: (slices, rows, columns) lateral position; s, d: (rows, columns) curvilinear; y, z: image axes in mm.
    """
    rng = np.random.default_rng([seed, 10])
    shape = x.shape
    px = pixel_mm
    coarse = smooth_noise(rng, shape, (2.0, 14.0 / px, 14.0 / px))
    streak = smooth_noise(rng, shape, (1.0, 9.0 / px, 1.8 / px))
    fine = smooth_noise(rng, shape, (1.0, 2.2 / px, 2.2 / px))
    fascia, skin = _back_contour(anatomy, line, z[:, 0])
    behind = (y - fascia[:, None]).astype(np.float32)[None]
    to_skin = (y - skin[:, None]).astype(np.float32)[None]
    lateral = np.abs(x)
    fatty = (
        1.35
        - 0.9 * anatomy.age
        - 0.25 * np.clip((s - anatomy.disc_s[5]) / 60.0, -1, 1)
        + np.clip((lateral - 8) / 30, 0, 0.7)
    )
    infiltration = np.clip(
        (streak + 0.4 * coarse - fatty.astype(np.float32)) * np.float32(1.6), 0, 1
    )
    muscle = np.float32(signals.muscle) * (
        1 + np.float32(0.12) * fine + np.float32(0.1) * coarse
    )
    back = muscle + (np.float32(signals.fat) - muscle) * infiltration
    septa = np.exp(
        -(
            (smooth_noise(rng, shape, (2.0, 20.0 / px, 5.0 / px)) / np.float32(0.08))
            ** 2
        )
    )
    fat = np.float32(signals.fat) * (
        1 - np.float32(0.25) * septa + np.float32(0.03) * coarse
    )
    front = _abdomen(rng, shape, signals, fat, fine, px)
    psoas = np.sqrt(((lateral - 36) / 16) ** 2 + ((d[None] + 18) / 22) ** 2) - 1
    psoas_alpha = _ramp(psoas * 15, 2.0) * (s[None] > anatomy.body_s[2]) * np.float32(1)
    image = front + (fat - front) * _ramp(-(d[None] + anatomy.body_depth[5] + 14), 12.0)
    image += psoas_alpha * (muscle - image)
    image += _ramp(3.0 - d[None], 3.0) * (back - image)
    image += _ramp(-behind, 1.5) * (fat - image)
    image += (
        _ramp(np.abs(behind) - np.float32(0.5), 1.0)
        * (np.float32(signals.cortex) - image)
        * np.float32(0.8)
    )
    image *= _ramp(to_skin, 1.0)
    labels = np.full(shape, Tissue.FAT, np.uint8)
    labels[np.broadcast_to((psoas < 0) | ((d[None] > 3) & (behind < 0)), shape)] = (
        Tissue.MUSCLE
    )
    labels[np.broadcast_to(to_skin > 0, shape)] = Tissue.BACKGROUND
    return image.astype(np.float32), labels


def _back_contour(anatomy: Anatomy, line: Centreline, z: F64) -> tuple[F64, F64]:
    """y of the fascia and of the skin for each row."""
    order = np.argsort(line.z)
    y_line = np.interp(z, line.z[order], line.y[order])
    s_row = np.interp(z, line.z[order], line.s[order])
    depth = np.interp(
        s_row,
        anatomy.body_s[[0, 5, 7, 8, 10]],
        np.array([46.0, 56.0, 53.0, 40.0, 16.0]) * anatomy.scale,
    )
    step = abs(z[1] - z[0])
    fascia = gaussian_filter1d(y_line + depth, 14.0 / step, mode="nearest")
    fat = anatomy.fat_depth * np.interp(
        s_row, anatomy.body_s[[0, 5, 8, 10]], [0.6, 0.85, 1.3, 1.3]
    )
    return fascia, gaussian_filter1d(
        y_line * 0.5 + fascia * 0.5 + 0.5 * depth + fat, 25.0 / step, mode="nearest"
    )


def _abdomen(
    rng: np.random.Generator,
    shape: tuple[int, int, int],
    signals: Signals,
    fat: F32,
    fine: F32,
    px: float,
) -> F32:
    blobs = smooth_noise(rng, shape, (2.5, 17.0 / px, 15.0 / px))
    tone = smooth_noise(rng, shape, (2.5, 25.0 / px, 25.0 / px))
    bowel = np.float32(signals.bowel) * np.clip(
        1 + np.float32(0.6) * tone + np.float32(0.12) * fine, 0.05, 2.2
    )
    return fat + (bowel - fat) * np.clip((blobs - np.float32(0.1)) * 3, 0, 1)
