"""Shares and mean differences with their 95 % intervals."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import norm, t

from spinepaint.training.evaluation.distances import Interval


def wilson(successes: int, n: int, level: float = 0.95) -> Interval:
    """A share with its score interval (Wilson 1927): it neither leaves [0, 1] nor shrinks to a point at its ends."""
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} of {n} is no share")
    if n == 0:
        return Interval(np.nan, np.nan, np.nan)
    z = float(norm.ppf(0.5 + level / 2))
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Interval(share, max(float(centre - half), 0.0), min(float(centre + half), 1.0))


def mean_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """The mean with Student's interval; nan ends for a single value."""
    x = np.asarray(values, dtype=np.float64)
    mean = float(x.mean())
    if len(x) < 2:
        return Interval(mean, np.nan, np.nan)
    half = float(t.ppf(0.5 + level / 2, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x)))
    return Interval(mean, mean - half, mean + half)
