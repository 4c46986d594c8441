"""Whether an edit can be told from its surroundings: noise inside it, and gradients across its border."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def noise_ratio(before: NDArray[np.float32], after: NDArray[np.float32], mask: NDArray[np.float32]) -> float:
    """Noise inside the edit against a ring just outside it, over the same ratio in the source; 1 is ideal.

    Dividing by the source's own ratio takes out what the anatomy contributes: the two regions hold
    different tissues. Arrays are (slice, row, column). Noise is the median absolute deviation of what a
    Gaussian of 1 pixel in plane leaves.
    """
    inside = mask > 0.5
    ring = (mask == 0) & ndimage.binary_dilation(mask > 0, iterations=8)
    if inside.sum() < 50 or ring.sum() < 50:
        return 1.0
    levels = [_noise(image, region) for image in (after, before) for region in (inside, ring)]
    inside_after, ring_after, inside_before, ring_before = (max(level, 1e-6) for level in levels)
    return float((inside_after / ring_after) / (inside_before / ring_before))


def seam_ratio(before: NDArray[np.float32], after: NDArray[np.float32], mask: NDArray[np.float32]) -> float:
    """Mean in-plane gradient over the edit's outer border, after over before; 1 is no seam.

    The border is where the mask has just left 0, up to 0.01: a step there is nobody's anatomy.
    """
    border = ndimage.binary_dilation((mask > 0) & (mask < 0.01), iterations=1)
    if not border.any():
        return 1.0
    return float(_gradient(after)[border].mean() / max(float(_gradient(before)[border].mean()), 1e-6))


def _noise(image: NDArray[np.float32], region: NDArray[np.bool_]) -> float:
    residual = image - ndimage.gaussian_filter(image, (0, 1, 1))
    values = residual[region]
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


def _gradient(image: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.hypot(np.gradient(image, axis=1), np.gradient(image, axis=2)), dtype=np.float32)
