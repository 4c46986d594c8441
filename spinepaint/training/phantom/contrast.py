"""T2 appearance: how bright each tissue is, and what the scanner adds (coil, blur, noise, grid)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from spinepaint.training.phantom.tissues import VERTEBRAE

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Signals:
    """Tissue signals relative to CSF = 1, drawn widely: T2 TSE differs much between scanners."""

    csf: float
    fat: float
    epidural_fat: float
    anterior_epidural: float
    foramen_fat: float
    marrow: float
    marrow_coarse: float
    marrow_fine: float
    body_factor: F64
    posterior_factor: F64
    cortex: float
    cortex_mm: float
    annulus: float
    nucleus: F64
    nucleus_bright: float
    vein: float
    neural: float
    dura: float
    flavum: float
    muscle: float
    vessel: float
    bowel: float


@dataclass(frozen=True)
class Acquisition:
    """Grid and scanner: mm, and noise as a share of the CSF signal."""

    pixel_mm: float
    matrix: int
    slices: int
    thickness_mm: float
    spacing_mm: float
    offset_mm: tuple[float, float, float]
    oblique_deg: tuple[float, float, float]
    blur_px: tuple[float, float]
    ringing: float
    noise: float
    coil_mm: float
    coil_power: float
    coil_axial_mm: float
    saturation: float
    gain: float


def sample_signals(seed: int) -> Signals:
    """Draw one examination's tissue signals."""
    rng = np.random.default_rng([seed, 7])
    fat = float(rng.uniform(0.65, 1.1))
    marrow = float(rng.uniform(0.28, 0.58))
    annulus = float(rng.uniform(0.05, 0.16))
    nucleus = np.array([0.85, 0.68, 0.42, 0.24, 0.13]) * rng.uniform(0.75, 1.1) * (marrow / 0.42) ** 0.5
    return Signals(
        csf=1.0, fat=fat, epidural_fat=fat * float(rng.uniform(0.8, 1.0)),
        anterior_epidural=fat * float(rng.uniform(0.35, 0.9)), foramen_fat=fat * float(rng.uniform(0.75, 1.0)),
        marrow=marrow, marrow_coarse=float(rng.uniform(0.03, 0.12)), marrow_fine=float(rng.uniform(0.03, 0.10)),
        body_factor=rng.normal(1.0, 0.03, len(VERTEBRAE)), posterior_factor=rng.uniform(0.75, 1.2, len(VERTEBRAE)),
        cortex=float(rng.uniform(0.03, 0.10)), cortex_mm=float(rng.uniform(0.7, 1.3)),
        annulus=annulus, nucleus=np.maximum(nucleus, annulus + 0.02), nucleus_bright=float(nucleus[0]),
        vein=float(rng.uniform(0.5, 1.3)) * marrow + 0.1, neural=float(rng.uniform(0.28, 0.5)),
        dura=float(rng.uniform(0.15, 0.4)), flavum=float(rng.uniform(0.12, 0.28)),
        muscle=float(rng.uniform(0.12, 0.27)), vessel=float(rng.uniform(0.03, 0.10)), bowel=float(rng.uniform(0.2, 0.5)),
    )  # fmt: skip


def sample_acquisition(seed: int) -> Acquisition:
    """Draw the grid and the scanner's part; the field of view always holds L1 to S1."""
    rng = np.random.default_rng([seed, 8])
    pixel = float(np.round(rng.uniform(0.55, 0.95), 4))
    matrix = int(np.clip(16 * round(rng.uniform(250.0, 330.0) / pixel / 16), 256, 448))
    while matrix * pixel < 240.0:
        pixel = round(pixel + 0.02, 4)
    thickness = float(rng.choice([3.0, 3.5, 4.0, 4.0, 4.5, 5.0]))
    coil = rng.random()
    return Acquisition(
        pixel_mm=pixel, matrix=matrix, slices=int(rng.integers(13, 20)), thickness_mm=thickness,
        spacing_mm=round(thickness * float(rng.choice([1.0, 1.1, 1.1, 1.2])), 3),
        offset_mm=(float(rng.normal(0, 2.0)), float(rng.uniform(15.0, 50.0)), float(rng.normal(0.0, 8.0))),
        oblique_deg=(float(rng.normal(0, 2.5)), float(rng.normal(0, 2.0)), float(rng.normal(0, 2.5))),
        blur_px=(float(rng.uniform(0.3, 0.75)), float(rng.uniform(0.25, 0.6))), ringing=float(rng.uniform(0.0, 0.12)),
        noise=float(np.exp(rng.uniform(np.log(0.008), np.log(0.06)))),
        coil_mm=float(rng.uniform(60.0, 140.0)), coil_power=float(rng.uniform(0.0, 1.0) if coil < 0.5 else rng.uniform(1.0, 3.0)),
        coil_axial_mm=float(rng.uniform(130.0, 260.0)), saturation=float(rng.random() < 0.5) * float(rng.uniform(0.5, 0.95)),
        gain=float(np.exp(rng.uniform(np.log(350.0), np.log(1300.0)))),
    )  # fmt: skip


def coil_field(acquisition: Acquisition, y: F64, z: F64, front_mm: F64) -> F32:
    """Receive sensitivity of a posterior surface coil, 1 in the canal, and the anterior saturation band.

    y, z: (rows, columns) mm relative to the spine's line (y to the back); front_mm: depth in front of it.
    """
    depth = np.clip(80.0 - y, 5.0, None)
    field = ((depth + 30.0) / 95.0) ** (-acquisition.coil_power) * np.exp(-((z / acquisition.coil_axial_mm) ** 4))
    band = 1 - acquisition.saturation / (1 + np.exp(-(front_mm - 62.0) / 6.0))
    return np.asarray(np.clip(field, 0.02, 4.0) * band, np.float32)


def acquire(acquisition: Acquisition, clean: F32, seed: int) -> F32:
    """Point spread, Rician noise, gain and 12-bit rounding of clean signals (slices, rows, columns).

    The kernels are short, so that a change in one place stays there; the noise depends on the seed alone.
    """
    image = gaussian_filter1d(clean, acquisition.blur_px[0], axis=1, truncate=3.0)
    image = gaussian_filter1d(image, acquisition.blur_px[1], axis=2, truncate=3.0)
    if acquisition.ringing > 0:
        wide = gaussian_filter1d(image, 1.2, axis=1, truncate=3.0)
        image = image + np.float32(acquisition.ringing * 2) * (image - wide)
    rng = np.random.default_rng([seed, 9])
    sigma = np.float32(acquisition.noise)
    real = image + sigma * rng.standard_normal(image.shape, dtype=np.float32)
    imaginary = sigma * rng.standard_normal(image.shape, dtype=np.float32)
    magnitude = np.sqrt(real * real + imaginary * imaginary) * np.float32(acquisition.gain)
    return np.asarray(np.clip(np.rint(magnitude), 0, 4095), np.float32)
