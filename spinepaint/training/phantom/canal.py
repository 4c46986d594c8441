"""The spinal canal: sac, roots and cord, epidural fat, flavum, and what a lesion does to them.

Every boundary is a height field d(x, s), so that a lesion is a rise of one field and everything in the
sac (roots, cord) is placed by its relative depth u in [0, 1] and moves aside by itself.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from spinepaint.imaging.vocabulary import Pathology
from spinepaint.training.phantom.anatomy import Anatomy, canal_profile
from spinepaint.training.phantom.contrast import Signals
from spinepaint.training.phantom.geometry import Box, Canvas
from spinepaint.training.phantom.pathology import SIDE_SHARE, TONGUE, Lesion
from spinepaint.training.phantom.tissues import L1, VERTEBRAE, Tissue

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

DURA_MM = 0.5
ROOTS = 30


@dataclass(frozen=True)
class CanalSurfaces:
    """Height fields (X, S) in mm behind the posterior vertebral wall.

    disc: posterior surface of disc material; front and back: the sac; rear: where flavum begins;
    half_width: of the sac, (S,).
    """

    disc: F64
    front: F64
    back: F64
    rear: F64
    half_width: F64


def canal_surfaces(anatomy: Anatomy, lesions: tuple[Lesion, ...], x: F64, s: F64) -> CanalSurfaces:
    """The canal's height fields at lateral positions `x` (X, S) and `s` (S,), with the lesions."""
    profile = canal_profile(anatomy, s)
    fall = np.exp(-((x / 9.0) ** 2))
    disc = np.full(x.shape, -2.0)
    for i in range(len(VERTEBRAE) - 1):
        disc = np.maximum(disc, _bulge(anatomy, i, anatomy.bulge[i], x, s))
    ratio, front_share = np.ones_like(s), np.zeros_like(s)
    for lesion in lesions:
        if lesion.pathology is Pathology.DISC_HERNIATION:
            disc = np.maximum(disc, _herniation(anatomy, lesion, x, s))
        else:
            fade = np.exp(-(np.abs((s - anatomy.disc_s[lesion.level]) / lesion.fade_mm) ** 3))
            ratio -= (1 - lesion.sac_ratio) * fade
            front_share += lesion.front_share * fade
            lost = (1 - lesion.sac_ratio) * np.interp(anatomy.disc_s[lesion.level], s, profile.depth)
            disc = np.maximum(
                disc,
                _bulge(anatomy, lesion.level, 0.8 + lesion.front_share * lost, x, s),
            )
    lost_depth = profile.depth * (1 - ratio)
    half_width = profile.half_width * (1 - SIDE_SHARE * (1 - ratio))
    chord = np.sqrt(np.clip(1 - (x / half_width) ** 2, 0.0, None))
    front_mid = profile.gap + front_share * lost_depth
    centre = front_mid + 0.5 * profile.depth * ratio
    half = 0.5 * profile.depth * ratio * chord
    back = centre + half
    front = np.minimum(np.maximum(centre - half, disc + DURA_MM + 0.1), back)
    rear = profile.gap + profile.depth + profile.fat * fall - 0.25 * np.clip(np.abs(x) - 4.0, 0.0, None)
    rear = np.maximum(
        rear - (1 - front_share) * lost_depth - (1 - ratio) * profile.fat * fall * 0.8,
        back + 0.4,
    )
    return CanalSurfaces(disc, front, back, rear, half_width)


def _bulge(anatomy: Anatomy, level: int, height: float, x: F64, s: F64) -> F64:
    along = np.exp(-(np.abs((s - anatomy.disc_s[level]) / (0.5 * anatomy.disc_height[level] + 0.8)) ** 4))
    return np.asarray((height + 2.0) * along * np.exp(-(np.abs(x / 17.0) ** 4)) - 2.0)


def _herniation(anatomy: Anatomy, lesion: Lesion, x: F64, s: F64) -> F64:
    offset = s - anatomy.disc_s[lesion.level]
    along = np.exp(-(np.abs(offset / np.where(offset < 0, lesion.up_mm, lesion.down_mm)) ** 3.0))
    across = np.exp(-(np.abs((x - lesion.x_mm) / lesion.half_width_mm) ** 2.4))
    bump = (lesion.protrusion_mm + 2.0) * along * across - 2.0
    if lesion.migration_mm == 0:
        return np.asarray(bump)
    # a tongue from the apex, thinner and narrower, which ends bluntly
    down = lesion.migration_mm > 0
    end = (lesion.down_mm if down else lesion.up_mm) + abs(lesion.migration_mm)
    forward = offset if down else -offset
    along = np.exp(-((np.clip(forward, 0.0, None) / end) ** 6)) * (forward > 0)
    across = np.exp(-(np.abs((x - lesion.x_mm) / (0.75 * lesion.half_width_mm)) ** 2.4))
    return np.asarray(np.maximum(bump, (TONGUE * lesion.protrusion_mm + 2.0) * along * across - 2.0))


def paint_epidural(canvas: Canvas, anatomy: Anatomy, surfaces: CanalSurfaces, healthy: CanalSurfaces, signals: Signals) -> None:
    """Fat around the sac, and the flavum behind it, before bones are painted over them.

    A stenosis moves the flavum's front, not its back on the laminae: it thickens.
    """
    limit = float(anatomy.sac_half_width.max()) + 8.0
    box = canvas.box((0.0, float(canvas.s[-1])), (-4.0, 34.0), (-limit, limit))
    if box is None:
        return
    rear = _on(surfaces.rear, box.index)
    side = np.abs(box.x) - (anatomy.sac_half_width.max() + 3.0)
    behind = _on(healthy.rear, box.index) + np.float32(anatomy.flavum)
    flavum = np.maximum(np.maximum(box.d - behind, -3.0 - box.d), side - 2.0)
    canvas.paint(box, canvas.alpha(flavum.astype(np.float32)), signals.flavum, Tissue.FLAVUM)
    fat = np.maximum(np.maximum(box.d - rear, -3.0 - box.d), side).astype(np.float32)
    front = canvas.alpha((box.d - _on(surfaces.front, box.index)).astype(np.float32), 1.5)
    value = signals.epidural_fat + (signals.anterior_epidural - signals.epidural_fat) * front
    canvas.paint(box, canvas.alpha(fat), value, Tissue.EPIDURAL_FAT)


def paint_sac(
    canvas: Canvas,
    anatomy: Anatomy,
    lesions: tuple[Lesion, ...],
    surfaces: CanalSurfaces,
    healthy: CanalSurfaces,
    signals: Signals,
    seed: int,
) -> None:
    """Dura, CSF, cord and roots; `healthy` are the surfaces without lesions, which place the roots."""
    limit = float(anatomy.sac_half_width.max()) + 1.0
    box = canvas.box((0.0, anatomy.sac_end_s + 2.0), (-3.0, 32.0), (-limit, limit))
    if box is None:
        return
    front, back = _on(surfaces.front, box.index), _on(surfaces.back, box.index)
    half_width = np.broadcast_to(surfaces.half_width, surfaces.front.shape)
    side = np.abs(box.x) - _on(half_width, box.index)
    distance = np.maximum(np.maximum(front - box.d, box.d - back), side).astype(np.float32)
    canvas.paint(box, canvas.alpha(distance - np.float32(DURA_MM)), signals.dura, None)
    csf = np.full(box.s.shape, signals.csf, np.float32)
    for lesion in lesions:
        if lesion.sac_ratio < 0.4:
            fade = np.exp(-(np.abs((box.s - anatomy.disc_s[lesion.level]) / lesion.fade_mm) ** 3)).astype(np.float32)
            csf = csf * (1 - np.float32(0.3) * fade)
    # a root keeps its relative depth in the sac, so a lesion pushes and crowds the roots
    normal_front, normal_back = _on(healthy.front, box.index), _on(healthy.back, box.index)
    ratio = (normal_back - normal_front) / np.maximum(back - front, np.float32(0.5))
    d = np.where((front == normal_front) & (back == normal_back), box.d, normal_front + (box.d - front) * ratio)
    neural = _neural(anatomy, box, d.astype(np.float32), seed)
    if signals.flow_void > 0:
        csf = csf * _flow(anatomy, box, d.astype(np.float32), signals, seed)
    value = csf + (np.float32(signals.neural) - csf) * neural
    alpha = canvas.alpha(distance)
    canvas.paint(box, alpha, value, Tissue.CSF)
    inside = (alpha >= 0.5) & (neural > 0.5)
    canvas.labels[box.index][inside] = Tissue.NEURAL


def _neural(anatomy: Anatomy, box: Box, d: F32, seed: int) -> F32:
    """How much of each point is cord or root, 0 to 1; `d` is where the point lies in the sac without lesions."""
    rng = np.random.default_rng([seed, 3])
    x, s1 = box.x, box.s[0, :, 0].astype(np.float64)
    profile = canal_profile(anatomy, s1)
    smooth = max(1.0, 10.0 / float(s1[1] - s1[0]))
    front = gaussian_filter1d(profile.gap, smooth).astype(np.float32)[None, :, None]
    depth = gaussian_filter1d(profile.depth, smooth).astype(np.float32)[None, :, None]
    taper = np.sqrt(np.clip((anatomy.conus_s - s1) / 30.0, 0.0, 1.0)).astype(np.float32)[None, :, None]
    radius = np.maximum(np.float32(anatomy.cord_half_depth) * taper, np.float32(0.05))
    centre = front + np.float32(rng.uniform(0.48, 0.58)) * depth
    r = np.sqrt(((d - centre) / radius) ** 2 + (x / (radius * np.float32(1.25))) ** 2)
    out = np.clip((1 - r) * radius / np.float32(0.6) + np.float32(0.5), 0, 1) * (taper > 0.1)
    below = np.clip((s1 - anatomy.conus_s + 12.0) / 25.0, 0.0, 1.0).astype(np.float32)[None, :, None]
    fan = np.clip((s1 - anatomy.conus_s) / 60.0, 0.0, 1.0)
    layering = rng.uniform(0.68, 0.84)
    for _ in range(ROOTS):
        u_low = np.clip(rng.normal(layering, 0.13), 0.3, 0.95)
        leave = rng.uniform(anatomy.disc_s[L1], anatomy.sac_end_s)
        wave = rng.uniform(0.0, 0.03) * np.sin(s1 / rng.uniform(15.0, 40.0) + rng.uniform(0, 6.3))
        u = rng.uniform(0.5, 0.9) * (1 - fan) + u_low * fan + wave - 0.35 * np.clip((s1 - leave) / 40.0, 0, 1)
        xs = np.interp(s1, anatomy.body_s, anatomy.sac_half_width) * (0.25 + 0.75 * fan) * rng.uniform(-0.85, 0.85)
        size = rng.uniform(0.5, 0.9)
        near = np.any(np.abs(x[:, :, 0] - xs) < 2.2, axis=1).nonzero()[0]
        if near.size == 0:
            continue
        k = slice(near[0], near[-1] + 1)
        du = d[k] - front - np.clip(u, 0.06, 0.96).astype(np.float32)[None, :, None] * depth
        dx = x[k] - xs.astype(np.float32)[None, :, None]
        out[k] += np.exp(-(du * du + dx * dx) / np.float32(2 * size**2)) * below
    return np.asarray(np.minimum(out, np.float32(1)), np.float32)


def _flow(anatomy: Anatomy, box: Box, d: F32, signals: Signals, seed: int) -> F32:
    """What is left of the CSF's signal where its pulse makes eddies: behind the cord, and in streaks below it."""
    rng = np.random.default_rng([seed, 16])
    profile = canal_profile(anatomy, box.s[0, :, 0].astype(np.float64))
    front, depth = (edge.astype(np.float32)[None, :, None] for edge in (profile.gap, np.maximum(profile.depth, 1.0)))
    u = (d - front) / depth
    left = np.ones(np.broadcast_shapes(box.x.shape, box.s.shape, d.shape), np.float32)
    for _ in range(int(rng.integers(1, 4))):
        middle = np.float32(anatomy.conus_s + rng.uniform(-70.0, 35.0))
        length, tall = np.float32(rng.uniform(6.0, 22.0)), np.float32(rng.uniform(0.07, 0.14))
        place, x = np.float32(rng.uniform(0.78, 0.92)), np.float32(rng.normal(0.0, 1.5))
        spot = np.exp(-(((box.s - middle) / length) ** 2) - ((box.x - x) / np.float32(4.0)) ** 2) * np.exp(
            -(((u - place) / tall) ** 2)
        )
        left *= 1 - np.float32(signals.flow_void * rng.uniform(0.6, 1.0)) * spot
    return left


def paint_disc_material(
    canvas: Canvas,
    anatomy: Anatomy,
    lesions: tuple[Lesion, ...],
    surfaces: CanalSurfaces,
    signals: Signals,
) -> None:
    """What bulges or herniates behind the posterior vertebral line, painted after the bones and before the sac."""
    for level in range(len(VERTEBRAE) - 1):
        lesion = next((item for item in lesions if item.level == level), None)
        reach = 0.5 * anatomy.disc_height[level] + 3.0
        if lesion is not None:
            reach = max(reach, 1.5 * lesion.up_mm, 1.5 * lesion.down_mm)
            reach = max(reach, lesion.up_mm + 1.3 * abs(lesion.migration_mm), lesion.down_mm + 1.3 * abs(lesion.migration_mm))
        middle = anatomy.disc_s[level]
        box = canvas.box((middle - reach, middle + reach), (-0.5, 12.0), (-19.0, 19.0))
        if box is None:
            continue
        disc = _on(surfaces.disc, box.index)
        distance = np.maximum(box.d - disc, -0.4 - box.d).astype(np.float32)
        herniated = lesion is not None and lesion.pathology is Pathology.DISC_HERNIATION
        rim = np.float32(signals.annulus)
        core = np.clip((disc - box.d - np.float32(1.0)) / np.float32(1.5), 0, 1)
        value = rim + np.float32(lesion.signal * (signals.nucleus_bright - signals.annulus) if lesion else 0.0) * core
        tissue = Tissue.HERNIATION if herniated else Tissue.ANNULUS
        canvas.paint(box, canvas.alpha(distance), value.astype(np.float32), tissue, level + 1)


def _on(field: F64, index: tuple[slice, slice, slice]) -> F32:
    """The part of an (X, S) field in a box, shaped to broadcast along d."""
    return field[index[0], index[1], None].astype(np.float32)
