"""Vertebral bodies, discs and posterior elements on the straightened canvas."""

import numpy as np
from numpy.typing import NDArray

from spinepaint.training.phantom.anatomy import Anatomy
from spinepaint.training.phantom.canal import CanalSurfaces
from spinepaint.training.phantom.contrast import Signals
from spinepaint.training.phantom.geometry import Box, Canvas, Centreline
from spinepaint.training.phantom.pathology import Lesion
from spinepaint.training.phantom.texture import smooth_noise
from spinepaint.training.phantom.tissues import VERTEBRAE, Tissue

F32 = NDArray[np.float32]


def end_plates(
    anatomy: Anatomy,
    line: Centreline,
    lesions: tuple[Lesion, ...],
    i: int,
    x: F32,
    d: F32,
) -> tuple[F32, F32]:
    """s of the upper and lower end plate of vertebra `i` at (x, d), in mm."""
    depth, width = anatomy.body_depth[i], anatomy.body_width[i] / 2
    kappa = float(line.curvature(np.array([anatomy.body_s[i]]))[0])
    stretch = np.clip(1 - kappa * d, 0.4, 2.0) ** np.float32(anatomy.body_wedge[i] - 1)
    hollow = np.clip(1 - ((d + 0.5 * depth) / (0.5 * depth)) ** 2, 0, None) * np.clip(
        1 - (x / width) ** 2, 0, None
    )
    half = (
        np.float32(anatomy.body_height[i] / 2) * stretch
        - np.float32(anatomy.concavity[i]) * hollow
    )
    up = sum(
        (1 - item.height_factor) * anatomy.disc_height[i - 1] / 2
        for item in lesions
        if item.level == i - 1
    )
    down = sum(
        (1 - item.height_factor) * anatomy.disc_height[i] / 2
        for item in lesions
        if item.level == i
    )
    s = np.float32(anatomy.body_s[i])
    return (s - half - np.float32(up)).astype(np.float32), (
        s + half + np.float32(down)
    ).astype(np.float32)


def _outline(depth: F32 | float, half_width: F32 | float, x: F32) -> tuple[F32, F32]:
    """d of the anterior and posterior wall of a body or disc at lateral position x."""
    ratio = np.minimum(np.abs(x) / half_width, 1.0)
    front = -depth * (0.5 + 0.5 * (1 - ratio**2.6) ** 0.5)
    back = -depth * 0.5 * (1 - (1 - ratio**3.5) ** 0.5)
    return np.asarray(front, np.float32), np.asarray(back, np.float32)


def paint_discs(
    canvas: Canvas,
    anatomy: Anatomy,
    line: Centreline,
    lesions: tuple[Lesion, ...],
    signals: Signals,
    seed: int,
) -> None:
    """Annulus with its nucleus, between the middles of neighbouring bodies; the bodies go over it."""
    for i in range(len(VERTEBRAE) - 1):
        depth = 0.5 * (anatomy.body_depth[i] + anatomy.body_depth[i + 1]) + 0.8
        half_width = 0.25 * (anatomy.body_width[i] + anatomy.body_width[i + 1]) + 0.5
        box = canvas.box(
            (anatomy.body_s[i], anatomy.body_s[i + 1]),
            (-depth - 3.0, 1.5),
            (-half_width - 1.0, half_width + 1.0),
        )
        if box is None:
            continue
        front, back = _outline(depth, half_width, box.x)
        bulge = np.float32(0.4 + 0.6 * anatomy.bulge[i])
        distance = np.maximum(
            np.maximum(front - bulge - box.d, box.d - back),
            np.abs(box.x) - np.float32(half_width),
        )
        canvas.paint(
            box,
            canvas.alpha(distance.astype(np.float32)),
            signals.annulus,
            Tissue.ANNULUS,
            i + 1,
        )
        _paint_nucleus(
            canvas, box, anatomy, line, lesions, signals, i, depth, half_width, seed
        )


def _paint_nucleus(
    canvas: Canvas, box: Box, anatomy: Anatomy, line: Centreline, lesions: tuple[Lesion, ...], signals: Signals,
    i: int, depth: float, half_width: float, seed: int,
) -> None:  # fmt: skip
    _, above = end_plates(anatomy, line, lesions, i, box.x, box.d)
    below, _ = end_plates(anatomy, line, lesions, i + 1, box.x, box.d)
    half = np.maximum(0.5 * (below - above), np.float32(0.4))
    v = (box.s - 0.5 * (above + below)) / half
    u = (box.d + np.float32(0.47 * depth)) / np.float32(0.36 * depth)
    w = box.x / np.float32(0.68 * half_width)
    r = np.sqrt(u**4 + w**4 + (v / np.float32(0.86)) ** 4) ** 0.5
    grade = anatomy.pfirrmann[i] if i < 8 else 4
    factor = next((item.nucleus_factor for item in lesions if item.level == i), 1.0)
    rng = np.random.default_rng([seed, 4, i])
    level = signals.annulus + (signals.nucleus[grade - 1] - signals.annulus) * factor
    cleft = np.float32(rng.uniform(0.1, 0.45) * (grade in (2, 3)) + 0.1) * np.exp(
        -((v / np.float32(0.22)) ** 2) - u**4
    )
    mottle = smooth_noise(
        rng, (box.x.shape[0], box.s.shape[1], box.d.shape[2]), (2.0, 4.0, 6.0)
    )
    value = np.float32(level) * (1 - cleft) * (1 + np.float32(0.1) * mottle)
    alpha = np.clip((np.float32(1.08) - r) / np.float32(0.28), 0, 1)
    canvas.paint(
        box, alpha.astype(np.float32), value.astype(np.float32), Tissue.NUCLEUS, i + 1
    )


def paint_bodies(
    canvas: Canvas,
    anatomy: Anatomy,
    line: Centreline,
    lesions: tuple[Lesion, ...],
    signals: Signals,
    seed: int,
) -> None:
    """Vertebral bodies: dark cortex, marrow with a smooth texture, the basivertebral vein."""
    for i in range(len(VERTEBRAE)):
        half_width = np.float32(anatomy.body_width[i] / 2)
        depth = float(anatomy.body_depth[i])
        reach = 0.75 * anatomy.body_height[i] + 4.0
        middle = anatomy.body_s[i]
        box = canvas.box(
            (middle - reach, middle + reach),
            (-depth - 2.0, 2.0),
            (-float(half_width) - 1.0, float(half_width) + 1.0),
        )
        if box is None:
            continue
        upper, lower = end_plates(anatomy, line, lesions, i, box.x, box.d)
        v = (box.s - np.float32(middle)) / np.float32(0.5 * anatomy.body_height[i])
        waist = np.float32(anatomy.waist[i]) * np.clip(1 - v**2, 0, None)
        front, back = _outline(depth, half_width - waist, box.x)
        walls = np.maximum(
            np.maximum(front + waist - box.d, box.d - back + 0.4 * waist),
            np.abs(box.x) - half_width + waist,
        )
        plates = np.maximum(upper - box.s, box.s - lower)
        distance = (
            np.maximum(walls, plates)
            + 0.15 * np.clip(np.minimum(walls, plates) + 2.0, 0, None)
        ).astype(np.float32)
        canvas.paint(
            box, canvas.alpha(distance), signals.cortex, Tissue.VERTEBRA, i + 1
        )
        rng = np.random.default_rng([seed, 5, i])
        shape = (box.x.shape[0], box.s.shape[1], box.d.shape[2])
        coarse = smooth_noise(rng, shape, (5.0, 16.0, 16.0))
        fine = smooth_noise(rng, shape, (1.0, 2.5, 2.2))
        value = signals.marrow * (
            signals.body_factor[i]
            + signals.marrow_coarse * coarse
            + signals.marrow_fine * fine
        )
        vein = np.exp(
            -(((box.s - np.float32(middle + 1.0)) / 1.6) ** 2) - (box.x / 5.0) ** 2
        )
        vein = vein * np.clip(
            (box.d + np.float32(rng.uniform(6.0, 12.0))) / np.float32(6.0), 0, 1
        )
        value += np.float32(signals.vein - signals.marrow) * np.float32(i < 8) * vein
        inner = canvas.alpha(distance + np.float32(signals.cortex_mm), 0.8)
        canvas.paint(box, inner, value.astype(np.float32), None)


def _ellipsoid(
    box: Box,
    centre: tuple[float, float, float],
    half: tuple[float, float, float],
    lean: float,
    power: float = 2.0,
) -> F32:
    """Signed distance in mm, nearly, of a superellipsoid at (|x|, s, d), sheared by `lean` = ds/dd."""
    dx = (np.abs(box.x) - np.float32(centre[0])) / np.float32(half[0])
    dd = box.d - np.float32(centre[2])
    ds = (box.s - np.float32(centre[1]) - np.float32(lean) * dd) / np.float32(half[1])
    r = (
        np.abs(dx) ** power
        + np.abs(ds) ** power
        + np.abs(dd / np.float32(half[2])) ** power
    ) ** np.float32(1 / power)
    return np.asarray((r - 1) * np.float32(min(half)), np.float32)


def paint_posterior(
    canvas: Canvas,
    anatomy: Anatomy,
    surfaces: CanalSurfaces,
    signals: Signals,
    seed: int,
) -> None:
    """Foramina with their roots, pedicles, articular processes, laminae and spinous processes."""
    mid = surfaces.rear.shape[0] // 2
    for i in range(len(VERTEBRAE)):
        h, s, xp = anatomy.body_height[i], anatomy.body_s[i], anatomy.pedicle_x[i]
        rear = float(np.interp(s + 0.45 * h, canvas.s, surfaces.rear[mid]))
        rng = np.random.default_rng([seed, 6, i])
        jitter = rng.normal(0, 1.0, 6)
        if 0 < i < 9:
            _foramen(canvas, anatomy, signals, i, rng)
        if i < 8:
            _bone(
                canvas,
                (xp + 1.5, s + 0.78 * h + jitter[1], 21.0),
                (5.0, 9.0, 4.2),
                0.35,
                signals,
                i,
            )
            _bone(
                canvas,
                (xp + 2.0, s - 0.40 * h + jitter[2], 16.0),
                (5.5, 9.5, 4.0),
                -0.25,
                signals,
                i,
            )
        if i < 9:
            _bone(
                canvas,
                (xp, s - 0.16 * h + jitter[0], 8.0),
                (4.6, 0.29 * h, 13.0),
                0.05,
                signals,
                i,
                3.0,
            )
            _bone(
                canvas,
                (8.0, s + 0.42 * h + jitter[3], rear + 5.0),
                (7.0, 0.33 * h, 3.6),
                0.5,
                signals,
                i,
                2.5,
            )
        length, height = anatomy.spinous_length[i], anatomy.spinous_height[i]
        centre = (0.0, s + 0.55 * h + jitter[4], rear + 2.5 + length / 2)
        _bone(
            canvas,
            centre,
            (anatomy.spinous_half_width, height / 2, length / 2),
            0.12,
            signals,
            i,
            3.0,
        )


def _bone(
    canvas: Canvas, centre: tuple[float, float, float], half: tuple[float, float, float], lean: float,
    signals: Signals, i: int, power: float = 2.4,
) -> None:  # fmt: skip
    slack = half[1] + abs(lean) * half[2] + 1.0
    reach = centre[0] + half[0] + 1.0
    box = canvas.box(
        (centre[1] - slack, centre[1] + slack),
        (centre[2] - half[2] - 1, centre[2] + half[2] + 1),
        (-reach, reach),
    )
    if box is None:
        return
    distance = _ellipsoid(box, centre, half, lean, power)
    canvas.paint(
        box, canvas.alpha(distance), signals.cortex, Tissue.POSTERIOR_ELEMENTS, i + 1
    )
    inner = canvas.alpha(distance + np.float32(signals.cortex_mm), 0.9)
    canvas.paint(box, inner, signals.marrow * signals.posterior_factor[i], None)


def _foramen(
    canvas: Canvas, anatomy: Anatomy, signals: Signals, i: int, rng: np.random.Generator
) -> None:
    """Fat between the pedicles of vertebrae i and i + 1, the root high in it."""
    xp = anatomy.pedicle_x[i] + 1.0
    middle = anatomy.body_s[i] + 0.36 * anatomy.body_height[i]
    box = canvas.box(
        (middle - 16.0, middle + 16.0), (-3.0, 18.0), (-xp - 9.0, xp + 9.0)
    )
    if box is None:
        return
    fat = _ellipsoid(box, (xp, middle + 2.0, 6.5), (8.0, 13.0, 7.5), 0.0, 3.0)
    canvas.paint(
        box, canvas.alpha(fat, 1.0), signals.foramen_fat, Tissue.FORAMEN, i + 1
    )
    root = _ellipsoid(
        box, (xp, middle - 3.0 + float(rng.normal(0, 1)), 5.5), (8.5, 3.4, 2.6), 0.0
    )
    canvas.paint(box, canvas.alpha(root, 1.0), signals.neural, Tissue.NEURAL, i + 1)
