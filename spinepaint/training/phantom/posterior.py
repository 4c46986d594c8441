"""Posterior elements: foramina with their roots, pedicles, articular pillars, laminae, spinous processes, sacral ala."""

import numpy as np
from numpy.typing import NDArray

from spinepaint.training.phantom.anatomy import MOBILE, Anatomy
from spinepaint.training.phantom.canal import CanalSurfaces
from spinepaint.training.phantom.contrast import Signals
from spinepaint.training.phantom.geometry import Box, Canvas
from spinepaint.training.phantom.pathology import SIDE_SHARE, Lesion
from spinepaint.training.phantom.texture import smooth_noise
from spinepaint.training.phantom.tissues import S1, S2, S3, VERTEBRAE, Tissue

F32 = NDArray[np.float32]
Triple = tuple[float, float, float]

FACET_FLAVUM_MM = 2.0


def _ellipsoid(box: Box, centre: Triple, half: Triple, lean: float, power: float = 2.0) -> F32:
    """Signed distance in mm, to first order, of a superellipsoid at (|x|, s, d), sheared by `lean` = ds/dd."""
    dd = box.d - np.float32(centre[2])
    offsets = (np.abs(box.x) - np.float32(centre[0]), box.s - np.float32(centre[1]) - np.float32(lean) * dd, dd)
    scaled = [np.abs(o / np.float32(h)) + np.float32(1e-3) for o, h in zip(offsets, half, strict=True)]
    raised = [a ** np.float32(power) for a in scaled]
    total = raised[0] + raised[1] + raised[2]
    slopes = [(b / a / np.float32(h)) ** 2 for a, b, h in zip(scaled, raised, half, strict=True)]
    gradient = np.sqrt(slopes[0] + slopes[1] + slopes[2])
    r = total ** np.float32(1 / power)
    # grad r = r^(1-p) (|u|^(p-1) / h); dividing by it makes the level set a distance
    return np.asarray((r - 1) / np.maximum(gradient * r ** np.float32(1 - power), np.float32(1e-3)), np.float32)


def paint_posterior(canvas: Canvas, anatomy: Anatomy, surfaces: CanalSurfaces, signals: Signals, seed: int) -> None:
    """Paint every vertebra's posterior elements, cranial to caudal."""
    middle = surfaces.rear.shape[0] // 2
    _interspinous(canvas, anatomy, surfaces.rear[middle], signals, seed)
    for i in range(len(VERTEBRAE)):
        rng = np.random.default_rng([seed, 6, i])
        h, s, xp = anatomy.body_height[i], anatomy.body_s[i], anatomy.pedicle_x[i]
        rear = float(np.interp(s + 0.45 * h, canvas.s, surfaces.rear[middle]))
        jitter = rng.normal(0, 1.0, 8)
        if i < S2:
            _foramen(canvas, anatomy, signals, i, rng)
        if MOBILE[i]:
            _bone(canvas, (28.0, s - 0.1 * h + jitter[5], 6.0), (11.0, 5.0, 3.6), -0.2, signals, i, rng)
            _bone(canvas, (xp + 1.0, s + 0.30 * h, 18.0), (5.5, 0.5 * h, 4.2), 0.5, signals, i, rng)
            _bone(canvas, (xp + 1.0, s + 0.80 * h + jitter[1], 23.5), (5.8, 8.5, 4.8), 0.4, signals, i, rng)
        if MOBILE[i] or i == S1:
            _bone(canvas, (xp + 2.5, s - 0.44 * h + jitter[2], 16.5), (5.8, 9.5, 4.2), -0.3, signals, i, rng)
        if i in (S1, S2, S3):
            _bone(canvas, (36.0, s + 2.0, -10.0), (22.0, 0.62 * h, 15.0), 0.15, signals, i, rng, 3.0)
        if i <= S2:
            _bone(canvas, (xp, s - 0.16 * h + jitter[0], 7.0), (4.8, 0.29 * h, 12.5), 0.08, signals, i, rng, 3.0)
            _bone(canvas, (8.5, s + 0.42 * h + jitter[3], rear + 5.0), (7.5, 0.34 * h, 3.4), 0.5, signals, i, rng, 2.5)
        length, height = anatomy.spinous_length[i], anatomy.spinous_height[i]
        half = (anatomy.spinous_half_width, height / 2, length / 2)
        _bone(canvas, (0.0, s + 0.55 * h + jitter[4], rear + 2.5 + length / 2), half, 0.15, signals, i, rng, 3.2)


def paint_facets(canvas: Canvas, anatomy: Anatomy, lesions: tuple[Lesion, ...], healthy: CanalSurfaces, signals: Signals) -> None:
    """Grown facet joints of a stenosis: they close on the sac from behind at both sides, with thick flavum before them."""
    middle = healthy.rear.shape[0] // 2
    for lesion in lesions:
        if lesion.facet_mm == 0:
            continue
        i, s = lesion.level, float(anatomy.disc_s[lesion.level])
        rear = float(np.interp(s, canvas.s, healthy.rear[middle]))
        sac = float(np.interp(s, canvas.s, healthy.half_width)) * (1 - SIDE_SHARE * (1 - lesion.sac_ratio))
        half = (4.5 + lesion.facet_mm, 0.8 * lesion.fade_mm, 4.0 + lesion.facet_mm)
        x = sac + FACET_FLAVUM_MM + half[0]
        box = canvas.box(
            (s - half[1] - 8.0, s + half[1] + 8.0), (0.0, rear + half[2] + 4.0), (-x - half[0] - 2.0, x + half[0] + 2.0)
        )
        if box is None:
            continue
        distance = _ellipsoid(box, (x, s + 1.0, rear), half, 0.35, 2.4)
        # only in front: behind it is bone
        coat = np.maximum(distance - np.float32(FACET_FLAVUM_MM - 0.5), box.d - np.float32(rear))
        canvas.paint(box, canvas.alpha(coat), signals.flavum, Tissue.FLAVUM)
        canvas.paint(box, canvas.alpha(distance), signals.cortex, Tissue.POSTERIOR_ELEMENTS, i + 1)
        inner = canvas.alpha(distance + np.float32(1.3 * signals.cortex_mm), 0.9)
        canvas.paint(box, inner, 0.75 * signals.marrow * signals.posterior_factor[i], None)


def _bone(
    canvas: Canvas, centre: Triple, half: Triple, lean: float, signals: Signals, i: int, rng: np.random.Generator,
    power: float = 2.4,
) -> None:  # fmt: skip
    slack = half[1] + abs(lean) * half[2] + 1.0
    reach = centre[0] + half[0] + 1.0
    box = canvas.box((centre[1] - slack, centre[1] + slack), (centre[2] - half[2] - 1, centre[2] + half[2] + 1), (-reach, reach))
    tone = rng.normal(1.0, 0.06)
    if box is None:
        return
    texture = smooth_noise(rng, (box.x.shape[0], box.s.shape[1], box.d.shape[2]), (1.5, 4.0, 4.0))
    distance = _ellipsoid(box, centre, half, lean, power) + np.float32(0.25) * texture
    canvas.paint(box, canvas.alpha(distance), signals.cortex, Tissue.POSTERIOR_ELEMENTS, i + 1)
    inner = canvas.alpha(distance + np.float32(signals.cortex_mm), 0.9)
    value = np.float32(signals.marrow * signals.posterior_factor[i] * tone) * (1 + np.float32(0.1) * texture)
    canvas.paint(box, inner, value, None)


def _foramen(canvas: Canvas, anatomy: Anatomy, signals: Signals, i: int, rng: np.random.Generator) -> None:
    """Fat between the pedicles of vertebrae i and i + 1, wide above and narrow below; the root high in it."""
    xp = anatomy.pedicle_x[i] + 1.0
    middle = anatomy.body_s[i] + 0.36 * anatomy.body_height[i]
    low = anatomy.disc_s[i]
    box = canvas.box((middle - 14.0, low + 14.0), (-3.0, 18.0), (-xp - 10.0, xp + 10.0))
    if box is None:
        return
    fat = np.minimum(
        _ellipsoid(box, (xp, middle, 6.5), (9.0, 8.5, 7.0), 0.0, 2.6),
        _ellipsoid(box, (xp, low + 2.0, 4.0), (8.0, 10.0, 3.8), 0.0, 2.6),
    )
    canvas.paint(box, canvas.alpha(fat, 1.0), signals.foramen_fat, Tissue.FORAMEN, i + 1)
    x, s, d = rng.normal(0, 1.0, 3)
    root = _ellipsoid(box, (xp, middle - 1.5 + s, 6.0 + d), (9.0, float(3.2 + 0.3 * x), 2.7), 0.0)
    canvas.paint(box, canvas.alpha(root, 1.0), signals.neural, Tissue.NEURAL, i + 1)
    vessel = _ellipsoid(box, (xp, middle - 4.5, 2.5 - d), (9.0, 1.3, 1.3), 0.0)
    canvas.paint(box, canvas.alpha(vessel, 1.0), signals.vessel, None)


def _interspinous(canvas: Canvas, anatomy: Anatomy, rear: NDArray[np.float64], signals: Signals, seed: int) -> None:
    """Ligament and fat in the middle plane, streaked downwards and backwards."""
    box = canvas.box((0.0, anatomy.body_s[S2]), (12.0, 56.0), (-4.0, 4.0))
    if box is None:
        return
    rng = np.random.default_rng([seed, 12])
    shape = (box.x.shape[0], box.s.shape[1], box.d.shape[2])
    streak = smooth_noise(rng, shape, (3.0, 4.0, 12.0)) + np.float32(0.7) * smooth_noise(rng, shape, (1.0, 2.5, 3.0))
    start = rear[box.index[1]].astype(np.float32)[None, :, None]
    deep = 1.0 + np.interp(box.s.astype(np.float64), anatomy.body_s, anatomy.spinous_length).astype(np.float32)
    distance = np.maximum(np.maximum(start - box.d, box.d - start - deep), np.abs(box.x) - np.float32(3.0))
    fatty = np.clip(np.float32(0.12 + 0.35 * anatomy.age) + np.float32(0.2) * streak, 0, 1)
    value = signals.muscle + (np.float32(signals.fat) - signals.muscle) * fatty
    canvas.paint(box, canvas.alpha(distance.astype(np.float32), 1.5), value.astype(np.float32), Tissue.MUSCLE)
