"""Smooth random fields: cubic B-splines over random coefficients.

The weights are sparse matrices (four a row): quick, and the sums run in one order whatever the number of threads, so that a
seed gives the same field everywhere on a platform.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

F32 = NDArray[np.float32]


def spline_basis(n: int, step: float, phase: float = 0.0) -> csr_array:
    """(n, k) weights of cubic B-splines whose knots lie `step` samples apart; `phase` shifts the first knot."""
    u = np.arange(n) / step + phase
    first = np.floor(u).astype(np.int64)
    t = np.abs(u[:, None] - first[:, None] - np.array([-1.0, 0.0, 1.0, 2.0]))
    weights = np.where(t < 1, 2 / 3 - t**2 + t**3 / 2, np.clip(2 - t, 0, None) ** 3 / 6).astype(np.float32)
    columns = first[:, None] + np.arange(4)
    return csr_array((weights.ravel(), columns.ravel(), np.arange(0, 4 * n + 1, 4)), shape=(n, int(first[-1]) + 4))


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int, int], steps: tuple[float, float, float]) -> F32:
    """Field (N, rows, columns) of about unit standard deviation, correlated over `steps` samples (at least 1) on each axis."""
    phases = rng.uniform(0.0, 1.0, 3)
    planes, rows, columns = (spline_basis(n, max(step, 1.0), p) for n, step, p in zip(shape, steps, phases, strict=True))
    k0, k1, k2 = planes.shape[1], rows.shape[1], columns.shape[1]
    field = columns @ rng.standard_normal((k2, k0 * k1), dtype=np.float32)
    field = rows @ np.ascontiguousarray(field.reshape(-1, k0, k1).transpose(2, 1, 0)).reshape(k1, -1)
    field = planes @ np.ascontiguousarray(field.reshape(-1, k0, shape[2]).transpose(1, 0, 2)).reshape(k0, -1)
    # the variance of a spline field falls with each axis' mean squared weights, 0.479
    return np.asarray(field, np.float32).reshape(shape) / np.float32(0.479**1.5)
