"""Likeness of two patches: MS-SSIM as in the paper's diversity figures, SSIM, and normalised cross-correlation.

A patch is (X, Y, S): sagittal slices along the last axis, grey values in [0, 1].
"""

from typing import cast

import numpy as np
import torch
from monai.metrics.regression import KernelType, MultiScaleSSIMMetric, SSIMMetric
from numpy.typing import NDArray

F32 = NDArray[np.float32]

MS_SSIM = "MS-SSIM on slices, kernel 7, 3 scales"
# The first three of Wang et al.'s five weights, made to sum to 1: five scales with kernel 11 need a side over 160.
_WEIGHTS = tuple(float(w) for w in np.array([0.0448, 0.2856, 0.3001]) / np.sum([0.0448, 0.2856, 0.3001]))


def ms_ssim(a: F32, b: F32) -> float:
    """Mean over slices of the multi-scale SSIM (Wang et al. 2003) of two patches of at least 25 pixels a side; 1 for equals."""
    metric = MultiScaleSSIMMetric(2, 1.0, KernelType.GAUSSIAN, kernel_size=7, weights=_WEIGHTS)
    return float(cast("torch.Tensor", metric(_images(a), _images(b))).mean())


def ssim(a: F32, b: F32) -> float:
    """Mean over slices of the SSIM (Wang et al. 2004, kernel 7) of two patches; 1 for equals."""
    metric = SSIMMetric(2, 1.0, KernelType.GAUSSIAN, win_size=7)
    return float(cast("torch.Tensor", metric(_images(a), _images(b))).mean())


def diversity(patches: F32, pairs: int = 100, seed: int = 0) -> float:
    """Mean MS-SSIM over up to `pairs` pairs drawn from patches (N, X, Y, S): the lower, the more diverse; nan for N < 2."""
    first, second = np.triu_indices(len(patches), 1)
    if first.size == 0:
        return float("nan")
    chosen = np.random.default_rng(seed).permutation(first.size)[:pairs]
    return float(np.mean([ms_ssim(patches[first[k]], patches[second[k]]) for k in chosen]))


def cross_correlation(a: F32, b: F32) -> F32:
    """Normalised cross-correlation (N, M) of two sets of patches (N, X, Y, S): 1 for equals up to gain and offset."""
    left, right = _standardised(a), _standardised(b)
    return np.asarray(left @ right.T / left.shape[1], dtype=np.float32)


def _standardised(patches: F32) -> F32:
    flat = patches.reshape(len(patches), -1).astype(np.float32)
    centred = flat - flat.mean(axis=1, keepdims=True)
    return np.asarray(centred / np.maximum(centred.std(axis=1, keepdims=True), 1e-6))


def _images(patch: F32) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(patch.transpose(2, 0, 1), dtype=np.float32))[:, None]
