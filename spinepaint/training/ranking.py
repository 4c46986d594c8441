"""How well a score tells cases apart."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata


def auc(score: NDArray[np.floating], positive: NDArray[np.bool_]) -> float:
    """Area under the ROC curve: how often a positive's score is over a negative's, ties half; nan without both."""
    hits, misses = int(positive.sum()), int((~positive).sum())
    if not hits or not misses:
        return float("nan")
    return float((rankdata(score)[positive].sum() - hits * (hits + 1) / 2) / (hits * misses))
