"""Makes phantom slices look like real ones, so that a segmenter that learnt from phantoms also reads patients.

The labels stay exact: grey values are remapped, blurred and spoilt, and a real slice lends its histogram, its fine texture
and what lies around its spine, but nothing moves.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter, gaussian_filter1d, map_coordinates

from spinepaint.models.localiser import normalise
from spinepaint.training.localiser_scenes import SCENE_MM
from spinepaint.training.segmenter_spines import Look

F32 = NDArray[np.float32]

_AROUND_MM = (5.0, 14.0)  # of a phantom's structures: where a real surrounding begins, and where it is alone
_BEYOND_MM = 22.0  # how far past its outermost discs a real slice is used
# A real slice's own spine, which no label names, must not be seen: so far before and behind its axis, and 10 mm more for a ramp.
_FRONT_MM, _BACK_MM, _RAMP_MM = 32.0, 42.0, 10.0
_TEXTURE_MM = 1.6  # coarser than this a real slice is anatomy, finer it is texture and noise


def match_histogram(image: F32, to: F32, share: float) -> F32:
    """`image` with the grey values of `to`, rank for rank, mixed with its own: 0 leaves it, 1 gives the other's histogram."""
    ranks = np.linspace(0.0, 1.0, 129)
    own, other = (np.quantile(values, ranks) for values in (image, to))
    own = np.maximum.accumulate(own + 1e-6 * ranks)
    mapped = np.interp(image, own, other).astype(np.float32)
    return np.asarray(np.float32(1 - share) * image + np.float32(share) * mapped, np.float32)


def bend(image: F32, rng: np.random.Generator) -> F32:
    """Grey values through a random rising curve: another sequence's contrast, in which what was brighter stays so."""
    knots = np.linspace(0.0, 1.5, 6)
    steps = np.exp(rng.normal(0.0, 0.45, 5))
    values = np.concatenate([[0.0], np.cumsum(steps)])
    return np.asarray(np.interp(image, knots, values * (1.5 / values[-1])), np.float32)


def spine_columns(masks: F32) -> NDArray[np.float64] | None:
    """The column of the middle of the vertebrae and discs in each row of masks (3, H, W); None where few rows have any."""
    column = masks[:2].sum(axis=0)
    weight = column.sum(axis=1)
    rows = np.flatnonzero(weight > 4)
    if rows.size < 30:
        return None
    places = (column[rows] @ np.arange(column.shape[1])) / weight[rows]
    smooth = gaussian_filter1d(np.interp(np.arange(len(weight)), rows, places), 6.0, mode="nearest")
    return np.asarray(smooth, np.float64)


def surround(image: F32, masks: F32, look: Look, spacing_mm: float, rng: np.random.Generator) -> F32:
    """The phantom's spine within a real slice's surroundings.

    image (3, H, W), a slice and its neighbours; masks (3, H, W). Each row of the real slice is shifted so that its spine lies
    under the phantom's. Near the phantom's structures, past the real slice's outermost discs and where its own spine lies, the
    phantom stays alone.
    """
    columns = spine_columns(masks)
    if columns is None or len(look.centres) < 3:
        return image
    rows = np.arange(masks.shape[1])
    structures = masks.max(axis=0) > 0.5
    first, last = np.flatnonzero(masks[:2].max(axis=(0, 2)) > 0.5)[[0, -1]]
    step = spacing_mm / SCENE_MM
    top, bottom = look.centres[[0, -1], 0]
    # The real discs' middle lies at the middle of the phantom's spine, up to a random shift.
    shift = (top + bottom) / 2 - step * ((first + last) / 2 + rng.uniform(-20, 20))
    real_rows = rows * step + shift
    real_columns = np.interp(real_rows, look.centres[:, 0], look.centres[:, 1])
    grid = real_columns[:, None] + step * (np.arange(masks.shape[2]) - columns[:, None])
    places = np.stack([np.broadcast_to(real_rows[:, None], grid.shape), grid])
    inside = np.all([(p >= 0) & (p <= n - 1) for p, n in zip(places, look.image.shape, strict=True)], axis=0)
    real = map_coordinates(look.image, places, order=1, mode="nearest").astype(np.float32)
    away = distance_transform_edt(~structures) * spacing_mm
    share = np.clip((away - _AROUND_MM[0]) / (_AROUND_MM[1] - _AROUND_MM[0]), 0.0, 1.0)
    behind = spacing_mm * (np.arange(masks.shape[2]) - columns[:, None])
    share *= np.clip(np.maximum(-behind - _FRONT_MM, behind - _BACK_MM) / _RAMP_MM, 0.0, 1.0)
    past = np.maximum(top - _BEYOND_MM - real_rows, real_rows - bottom - _BEYOND_MM)
    share *= np.clip(1 - past / 10.0, 0.0, 1.0)[:, None]
    share = gaussian_filter(share * inside, 1.0).astype(np.float32)
    return np.asarray(image + share * (real - image), np.float32)


def lend_texture(image: F32, look: Look, amount: float, rng: np.random.Generator) -> F32:
    """Add what is fine in a real slice, another place of it for each of the (3, H, W) slices."""
    height, width = image.shape[1:]
    fine = look.image - gaussian_filter(look.image, _TEXTURE_MM / SCENE_MM)
    # Without the real anatomy's edges, which would be drawn where there is none.
    fine = np.where(np.abs(fine) < 3.0 * float(np.median(np.abs(fine))) + 1e-3, fine, 0.0)
    fine = np.pad(fine, [(0, max(0, height - fine.shape[0])), (0, max(0, width - fine.shape[1]))], "wrap")
    out = image.copy()
    for plane in out:
        r, c = (int(rng.integers(0, n - m + 1)) for n, m in zip(fine.shape, (height, width), strict=True))
        plane += np.float32(amount) * fine[r : r + height, c : c + width]
    return out


def spoil(image: F32, rng: np.random.Generator) -> F32:
    """Another scanner's coil, sharpness, noise and gain; (3, H, W), the same coil for all."""
    rows, columns = (np.linspace(-1, 1, n, dtype=np.float32) for n in image.shape[1:])
    slope = rng.normal(0, [0.45, 0.4, 0.25, 0.2]).astype(np.float32)
    field = slope[0] * rows[:, None] + slope[1] * columns + slope[2] * rows[:, None] ** 2 + slope[3] * columns**2
    out = np.clip(image, 0, None) ** np.float32(np.exp(rng.normal(0, 0.25))) * np.exp(field)
    if rng.random() < 0.4:
        out = gaussian_filter(out, (0, *rng.uniform(0.2, 0.9, 2)))
    out = out + rng.normal(0, rng.uniform(0, 0.08) * float(out.mean()), image.shape)
    ceiling = np.percentile(out[1], rng.uniform(94, 99.5)) if rng.random() < 0.4 else np.inf
    return normalise(np.minimum(np.abs(out), ceiling).astype(np.float32))


def disguise(image: F32, masks: F32, looks: list[Look], spacing_mm: float, rng: np.random.Generator, *, t1: bool) -> F32:
    """A phantom's slice with its neighbours, (3, H, W) about 0–1, in a random disguise.

    The real slices are T2: they lend a T1 phantom their texture alone.
    """
    look = looks[int(rng.integers(len(looks)))] if looks else None
    if look is not None and not t1 and rng.random() < 0.5:
        image = match_histogram(image, look.image, float(rng.uniform(0.3, 1.0)))
    if rng.random() < 0.5:
        image = bend(image, rng)
    if look is not None and not t1 and rng.random() < 0.4:
        image = surround(image, masks, look, spacing_mm, rng)
    if look is not None and rng.random() < 0.5:
        image = lend_texture(image, look, float(rng.uniform(0.3, 1.2)), rng)
    return spoil(image, rng)
