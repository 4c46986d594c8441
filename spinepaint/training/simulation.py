"""Herniation and stenosis simulated on a real mid-sagittal slice, by deforming what is there.

The CSF column's borders are moved and its content squeezed between them, edges and all, so that dura,
roots and noise stay the slice's own. The room that opens is filled with tissue sampled from the disc
itself (herniation, bulge) or of the ligament's grey (behind the sac).
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from spinepaint.imaging.vocabulary import Severity
from spinepaint.training.anatomy2d import U_MM, DiscAnatomy
from spinepaint.training.canal_path import Array
from spinepaint.training.scene import EDGE_MM, Image, Scene, smooth_step


@dataclass(frozen=True)
class Herniation:
    """Disc material behind the posterior margin: how far, how tall, where, and how it looks.

    `grey` mixes the disc's own interior into the annulus' grey (0 dark, 1 as the disc); `darkening` takes the
    nucleus that share of the way to the annulus; `squareness` is the exponent of the bump's outline.
    """

    depth_mm: float
    height_mm: float
    centre_mm: float
    squareness: float
    grey: float
    darkening: float
    seed: int

    @property
    def degree(self) -> float:
        """Depth as a share of 10 mm."""
        return self.depth_mm / 10.0


@dataclass(frozen=True)
class Stenosis:
    """A canal narrowed to `ratio` of its AP width over `length_mm` around `centre_mm`, `front_share` of it by the disc."""

    ratio: float
    front_share: float
    length_mm: float
    centre_mm: float
    greying: float
    darkening: float
    seed: int

    @property
    def degree(self) -> float:
        """The share of the AP width that is lost."""
        return 1.0 - self.ratio


@dataclass(frozen=True)
class Measures:
    """What was done, in mm: protrusion behind the posterior margin, and the sac's AP width before and after."""

    protrusion_mm: float
    canal_before_mm: float
    canal_after_mm: float


def draw_herniation(anatomy: DiscAnatomy, severity: Severity, rng: np.random.Generator) -> Herniation | None:
    """A herniation of that severity for this canal, or None where the canal has no room for one."""
    canal = float(np.interp(0.0, U_MM, anatomy.back))
    low, high = (3.0, min(5.0, 0.32 * canal)) if severity is Severity.SMALL else (max(5.0, 0.36 * canal), min(9.0, 0.78 * canal))
    if high < low:
        return None
    depth = float(rng.uniform(low, high))
    height = float(np.clip(rng.uniform(6.5, 9.5) + 0.6 * (depth - 3.0), 6.5, 12.0))
    migration = float(rng.uniform(-1.0, 1.0)) * anatomy.disc_half_height_mm * (1.0 if rng.random() < 0.2 else 0.35)
    darkening = float(rng.uniform(0.25, 0.65)) if rng.random() < 0.75 else 0.0
    squareness, grey = float(rng.uniform(1.9, 2.6)), float(rng.uniform(0.2, 1.0))
    return Herniation(depth, height, migration, squareness, grey, darkening, int(rng.integers(2**31)))


def draw_stenosis(anatomy: DiscAnatomy, severity: Severity, rng: np.random.Generator) -> Stenosis:
    """A stenosis of that severity."""
    severe = severity is Severity.SEVERE
    return Stenosis(
        ratio=float(rng.uniform(0.13, 0.33) if severe else rng.uniform(0.47, 0.63)),
        front_share=float(rng.uniform(0.4, 0.65)),
        length_mm=float(rng.uniform(11.0, 16.0)),
        centre_mm=float(rng.uniform(-1.5, 1.5)),
        greying=float(rng.uniform(0.3, 0.55) if severe else rng.uniform(0.0, 0.2)),
        darkening=float(rng.uniform(0.25, 0.65)) if rng.random() < 0.75 else 0.0,
        seed=int(rng.integers(2**31)),
    )


def _smooth_max(a: Array, b: Array, softness: float) -> Array:
    return np.asarray(softness * np.logaddexp(a / softness, b / softness))


def _darkened_disc(scene: Scene, patch: Array, share: float) -> Array:
    """`patch` with the nucleus taken up to `share` of the way to the annulus' grey, less and less forward of the margin."""
    a = scene.anatomy
    r, c = a.disc_axis
    along, across = -(scene.u * r + scene.v * c), scene.u * c - scene.v * r
    inside = smooth_step(a.disc_half_height_mm - 0.6 - np.abs(across), 2.0) * smooth_step(along - 1.0, 2.0)
    fade = np.cos(0.5 * np.pi * np.clip((along - 8.0) / 14.0, 0.0, 1.0)) ** 2
    return np.asarray(patch - share * inside * fade * np.maximum(patch - a.annulus, 0.0))


def _disc_material(scene: Scene, front: Array, centre_mm: float, height_mm: float, grey: float, seed: int) -> Array:
    """Grey values of disc tissue behind the margin: the disc's own posterior part, mirrored, greyed to its annulus."""
    a = scene.anatomy
    u = (scene.u - centre_mm) * np.minimum(1.6 * a.disc_half_height_mm / height_mm, 1.0)
    own = scene.sample(u, -2.0 - 0.9 * np.maximum(scene.v, -1.0))
    ceiling = a.annulus + 0.55 * max(a.marrow - a.annulus, 0.0)
    own = np.minimum(own, ceiling)
    behind = (np.abs(scene.u) < 0.6 * a.disc_half_height_mm) & (scene.v > -14.0) & (scene.v < -3.0)
    disc = min(float(np.median(scene.patch[behind])) if behind.any() else a.annulus, ceiling)
    level = a.annulus + grey * max(disc - a.annulus, 0.0)
    tissue = level * (1.0 + 0.1 * scene.texture(seed, 1.6)) + 0.5 * (own - disc) * np.exp(-np.maximum(scene.v, 0.0) / 4.0)
    tissue = np.maximum(tissue, 0.6 * a.annulus)
    rim = np.exp(-(((scene.along(front) - scene.v - 1.0) / 0.8) ** 2))
    return np.asarray(tissue * (1.0 - 0.25 * rim) + 0.7 * scene.grain(seed + 1))


def _filled_front(scene: Scene, patch: Array, front: Array, material: Array) -> Array:
    """`patch` with `material` between the old and the new front of the sac, and from the disc's margin at disc height."""
    a = scene.anatomy
    new_front = scene.along(front)
    pushed = smooth_step(new_front - scene.front - 0.7, 1.0)
    at_disc = smooth_step(a.disc_half_height_mm - np.abs(scene.u), 2.0)
    base = scene.front - 0.5 + at_disc * (np.minimum(-0.6, scene.front - 0.5) - scene.front + 0.5)
    mask = pushed * smooth_step(scene.v - base, 1.4) * smooth_step(new_front - 0.45 - scene.v, 0.9)
    return np.asarray(patch + mask * (material - patch))


def _filled_back(scene: Scene, patch: Array, back: Array, seed: int) -> Array:
    """`patch` with the tissue behind the sac stretched forward to its new back, a thick dark ligament foremost."""
    a = scene.anatomy
    new_back = scene.along(back)
    room, behind = scene.back - new_back, scene.v - new_back
    source = scene.back + EDGE_MM + (behind - EDGE_MM) * (7.0 - EDGE_MM) / np.maximum(7.0 + room - EDGE_MM, 1.0)
    stretched = scene.sample(scene.u, source)
    pushed = smooth_step(room - 0.5, 1.0)
    patch = patch + pushed * smooth_step(behind - EDGE_MM, 0.8) * smooth_step(7.0 + room - behind, 0.5) * (stretched - patch)
    ligament = a.annulus + 0.12 * (a.marrow - a.annulus) * (1.0 + scene.texture(seed + 3, 1.1)) + 0.8 * scene.grain(seed + 4)
    thick = 0.75 * room * (1.0 + 0.15 * scene.texture(seed + 5, 3.0))
    mask = pushed * smooth_step(behind - 0.5, 0.9) * smooth_step(thick + 0.8 - behind, 2.2)
    return np.asarray(patch + mask * (ligament - patch))


def herniation_front(anatomy: DiscAnatomy, herniation: Herniation, gain: float = 1.0) -> Array:
    """v in mm of the sac's front over `U_MM` with the herniation at `gain` of its depth."""
    s = np.abs(U_MM - herniation.centre_mm) / (0.5 * herniation.height_mm)
    bump = gain * herniation.depth_mm * np.maximum(1.0 - s**herniation.squareness, 0.0) ** (1.0 / 1.7)
    tent = 0.2 * gain * herniation.depth_mm * np.exp(-((s / 1.7) ** 2))  # the dura is lifted off the wall around the bump
    bump = gaussian_filter1d(np.maximum(bump, tent), 1.2)
    bump *= gain * herniation.depth_mm / max(float(bump.max()), 1e-6)
    # Bodies are concave: where their wall lies in front of v = 0, the bump rises from there.
    wall = gaussian_filter1d(np.minimum(anatomy.front, 0.0), 2.0, mode="nearest")
    return np.maximum(anatomy.front, _smooth_max(anatomy.front - 0.6, wall + bump, 0.2))


def apply_herniation(scene: Scene, herniation: Herniation, gain: float = 1.0) -> Image:
    """The slice with the herniation at `gain` (0 to 1) of its depth."""
    front = herniation_front(scene.anatomy, herniation, gain)
    patch = scene.squeezed(front, scene.anatomy.back)
    material = _disc_material(scene, front, herniation.centre_mm, herniation.height_mm, herniation.grey, herniation.seed)
    patch = _filled_front(scene, patch, front, material)
    return scene.finished(_darkened_disc(scene, patch, herniation.darkening))


def stenosis_borders(anatomy: DiscAnatomy, stenosis: Stenosis, gain: float = 1.0) -> tuple[Array, Array]:
    """v in mm of the sac's front and back over `U_MM` with the stenosis at `gain` of its depth."""
    u = U_MM - stenosis.centre_mm
    window = np.exp(-np.log(2.0) * np.abs(u / (anatomy.disc_half_height_mm + 1.8)) ** 3.0)
    behind = np.exp(-np.log(2.0) * np.abs((u + 1.0) / (0.5 * stenosis.length_mm)) ** 3.0)
    lost = gain * (1.0 - stenosis.ratio) * anatomy.canal_mm
    front = anatomy.front + stenosis.front_share * lost * window
    back = anatomy.back - (1.0 - stenosis.front_share) * lost * behind
    least = 0.12 * (anatomy.back - anatomy.front)
    pinched = np.maximum(least - (back - front), 0.0)
    return front - 0.5 * pinched, back + 0.5 * pinched


def apply_stenosis(scene: Scene, stenosis: Stenosis, gain: float = 1.0) -> Image:
    """The slice with the stenosis at `gain` (0 to 1) of its depth."""
    a = scene.anatomy
    front, back = stenosis_borders(a, stenosis, gain)
    patch = scene.squeezed(front, back)
    window = np.exp(-(((scene.u - stenosis.centre_mm) / (0.7 * stenosis.length_mm)) ** 2))
    sac = smooth_step(scene.v - scene.along(front), 1.2) * smooth_step(scene.along(back) - scene.v, 1.2)
    roots = 1.0 + 0.35 * scene.texture(stenosis.seed + 2, 0.7)
    patch = patch * (1.0 - gain * stenosis.greying * window * sac * np.clip(roots, 0.3, 1.7))
    material = _disc_material(scene, front, stenosis.centre_mm, 2.6 * a.disc_half_height_mm, 0.3, stenosis.seed)
    patch = _filled_front(scene, patch, front, material)
    patch = _filled_back(scene, patch, back, stenosis.seed)
    return scene.finished(_darkened_disc(scene, patch, stenosis.darkening))


def _peak(front: Array, centre_mm: float) -> float:
    return float(front[np.abs(U_MM - centre_mm) < 2.0].max())


def _narrowest(front: Array, back: Array) -> float:
    return float((back - front)[np.abs(U_MM) < 10.0].min())


def herniate(
    image: Image, anatomy: DiscAnatomy, severity: Severity, rng: np.random.Generator
) -> tuple[Image, tuple[float, float], Measures] | None:
    """A slice with a herniation of that severity: (image, landmark (row, column), measures); None where the canal has no room.

    The landmark is the middle of the bump's base on the posterior disc margin.
    """
    drawn = draw_herniation(anatomy, severity, rng)
    if drawn is None:
        return None
    front = herniation_front(anatomy, drawn)
    measures = Measures(_peak(front, drawn.centre_mm), anatomy.canal_mm, _narrowest(front, anatomy.back))
    row, column = anatomy.to_pixels(np.array(drawn.centre_mm), np.array(0.0))
    return apply_herniation(Scene(image, anatomy), drawn), (float(row), float(column)), measures


def stenose(
    image: Image, anatomy: DiscAnatomy, severity: Severity, rng: np.random.Generator
) -> tuple[Image, tuple[float, float], Measures]:
    """A slice with a stenosis of that severity: (image, landmark (row, column), measures).

    The landmark is the middle of the canal, as it was, at disc height.
    """
    drawn = draw_stenosis(anatomy, severity, rng)
    front, back = stenosis_borders(anatomy, drawn)
    measures = Measures(_peak(front, drawn.centre_mm), anatomy.canal_mm, _narrowest(front, back))
    return apply_stenosis(Scene(image, anatomy), drawn), anatomy.canal_centre, measures
