"""Smooth random fields: cubic B-splines over random coefficients, drawn by two small matrix products a plane."""

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]


def spline_basis(n: int, step: float, phase: float = 0.0) -> F32:
    """(n, k) weights of cubic B-splines whose knots lie `step` samples apart; `phase` shifts the first knot."""
    u = np.arange(n) / step + phase
    k = int(np.floor(u[-1])) + 4
    t = np.abs(u[:, None] - (np.arange(k)[None, :] - 1))
    basis = np.where(t < 1, 2 / 3 - t**2 + t**3 / 2, np.clip(2 - t, 0, None) ** 3 / 6)
    return basis.astype(np.float32)


def smooth_noise(
    rng: np.random.Generator,
    shape: tuple[int, int, int],
    steps: tuple[float, float, float],
) -> F32:
    """Field (N, rows, columns) of about unit standard deviation, correlated over `steps` samples on each axis."""
    phases = rng.uniform(0.0, 1.0, 3)
    bases = [
        spline_basis(n, max(step, 1.0), p)
        for n, step, p in zip(shape, steps, phases, strict=True)
    ]
    k = tuple(b.shape[1] for b in bases)
    coarse = rng.standard_normal(k, dtype=np.float32)
    mixed = np.tensordot(bases[0], coarse, axes=(1, 0))
    field = bases[1] @ mixed @ bases[2].T
    # the variance of a spline field falls with each axis' sum of squared weights, 0.479 on average
    return np.asarray(field / np.float32(0.479**1.5), np.float32)
