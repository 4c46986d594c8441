"""Smooth random fields: cubic B-splines over random coefficients.

Four weights a sample, summed in one order whatever the number of threads, so that a seed gives the same field everywhere on
a platform.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

F32 = NDArray[np.float32]

# Setting up a sparse matrix costs more than summing four products of fields up to this size.
SMALL = 30_000


def spline_basis(n: int, step: float, phase: float = 0.0) -> tuple[NDArray[np.int64], F32]:
    """Cubic B-splines with knots `step` samples apart, the first moved by `phase`: first knot (n,) and weights (n, 4)."""
    u = np.arange(n) / step + phase
    first = u.astype(np.int64)
    t = u - first
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1) / 6
    return first, weights.astype(np.float32)


def _along_first(basis: tuple[NDArray[np.int64], F32], field: F32) -> F32:
    """Coefficients (knots, m) to samples (n, m)."""
    first, weights = basis
    n = first.size
    if n * field.shape[1] <= SMALL:
        out = weights[:, 0, None] * field[first]
        for j in (1, 2, 3):
            out += weights[:, j, None] * field[first + j]
        return out
    columns = first[:, None] + np.arange(4)
    matrix = csr_array((weights.ravel(), columns.ravel(), np.arange(0, 4 * n + 1, 4)), shape=(n, field.shape[0]))
    return np.asarray(matrix @ field)


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int, int], steps: tuple[float, float, float]) -> F32:
    """Field (N, rows, columns) of about unit standard deviation, correlated over `steps` samples (at least 1) on each axis."""
    phases = rng.uniform(0.0, 1.0, 3)
    bases = [spline_basis(n, max(step, 1.0), p) for n, step, p in zip(shape, steps, phases, strict=True)]
    k0, k1, k2 = (int(first[-1]) + 4 for first, _ in bases)
    # the variance of a spline field falls with each axis' mean squared weights, 0.479
    field = rng.standard_normal((k2, k0 * k1), dtype=np.float32) / np.float32(0.479**1.5)
    field = _along_first(bases[2], field)
    field = _along_first(bases[1], np.ascontiguousarray(field.reshape(-1, k0, k1).transpose(2, 1, 0)).reshape(k1, -1))
    field = np.ascontiguousarray(field.reshape(-1, k0, shape[2]).transpose(1, 0, 2)).reshape(k0, -1)
    return _along_first(bases[0], field).reshape(shape)
