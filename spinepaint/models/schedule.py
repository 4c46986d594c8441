"""The noise schedule as a table of ᾱ, with ᾱ[0] = 1."""

import torch
from torch import Tensor


def alpha_bar_table(steps: int = 1000, beta_start: float = 0.0015, beta_end: float = 0.0195) -> Tensor:
    """ᾱ of t = 0 … `steps` for the scaled-linear β of Rombach et al. 2022; float64 (steps + 1,).

    ᾱ[0] = 1, so a voxel whose own time is 0 is clean and never moves, and sampling ends without a
    remainder of noise. ᾱ[t] = ∏_{s ≤ t} (1 − β_s).
    """
    betas = torch.linspace(beta_start**0.5, beta_end**0.5, steps, dtype=torch.float64) ** 2
    return torch.cat([torch.ones(1, dtype=torch.float64), torch.cumprod(1.0 - betas, dim=0)])


def voxel_times(weight: Tensor, t: int | Tensor) -> Tensor:
    """t_v = round(W_v · t), the time of each voxel (arXiv 2406.02477); long, shaped as `weight`."""
    return torch.round(weight * t).long()


def add_noise(clean: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """x_t = √ᾱ x₀ + √(1 − ᾱ) ε with ᾱ of each voxel (Ho et al. 2020, eq. 4)."""
    return alpha_bar.sqrt() * clean + (1.0 - alpha_bar).sqrt() * noise
