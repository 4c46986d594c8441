"""T2 appearance: how bright each tissue is, and what the scanner adds (coil, blur, motion, noise, grid)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d

from spinepaint.training.phantom.tissues import VERTEBRAE, Weighting

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

FULL_RINGING = 0.12
RINGING_CUT = 0.75  # of the image's resolution
RINGING_REACH_PX = 6


@dataclass(frozen=True)
class Signals:
    """Tissue signals, in T2 relative to CSF = 1, drawn widely: T2 TSE differs much between scanners.

    flow_void: the share of the CSF's signal that its pulsing flow takes at most; 0 in two spines of three.
    """

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
    flow_void: float


@dataclass(frozen=True)
class Acquisition:
    """Grid and scanner: mm, and noise as a share of the CSF signal (T2; of a little more than fat's in T1).

    Rows are the phase-encoding direction. ringing: 0.12 is what a cut at three quarters of the image's resolution gives.
    motion_mm: standard deviation of the patient's place while the phase is encoded. ghost_mm: how far the tissue in front of
    the spine moves to and fro; ghost_shift: how far its ghosts lie from it, as a share of the matrix; ghost_phase: in radians.
    """

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
    motion_mm: float
    ghost_mm: float
    ghost_shift: float
    ghost_phase: float


def sample_signals(seed: int) -> Signals:
    """Draw one examination's tissue signals."""
    rng = np.random.default_rng([seed, 7])
    fat = float(rng.uniform(0.65, 1.1))
    marrow = float(rng.uniform(0.28, 0.58))
    annulus = float(rng.uniform(0.05, 0.16))
    nucleus = np.array([0.85, 0.68, 0.42, 0.24, 0.13]) * rng.uniform(0.75, 1.1) * (marrow / 0.42) ** 0.5
    # a generator of its own, see `sample_acquisition`
    flow = np.random.default_rng([seed, 16, 1])
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
        flow_void=float(flow.uniform(0.2, 0.6) if flow.random() < 0.35 else 0.0),
    )  # fmt: skip


def sample_acquisition(seed: int, weighting: Weighting = Weighting.T2) -> Acquisition:
    """Draw the grid and the scanner's part; the field of view always holds L1 to S1.

    Series of one seed differ in their motion alone. One patient in five lies less than still.
    """
    rng = np.random.default_rng([seed, 8])
    pixel = float(np.round(rng.uniform(0.55, 0.95), 4))
    matrix = int(np.clip(16 * round(rng.uniform(250.0, 330.0) / pixel / 16), 256, 448))
    while matrix * pixel < 240.0:
        pixel = round(pixel + 0.02, 4)
    thickness = float(rng.choice([3.0, 3.5, 4.0, 4.0, 4.5, 5.0]))
    coil = rng.random()
    # a generator of its own: what was drawn for a seed before there was motion stays as it was
    moved = np.random.default_rng([seed, 14, list(Weighting).index(weighting)])
    restless, breathing = moved.random() < 0.2, moved.random() < 0.5
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
        motion_mm=float(moved.uniform(0.3, 0.7) if restless else moved.uniform(0.0, 0.15)),
        ghost_mm=float(moved.uniform(0.05, 0.35) if breathing else 0.0),
        ghost_shift=float(moved.uniform(0.06, 0.3)), ghost_phase=float(moved.uniform(0.0, 2 * np.pi)),
    )  # fmt: skip


def coil_field(acquisition: Acquisition, y: F64, z: F64, front_mm: F64) -> F32:
    """Receive sensitivity of a posterior surface coil, 1 in the canal, and the anterior saturation band.

    y, z: (rows, columns) mm relative to the spine's line (y to the back); front_mm: depth in front of it.
    """
    depth = np.clip(80.0 - y, 5.0, None)
    field = ((depth + 30.0) / 95.0) ** (-acquisition.coil_power) * np.exp(-((z / acquisition.coil_axial_mm) ** 4))
    band = 1 - acquisition.saturation / (1 + np.exp(-(front_mm - 62.0) / 6.0))
    return np.asarray(np.clip(field, 0.02, 4.0) * band, np.float32)


def acquire(acquisition: Acquisition, clean: F32, moving: F32, seed: int, weighting: Weighting = Weighting.T2) -> F32:
    """Point spread, motion, Rician noise, gain and 12-bit rounding of clean signals (slices, rows, columns).

    moving: (rows, columns) how far each place takes part in the breathing, 0 to 1; no lesion may lie where it is not 0.
    The kernels are short, so that a change in one place stays there; noise and motion depend on seed and weighting alone.
    """
    image = correlate1d(clean, _phase_kernel(acquisition), axis=1)
    image = correlate1d(image, _gaussian(acquisition.blur_px[1]), axis=2)
    rng = np.random.default_rng([seed, 9 if weighting is Weighting.T2 else 18])
    sigma = np.float32(acquisition.noise)
    real, imaginary = rng.standard_normal((2, *image.shape), dtype=np.float32)
    real *= sigma
    imaginary *= sigma
    if acquisition.ghost_mm > 0:
        _add_ghosts(acquisition, image, moving, real, imaginary)
    real += image
    np.square(real, out=real)
    np.square(imaginary, out=imaginary)
    real += imaginary
    np.sqrt(real, out=real)
    real *= np.float32(acquisition.gain)
    np.rint(real, out=real)
    np.clip(real, 0, 4095, out=real)
    return np.asarray(real, np.float32)


def _gaussian(sigma_px: float) -> F64:
    reach = max(int(3.0 * sigma_px + 0.5), 1)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma_px) ** 2)
    return np.asarray(kernel / kernel.sum())


def _phase_kernel(acquisition: Acquisition) -> F64:
    """Along the rows: blur, the patient's drift, and Gibbs ringing (a share of a cut of k-space), as one symmetric kernel.

    Symmetric, so that nothing moves from where the truth says it is.
    """
    blur = _gaussian(float(np.hypot(acquisition.blur_px[0], acquisition.motion_mm / acquisition.pixel_mm)))
    share = acquisition.ringing / FULL_RINGING
    if share == 0:
        return blur
    n = np.arange(-RINGING_REACH_PX, RINGING_REACH_PX + 1)
    cut = np.sinc(RINGING_CUT * n) * np.cos(0.5 * np.pi * n / (RINGING_REACH_PX + 1)) ** 2
    ringing = share * cut / cut.sum()
    ringing[RINGING_REACH_PX] += 1 - share
    return np.asarray(np.convolve(blur, ringing))


def _add_ghosts(acquisition: Acquisition, image: F32, moving: F32, real: F32, imaginary: F32) -> None:
    """Add the first-order ghosts of tissue that moves a cos(2 pi m k / N + phase) while line k of N is encoded.

    exp(-i K a cos t) = 1 - i K a cos t + ..., where i K is the derivative: copies of it, m rows up and down, with opposite
    phases.
    """
    columns = np.flatnonzero(moving.any(axis=0))
    if columns.size == 0:
        return
    part = slice(int(columns[0]), int(columns[-1]) + 1)
    moved = image[:, :, part] * moving[:, part]
    slope = np.zeros_like(moved)
    slope[:, 1:-1] = moved[:, 2:] - moved[:, :-2]
    slope *= np.float32(-acquisition.ghost_mm / (4 * acquisition.pixel_mm))
    shift = round(acquisition.ghost_shift * image.shape[1])
    up, down = np.roll(slope, -shift, axis=1), np.roll(slope, shift, axis=1)
    real[:, :, part] += np.float32(np.cos(acquisition.ghost_phase)) * (up + down)
    imaginary[:, :, part] += np.float32(np.sin(acquisition.ghost_phase)) * (up - down)
