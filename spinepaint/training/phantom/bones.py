"""Vertebral bodies and discs on the straightened canvas."""

import numpy as np
from numpy.typing import NDArray

from spinepaint.training.phantom.anatomy import MOBILE, Anatomy
from spinepaint.training.phantom.contrast import Signals
from spinepaint.training.phantom.geometry import Box, Canvas, Centreline
from spinepaint.training.phantom.pathology import Lesion
from spinepaint.training.phantom.texture import smooth_noise
from spinepaint.training.phantom.tissues import VERTEBRAE, Tissue

F32 = NDArray[np.float32]

PLATE_EDGE_MM = 1.0  # how far past the end plates' planes a disc reaches, where the bodies' corners are rounded


def end_plates(anatomy: Anatomy, line: Centreline, lesions: tuple[Lesion, ...], i: int, x: F32, d: F32) -> tuple[F32, F32]:
    """s of the upper and lower end plate of vertebra `i` at (x, d), in mm.

    Between parallel end plates the line's bend opens the bodies in front by 1 / (1 - kappa d); `body_wedge` is the share
    of that which the body itself takes.
    """
    depth, width = float(anatomy.depth_at(anatomy.body_s[i])), float(anatomy.width_at(anatomy.body_s[i])) / 2
    kappa = float(line.curvature(anatomy.body_s[i : i + 1])[0])
    stretch = np.clip(1 - kappa * d, 0.4, 2.0) ** np.float32(anatomy.body_wedge[i] - 1)
    hollow = np.clip(1 - ((d + 0.5 * depth) / (0.5 * depth)) ** 2, 0, None) * np.clip(1 - (x / width) ** 2, 0, None)
    half = np.float32(anatomy.body_height[i] / 2) * stretch - np.float32(anatomy.concavity[i]) * hollow
    up = sum((1 - item.height_factor) * anatomy.disc_height[i - 1] / 2 for item in lesions if item.level == i - 1)
    down = sum((1 - item.height_factor) * anatomy.disc_height[i] / 2 for item in lesions if item.level == i)
    s = np.float32(anatomy.body_s[i])
    return (s - half - np.float32(up)).astype(np.float32), (s + half + np.float32(down)).astype(np.float32)


def _outline(depth: F32, half_width: F32, x: F32) -> tuple[F32, F32]:
    """d of the anterior and posterior wall of a body or disc at lateral position x."""
    ratio = np.minimum(np.abs(x) / half_width, 1.0)
    front = -depth * (0.5 + 0.5 * (1 - ratio**2.6) ** 0.5)
    back = -depth * 0.5 * (1 - (1 - ratio**3.5) ** 0.5)
    return np.asarray(front, np.float32), np.asarray(back, np.float32)


def _footprint(anatomy: Anatomy, box: Box) -> tuple[F32, F32]:
    """Depth and half-width (1, S, 1) of bodies and discs along a box."""
    s = box.s.astype(np.float64)
    return anatomy.depth_at(s).astype(np.float32), (0.5 * anatomy.width_at(s)).astype(np.float32)


def paint_discs(
    canvas: Canvas, anatomy: Anatomy, line: Centreline, lesions: tuple[Lesion, ...], signals: Signals, seed: int
) -> None:
    """Annulus with its nucleus, between the middles of neighbouring bodies; the bodies go over it.

    What is left of it before, behind and beside the waist of a body stands for the ligaments there: it is as dark, but no disc.
    """
    for i in range(len(VERTEBRAE) - 1):
        reach_d, reach_x = anatomy.plate_depth[i] + 4.0, anatomy.plate_width[i] / 2 + 3.0
        box = canvas.box((anatomy.body_s[i], anatomy.body_s[i + 1]), (-reach_d, 1.5), (-reach_x, reach_x))
        if box is None:
            continue
        depth, half_width = _footprint(anatomy, box)
        bulge = np.float32(0.5 + 0.7 * anatomy.bulge[i])
        front, back = _outline(depth, half_width + bulge, box.x)
        distance = np.maximum(np.maximum(front - bulge - box.d, box.d - back), np.abs(box.x) - half_width - bulge)
        # fibres of the annulus: a little brighter inside than at the rim
        value = np.float32(signals.annulus) * (1 + np.float32(0.5) * np.clip(-distance / np.float32(8.0), 0, 1))
        alpha = canvas.alpha(distance.astype(np.float32))
        canvas.paint(box, alpha, value.astype(np.float32), Tissue.BACKGROUND)
        _, above = end_plates(anatomy, line, lesions, i, box.x, box.d)
        below, _ = end_plates(anatomy, line, lesions, i + 1, box.x, box.d)
        between = np.maximum(above - box.s, box.s - below) < PLATE_EDGE_MM
        canvas.mark(box, (alpha >= 0.5) & between, Tissue.ANNULUS, i + 1)
        _paint_nucleus(canvas, box, anatomy, line, lesions, signals, i, seed)


def _paint_nucleus(
    canvas: Canvas, box: Box, anatomy: Anatomy, line: Centreline, lesions: tuple[Lesion, ...], signals: Signals,
    i: int, seed: int,
) -> None:  # fmt: skip
    _, above = end_plates(anatomy, line, lesions, i, box.x, box.d)
    below, _ = end_plates(anatomy, line, lesions, i + 1, box.x, box.d)
    half = np.maximum(0.5 * (below - above), np.float32(0.4))
    depth, half_width = np.float32(anatomy.plate_depth[i]), np.float32(0.5 * anatomy.plate_width[i])
    v = (box.s - 0.5 * (above + below)) / half
    u = (box.d + np.float32(0.47) * depth) / (np.float32(0.37) * depth)
    w = box.x / (np.float32(0.68) * half_width)
    v2, u2 = v * v, u * u
    tall = v2 / np.float32(0.88**2)
    r = np.sqrt(u2 + w * w + tall * tall)
    grade = anatomy.pfirrmann[i] if MOBILE[i] else 3
    factor = next((item.nucleus_factor for item in lesions if item.level == i), 1.0)
    rng = np.random.default_rng([seed, 4, i])
    level = signals.annulus + (signals.nucleus[grade - 1] - signals.annulus) * factor
    depth_of_cleft = rng.uniform(0.15, 0.5) if grade in (2, 3) else rng.uniform(0.0, 0.2)
    cleft = np.float32(depth_of_cleft) * np.exp(-v2 / np.float32(0.2**2) - u2 * u2)
    shape = (box.x.shape[0], box.s.shape[1], box.d.shape[2])
    mottle = smooth_noise(rng, shape, (2.0, 4.0, 6.0)) * np.float32(0.06 + 0.04 * grade)
    value = np.float32(level) * (1 - cleft) * (1 + mottle)
    alpha = np.clip((np.float32(1.1) - r) / np.float32(0.3), 0, 1)
    canvas.paint(box, alpha.astype(np.float32), value.astype(np.float32), Tissue.NUCLEUS, i + 1)


def paint_bodies(
    canvas: Canvas, anatomy: Anatomy, line: Centreline, lesions: tuple[Lesion, ...], signals: Signals, seed: int
) -> None:
    """Vertebral bodies: dark cortex, marrow with a smooth texture, the basivertebral vein."""
    for i in range(len(VERTEBRAE)):
        middle = anatomy.body_s[i]
        reach = 0.75 * anatomy.body_height[i] + 4.0
        reach_d = anatomy.plate_depth[max(i - 1, 0) : i + 1].max() + 2.0
        reach_x = anatomy.plate_width[max(i - 1, 0) : i + 1].max() / 2 + 1.0
        box = canvas.box((middle - reach, middle + reach), (-reach_d, 2.0), (-reach_x, reach_x))
        if box is None:
            continue
        upper, lower = end_plates(anatomy, line, lesions, i, box.x, box.d)
        v = (box.s - np.float32(middle)) / np.float32(0.5 * anatomy.body_height[i])
        waist = np.float32(anatomy.waist[i]) * np.clip(1 - v**2, 0, None)
        depth, half_width = _footprint(anatomy, box)
        front, back = _outline(depth, half_width - waist, box.x)
        walls = np.maximum(np.maximum(front + waist - box.d, box.d - back + 0.3 * waist), np.abs(box.x) - half_width + waist)
        plates = np.maximum(upper - box.s, box.s - lower)
        # corners are rounded where a wall meets an end plate
        both = np.clip(np.minimum(walls, plates) + np.float32(2.0), 0, None)
        distance = (np.maximum(walls, plates) + np.float32(0.15) * both).astype(np.float32)
        canvas.paint(box, canvas.alpha(distance), signals.cortex, Tissue.VERTEBRA, i + 1)
        value = _marrow(box, anatomy, signals, i, seed)
        inner = canvas.alpha(distance + np.float32(signals.cortex_mm), 0.8)
        canvas.paint(box, inner, value, None)


def _marrow(box: Box, anatomy: Anatomy, signals: Signals, i: int, seed: int) -> F32:
    """Trabecular texture, fat beside degenerate end plates (Modic II), and the basivertebral vein."""
    rng = np.random.default_rng([seed, 5, i])
    shape = (box.x.shape[0], box.s.shape[1], box.d.shape[2])
    coarse = smooth_noise(rng, shape, (5.0, 14.0, 14.0))
    fine = smooth_noise(rng, shape, (1.0, 2.2, 2.2))
    value = signals.marrow * (signals.body_factor[i] + signals.marrow_coarse * coarse + signals.marrow_fine * fine)
    middle = np.float32(anatomy.body_s[i])
    for side in (-1, 1):
        disc = i if side > 0 else i - 1
        if disc >= 0 and MOBILE[disc] and anatomy.pfirrmann[disc] >= 4 and rng.random() < 0.35:
            edge = (box.s - middle) * np.float32(side) - np.float32(anatomy.body_height[i] / 2)
            band = np.clip(1 + edge / np.float32(rng.uniform(5.0, 11.0)), 0, 1)
            value += np.float32(rng.uniform(-0.12, 0.3) * signals.fat) * band * np.clip(1 + coarse, 0, 1.5)
    start, tall = rng.uniform(6.0, 12.0), rng.uniform(1.0, 2.0)
    vein = np.exp(-(((box.s - middle - np.float32(0.5)) / np.float32(tall)) ** 2) - (box.x / np.float32(5.0)) ** 2)
    vein = vein * np.clip((box.d + np.float32(start)) / np.float32(6.0), 0, 1) * np.float32(MOBILE[i])
    return np.asarray(value + np.float32(signals.vein - signals.marrow) * vein, np.float32)
