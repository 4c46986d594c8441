"""How noisy a slice is, from the slice alone."""

import numpy as np
from numpy.typing import NDArray


def noise_level(image: NDArray[np.float32]) -> float:
    """Standard deviation of the noise, robustly, from the residue of a 3x3 Laplacian-like mask (Immerkaer 1996)."""
    d = image[:, 2:] - 2 * image[:, 1:-1] + image[:, :-2]
    residue = d[2:] - 2 * d[1:-1] + d[:-2]
    inside = image[1:-1, 1:-1] > 8
    return float(np.median(np.abs(residue[inside])) / 0.6745 / 6.0) if inside.any() else 0.0
