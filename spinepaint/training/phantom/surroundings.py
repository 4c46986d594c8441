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
    """Where each pixel is: x (slices, rows, columns) lateral, s and d (rows, columns) curvilinear, y and z image axes, mm.

    ahead: (rows, columns) how far in front of bodies and discs.
    """

    x: F32
    s: F32
    d: F32
    ahead: F32
    y: F64
    z: F64
    pixel_mm: float


@dataclass(frozen=True)
class _Fields:
    """What is random: smooth fields (slices, rows, columns), and where bowel and vessels lie."""

    coarse: F32
    fine: F32
    septa: F32
    blobs: F32
    tone: F32
    streak: F32
    free_mm: float
    bowel_from: float
    vessels: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class _Flat:
    """What all slices share: fields (rows, columns) of the anatomy."""

    s: F32
    ahead: F32
    grown: F32
    psoas_d: F32
    quadratus_d: F32
    lean: F32
    back: F32
    behind: F32
    fascia: F32
    skin: F32
    air: F32


def _ramp(distance: F32, width: float) -> F32:
    return np.asarray(np.clip(np.float32(0.5) - distance / np.float32(width), 0, 1), np.float32)


def _lay(image: F32, labels: Labels, alpha: F32, value: F32 | np.float32, tissue: Tissue | None) -> None:
    image += alpha * (value - image)
    if tissue is not None:
        np.copyto(labels, np.uint8(tissue), where=alpha >= 0.5)


def surroundings(anatomy: Anatomy, line: Centreline, signals: Signals, place: Place, seed: int) -> tuple[F32, Labels]:
    """Signals and labels (slices, rows, columns) of the soft tissue."""
    fields, flat = _fields(seed, place), _flat(anatomy, line, place)
    image, labels = np.empty(place.x.shape, np.float32), np.empty(place.x.shape, np.uint8)
    # slice by slice, so that what is worked on stays in the processor's cache
    for k in range(len(image)):
        coarse, fine, lateral = fields.coarse[k], fields.fine[k], np.abs(place.x[k])
        muscle = np.float32(signals.muscle) * (1 + np.float32(0.12) * fine + np.float32(0.1) * coarse)
        image[k] = np.float32(signals.fat) * (1 + np.float32(0.05) * coarse - np.float32(0.06) * np.clip(fine, 0, None))
        labels[k] = Tissue.FAT
        _front(anatomy, signals, fields, flat, k, (place.x[k], lateral, muscle), image[k], labels[k])
        _back(signals, fields, flat, k, (lateral, muscle), image[k], labels[k])
    return image, labels


def _fields(seed: int, place: Place) -> _Fields:
    rng = np.random.default_rng([seed, 10])
    shape, px = place.x.shape, place.pixel_mm

    def noise(slices: float, rows_mm: float, columns_mm: float) -> F32:
        return smooth_noise(rng, shape, (slices, rows_mm / px, columns_mm / px))

    coarse, fine, septa = noise(2.0, 14.0, 14.0), noise(1.0, 2.0, 2.0), noise(2.0, 20.0, 5.0)
    blobs = noise(2.5, 15.0, 13.0)
    blobs += np.float32(0.35) * noise(1.5, 6.0, 6.0)
    tone = noise(2.5, 25.0, 25.0)
    free, bowel_from = 18.0 + 4.0 * rng.random(), rng.uniform(-0.2, 0.4)
    aorta = (rng.uniform(4.0, 12.0), rng.uniform(7.0, 9.5))
    cava = (rng.uniform(-18.0, -10.0), rng.uniform(8.0, 11.0))
    streak = noise(1.5, 12.0, 2.5)
    streak += np.float32(0.5) * noise(1.0, 5.0, 1.5)
    return _Fields(coarse, fine, septa, blobs, tone, streak, free, bowel_from, (aorta, cava))


def _flat(anatomy: Anatomy, line: Centreline, place: Place) -> _Flat:
    s, d = place.s, place.d
    fascia, skin = _back_contour(anatomy, line, place.z[:, 0])
    behind, to_skin = ((place.y - edge[:, None]).astype(np.float32) for edge in (fascia, skin))
    grown = np.clip((s - np.float32(anatomy.body_s[T12])) / np.float32(100.0), 0.05, 1.0)
    # fat gathers low, deep and near the middle, and with age
    lean = 1.7 - 1.1 * anatomy.age - 0.35 * np.clip((s - anatomy.disc_s[L3]) / 60.0, -1, 1)
    lean = lean - 0.5 * np.exp(-(((d - 28) / 10.0) ** 2))
    return _Flat(
        s=s,
        ahead=place.ahead,
        grown=grown,
        psoas_d=((d + 20) / (21 * grown + 3)) ** 2,
        quadratus_d=np.abs(d - 2) - 9,
        lean=lean.astype(np.float32),
        back=_ramp(3.0 - d, 3.0),
        behind=_ramp(-behind, 1.5),
        fascia=_ramp(np.abs(behind) - np.float32(0.5), 1.0) * np.float32(0.8),
        skin=_ramp(np.abs(to_skin + np.float32(1.2)) - np.float32(0.8), 0.8),
        air=_ramp(-to_skin, 1.0),
    )


def _front(
    anatomy: Anatomy,
    signals: Signals,
    fields: _Fields,
    flat: _Flat,
    k: int,
    own: tuple[F32, F32, F32],
    image: F32,
    labels: Labels,
) -> None:
    """Bowel in fat, psoas beside the bodies, aorta and vena cava as flow voids down to L4."""
    x, lateral, muscle = own
    s, grown = flat.s, flat.grown
    bowel = np.float32(signals.bowel) * np.clip(
        1 + np.float32(0.6) * fields.tone[k] + np.float32(0.15) * fields.fine[k], 0.05, 2.2
    )
    free = _ramp(np.float32(fields.free_mm) - flat.ahead, 10.0)
    _lay(image, labels, np.clip((fields.blobs[k] - np.float32(fields.bowel_from)) * 3, 0, 1) * free, bowel, Tissue.BOWEL)
    psoas = np.sqrt(((lateral - 26 - 14 * grown) / (17 * grown + 2)) ** 2 + flat.psoas_d) - 1
    _lay(image, labels, _ramp(psoas * np.float32(15), 2.5) * (s > anatomy.body_s[T12]), muscle, Tissue.MUSCLE)
    quadratus = np.maximum(flat.quadratus_d, 44 - lateral)
    _lay(image, labels, _ramp(quadratus, 2.5) * (s < anatomy.body_s[L5]), muscle, Tissue.MUSCLE)
    below = s - np.float32(anatomy.body_s[L4])
    reach = _ramp(s - np.float32(anatomy.body_s[S1]), 4.0)
    for side, radius in fields.vessels:
        spread = np.clip(below / np.float32(40.0), 0, 2) * np.float32(24.0 * np.sign(side))
        width = np.float32(radius) * (1 - np.float32(0.2) * np.clip(below / np.float32(30.0), 0, 1))
        vessel = np.sqrt((x - np.float32(side) - spread) ** 2 + (flat.ahead - np.float32(radius + 3.0)) ** 2) - width
        _lay(image, labels, _ramp(vessel - np.float32(1.0), 1.0) * reach, np.float32(signals.muscle), Tissue.VESSEL)
        _lay(image, labels, _ramp(vessel, 1.0) * reach, np.float32(signals.vessel), Tissue.VESSEL)


def _back(signals: Signals, fields: _Fields, flat: _Flat, k: int, own: tuple[F32, F32], image: F32, labels: Labels) -> None:
    """Paraspinal muscle with fatty streaks, fascia, subcutaneous fat, skin and air."""
    lateral, muscle = own
    coarse = fields.coarse[k]
    septa = np.exp(-((fields.septa[k] / np.float32(0.08)) ** 2))
    fat = np.float32(signals.fat) * (1 - np.float32(0.25) * septa + np.float32(0.03) * coarse)
    lean = flat.lean + np.clip((lateral - 10) / 25, 0, 0.9)
    infiltration = np.clip((fields.streak[k] + np.float32(0.4) * coarse - lean) * np.float32(0.8), 0, 0.95)
    _lay(image, labels, flat.back, muscle + (fat * np.float32(0.9) - muscle) * infiltration, Tissue.MUSCLE)
    _lay(image, labels, flat.behind, fat, Tissue.FAT)
    _lay(image, labels, flat.fascia, np.float32(signals.cortex), None)
    _lay(image, labels, flat.skin, np.float32(signals.muscle), None)
    _lay(image, labels, flat.air, np.float32(0.0), Tissue.BACKGROUND)


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
