"""Diffusion over masks: the cosine schedule, DDIM with x₀-prediction, and the step-uncertainty ensemble (arXiv 2411.10755).

Masks are ±1. Time u runs from 0, clean, to 1, noise; a sampler with T steps visits u = t/T. The denoiser is told u and not t,
so that one network serves every T.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from spinepaint.models.schedule import add_noise
from spinepaint.models.segmentation.config import EnsembleConfig
from spinepaint.models.segmentation.networks import Denoiser, DiffusionNetwork

_OFFSET = 0.008  # s of the cosine schedule
_LEAST_PROBABILITY = 1e-6


@dataclass(frozen=True)
class Drawn:
    """Means of an ensemble, each (B, structures, H, W): probability, and uncertainty in nats (0 to 1/e)."""

    probability: Tensor
    uncertainty: Tensor


def alpha_bar(u: Tensor) -> Tensor:
    """ᾱ(u) = f(u)/f(0), f(u) = cos²(π/2 · (u + s)/(1 + s)) (Nichol & Dhariwal 2021, eq. 17); u from 0 to 1, any shape."""
    f = torch.cos(0.5 * math.pi * (u + _OFFSET) / (1 + _OFFSET)) ** 2
    return f / math.cos(0.5 * math.pi * _OFFSET / (1 + _OFFSET)) ** 2


def noised(masks: Tensor, u: Tensor, noise: Tensor) -> Tensor:
    """Masks (B, structures, H, W) of ±1 at the time u (B,)."""
    return add_noise(masks, noise, alpha_bar(u)[:, None, None, None])


def times(steps: int, most_evaluations: int) -> list[float]:
    """The times u that a sampler visits: T − 1 of T and on to 0, every one of them or `most_evaluations` evenly spaced ones.

    A single step goes from noise alone to the mask.
    """
    if steps == 1:
        return [1.0, 0.0]
    evaluations = min(steps - 1, most_evaluations)
    return [(steps - 1) / steps * (1 - k / evaluations) for k in range(evaluations + 1)]


def uncertainty_of(probability: Tensor) -> Tensor:
    """u = −p ln p in nats, 0 where p is 0 or 1, at most 1/e."""
    p = probability.clamp(_LEAST_PROBABILITY, 1.0)
    return -p * p.log()


def ddim(denoiser: Denoiser, features: list[Tensor], image: Tensor, x: Tensor, us: list[float]) -> Iterator[Tensor]:
    """The denoiser's logits at each step of DDIM (Song et al. 2021, eq. 12 with η = 0), from x at the time us[0] to 0.

    The mean of a mask of ±1 whose probability is σ(logit) is 2σ(logit) − 1: that is the predicted x₀.
    """
    for now, then in pairwise(us):
        u = torch.full((len(x),), now, device=x.device)
        logits = denoiser(x, u, image, features).float()
        yield logits
        clean = 2 * torch.sigmoid(logits) - 1
        a, b = alpha_bar(torch.tensor(now)), alpha_bar(torch.tensor(then))
        eps = (x - a.sqrt() * clean) / (1 - a).sqrt()
        x = b.sqrt() * clean + (1 - b).clamp_min(0).sqrt() * eps


def ensemble(
    network: DiffusionNetwork, image: Tensor, start: Tensor, config: EnsembleConfig, generator: torch.Generator
) -> Drawn:
    """Draw S samples from a pre-segmentation and average their last T_s steps, the certain and the late ones most.

    p̄_k = σ(mean_s logit), u_k = −p̄_k ln p̄_k, w_k = exp(σ(k/T_s)(1 − u_k)), x̂ = Σ_k w_k mean_s x̂₀ / Σ_k w_k with k = 1 … T_s
    up to the last step; the probability is (x̂ + 1)/2, the uncertainty max_k u_k.

    image (B, 3, H, W); start (B, structures, H, W), the pre-segmentation as masks of ±1, hard or soft.
    """
    us = times(config.steps, config.most_evaluations)
    last = min(config.last_steps, len(us) - 1)
    features = network.encoder(image)
    sums = [torch.zeros_like(start) for _ in range(2 * last)]
    for _ in range(config.samples):
        noise = torch.randn(start.shape, generator=generator).to(start)
        x = noised(start, torch.full((len(start),), us[0], device=start.device), noise)
        for k, logits in enumerate(ddim(network.denoiser, features, image, x, us), start=last - len(us) + 1):
            if k >= 0:
                sums[k] += logits / config.samples
                sums[last + k] += (2 * torch.sigmoid(logits) - 1) / config.samples
    worst, total, weights = torch.zeros_like(start), torch.zeros_like(start), torch.zeros_like(start)
    for k, (logits, clean) in enumerate(zip(sums[:last], sums[last:], strict=True), start=1):
        uncertainty = uncertainty_of(torch.sigmoid(logits))
        weight = torch.exp(torch.sigmoid(torch.tensor(k / last)) * (1 - uncertainty))
        worst, total, weights = torch.maximum(worst, uncertainty), total + weight * clean, weights + weight
    return Drawn((total / weights + 1) / 2, worst)
