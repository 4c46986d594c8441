"""Whether an edited patch is one of the training patches again (Dar et al. 2023 found up to a fifth in published models).

Only the patch at the landmark is compared: the surround is the donor's own anatomy, by design.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spinepaint.training.evaluation.similarity import cross_correlation, ssim

F32 = NDArray[np.float32]
_NEAREST = 5


def memorisation(edited: F32, training: F32, validation: F32, percentile: float = 99.0) -> dict[str, Any]:
    """Flag edited patches nearer to a training patch than held-out patches with a true lesion are.

    All (N, X, Y, S) in [0, 1]. Nearness is the normalised cross-correlation, and the SSIM with the five nearest by it; the
    thresholds are `percentile` of what the validation patches reach. By chance 100 − `percentile` per cent are flagged.
    """
    if min(len(edited), len(training), len(validation)) == 0:
        raise ValueError("memorisation needs edited, training and validation patches")
    known, _ = _nearest(validation, training)
    found, where = _nearest(edited, training)
    limits = np.percentile(known, percentile, axis=0)
    flagged = np.flatnonzero((found > limits).any(axis=1))
    return {
        "edited": len(edited),
        "training": len(training),
        "validation": len(validation),
        "percentile": percentile,
        "threshold": {"ncc": float(limits[0]), "ssim": float(limits[1])},
        "median": {
            "edited": {"ncc": float(np.median(found[:, 0])), "ssim": float(np.median(found[:, 1]))},
            "validation": {"ncc": float(np.median(known[:, 0])), "ssim": float(np.median(known[:, 1]))},
        },
        "flagged": [
            {"edited": int(i), "training": int(where[i]), "ncc": float(found[i, 0]), "ssim": float(found[i, 1])} for i in flagged
        ],
    }


def _nearest(patches: F32, training: F32) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(N, 2) highest correlation and SSIM with a training patch, and (N,) the most correlated one's number."""
    correlation = cross_correlation(patches, training)
    closest = np.argsort(-correlation, axis=1)[:, :_NEAREST]
    best = [
        (float(row[near[0]]), max(ssim(patch, training[k]) for k in near))
        for patch, row, near in zip(patches, correlation, closest, strict=True)
    ]
    return np.array(best), closest[:, 0].astype(np.int64)
