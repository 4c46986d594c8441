"""Distances between two sets of images by their features: FID and KID.

A set is (N, S, D): N subjects with S slices each. Slices of one subject resemble each other, so subjects, not slices,
are what is paired, counted and resampled.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

FEW = 64  # images under which a FID says more about its own bias than about the sets


@dataclass(frozen=True)
class Interval:
    """An estimate and the ends of its 95 % interval; nan where it cannot be had."""

    value: float
    low: float
    high: float


def frechet_distance(x: F64, y: F64) -> float:
    """FID of two sets of features (N, D) and (M, D): ‖μx − μy‖² + tr(Σx + Σy − 2(Σx Σy)^½) (Heusel et al. 2017, eq. 6).

    With X and Y the centred features over √(N − 1) and √(M − 1), Σx Σy has the squared singular values of X Yᵀ as its
    eigenvalues, so the trace of its root is their sum: exact with fewer images than features too, where a matrix root is
    neither quick nor sure. Biased upward the more, the fewer images. Raises ValueError for fewer than two images.
    """
    if min(len(x), len(y)) < 2:
        raise ValueError("a FID needs at least two images on either side")
    a = (x - x.mean(axis=0)) / np.sqrt(len(x) - 1)
    b = (y - y.mean(axis=0)) / np.sqrt(len(y) - 1)
    shared = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    apart = np.square(x.mean(axis=0) - y.mean(axis=0)).sum()
    return float(apart + np.square(a).sum() + np.square(b).sum() - 2.0 * shared)


def kernel_distance(x: F64, y: F64, *, subsets: int = 200, seed: int = 0) -> Interval:
    """KID of two sets (N, S, D) and (M, S', D): the unbiased MMD² with k(a, b) = (aᵀb / D + 1)³ (Bińkowski et al. 2018).

    Pairs of slices of one subject are left out, so that it is 0 on average for two samples of one distribution. The
    interval is that of half the subjects, drawn `subsets` times without replacement (delete-half jackknife: as wide as the
    whole sample's own); nan under four subjects. Raises ValueError for fewer than two subjects.
    """
    if min(len(x), len(y)) < 2:
        raise ValueError("a KID needs at least two subjects on either side")
    within_x, within_y, across = _subject_kernel(x, x), _subject_kernel(y, y), _subject_kernel(x, y)
    value = _mmd(within_x, within_y, across)
    if min(len(x), len(y)) < 4:
        return Interval(value, np.nan, np.nan)
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(subsets):
        i, j = (np.sort(rng.permutation(n)[: n // 2]) for n in (len(x), len(y)))
        drawn.append(_mmd(within_x[np.ix_(i, i)], within_y[np.ix_(j, j)], across[np.ix_(i, j)]))
    spread = 1.96 * float(np.std(drawn))
    return Interval(value, value - spread, value + spread)


def _subject_kernel(x: F64, y: F64) -> F64:
    """Mean of the kernel over the slices of each pair of subjects, (N, M)."""
    (n, s, d), (m, r, _) = x.shape, y.shape
    kernel = (x.reshape(-1, d) @ y.reshape(-1, d).T / d + 1.0) ** 3
    return np.asarray(kernel.reshape(n, s, m, r).mean(axis=(1, 3)))


def _mmd(within_x: F64, within_y: F64, across: F64) -> float:
    parts = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in (within_x, within_y)]
    return float(parts[0] + parts[1] - 2.0 * across.mean())
