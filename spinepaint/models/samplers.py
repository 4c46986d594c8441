"""Deterministic samplers in which every voxel has its own noise level.

A sampler walks the global time from T to 0; the time of a voxel is t_v = round(W_v · t). Both samplers
share one step, the DDIM transfer with ε held fixed, which is also PNDM's (Liu et al. 2022, eq. 11):

    x' = √(ᾱ'/ᾱ) x + (√(1 − ᾱ') − √(ᾱ'/ᾱ) √(1 − ᾱ)) ε

Written so, a voxel whose time does not move (ᾱ' = ᾱ) keeps its value exactly: no 0/0 to guard.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import Tensor

from spinepaint.models.schedule import voxel_times

Denoiser = Callable[[Tensor, int], Tensor]
"""ε of (x, t): x is (B, C, X, Y, Z), t the global time from T to 1."""

StepHook = Callable[[Tensor, int], Tensor]
"""What to do with x after a step has brought it to time t; returns the x to go on with."""


def time_pairs(total: int, steps: int) -> Iterator[tuple[int, int]]:
    """(t, next t) of each step: `steps` evenly spaced times from `total` down, ending at 0."""
    times = torch.linspace(total, 0, steps + 1, dtype=torch.float64).round().long().tolist()
    yield from pairwise(times)


def transfer(x: Tensor, eps: Tensor, alpha_bar: Tensor, alpha_bar_next: Tensor) -> Tensor:
    """The step above; every argument of one shape or broadcastable to x."""
    ratio = (alpha_bar_next / alpha_bar).sqrt()
    drift = (1.0 - alpha_bar_next).sqrt() - ratio * (1.0 - alpha_bar).sqrt()
    return (ratio * x + drift * eps).to(x.dtype)


def keep(x: Tensor, _t: int) -> Tensor:
    """The hook that changes nothing."""
    return x


@torch.no_grad()
def ddim(denoise: Denoiser, x: Tensor, weight: Tensor, alpha_bar: Tensor, steps: int, after_step: StepHook = keep) -> Tensor:
    """DDIM with η = 0 (Song et al. 2021, eq. 12): one evaluation a step.

    x (B, C, X, Y, Z) at time T, weight (B or 1, 1, X, Y, Z) in [0, 1], alpha_bar float64 (T + 1,).
    Returns x at time 0.
    """
    for t, t_next in time_pairs(len(alpha_bar) - 1, steps):
        now, then = alpha_bar[voxel_times(weight, t)], alpha_bar[voxel_times(weight, t_next)]
        x = after_step(transfer(x, denoise(x, t), now, then), t_next)
    return x


@torch.no_grad()
def pndm(denoise: Denoiser, x: Tensor, weight: Tensor, alpha_bar: Tensor, steps: int, after_step: StepHook = keep) -> Tensor:
    """PNDM without Runge-Kutta steps (Liu et al. 2022, eq. 12–13): linear multi-step, steps + 1 evaluations.

    Arguments as for `ddim`. The first step is taken twice, the second time with the mean of ε at both of
    its ends, so that the multi-step history starts in time with the steps.
    """
    history: list[Tensor] = []
    for t, t_next in time_pairs(len(alpha_bar) - 1, steps):
        now, then = alpha_bar[voxel_times(weight, t)], alpha_bar[voxel_times(weight, t_next)]
        eps = denoise(x, t)
        if not history and t_next > 0:
            ahead = denoise(transfer(x, eps, now, then), t_next)
            step_eps = (eps + ahead) / 2
        else:
            step_eps = _adams_bashforth([eps, *history])
        history = [eps, *history[:2]]
        x = after_step(transfer(x, step_eps, now, then), t_next)
    return x


def _adams_bashforth(eps: list[Tensor]) -> Tensor:
    # Newest first; orders 1 to 4.
    coefficients = {1: (1,), 2: (3 / 2, -1 / 2), 3: (23 / 12, -16 / 12, 5 / 12), 4: (55 / 24, -59 / 24, 37 / 24, -9 / 24)}
    return torch.stack([c * e for c, e in zip(coefficients[len(eps)], eps, strict=True)]).sum(dim=0)


SAMPLERS: dict[str, Callable[..., Tensor]] = {"pndm": pndm, "ddim": ddim}


def evaluations(solver: str, steps: int) -> int:
    """How often a solver calls the network."""
    return steps + 1 if solver == "pndm" and steps > 1 else steps
