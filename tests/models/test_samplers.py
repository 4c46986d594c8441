"""Each sampler against the closed-form flow of a Gaussian, whose ε is known exactly."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from spinepaint.models.samplers import SAMPLERS, evaluations, time_pairs, transfer
from spinepaint.models.schedule import add_noise, alpha_bar_table, voxel_times

MEAN, STD = 0.4, 0.7
SHAPE = (1, 1, 16, 16, 16)


def exact_eps(weight: Tensor, table: Tensor, calls: list[int]) -> Callable[[Tensor, int], Tensor]:
    """ε = √(1 − ᾱ) (x − √ᾱ m) / (ᾱ s² + 1 − ᾱ) for x₀ ~ N(m, s²), by voxel."""

    def eps(x: Tensor, t: int) -> Tensor:
        calls.append(t)
        a = table[voxel_times(weight, t)]
        return (1 - a).sqrt() * (x - a.sqrt() * MEAN) / (a * STD**2 + 1 - a)

    return eps


def flow_rmse(solver: str, w: float, steps: int = 50) -> tuple[float, int]:
    """RMSE to the exact end of the probability flow, x₀ = m + s (x_T − √ᾱ m) / √(ᾱ s² + 1 − ᾱ)."""
    table = alpha_bar_table()
    weight = torch.full(SHAPE, w, dtype=torch.float64)
    generator = torch.Generator().manual_seed(3)
    clean = MEAN + STD * torch.randn(SHAPE, generator=generator, dtype=torch.float64)
    a = table[voxel_times(weight, 1000)]
    start = add_noise(clean, torch.randn(SHAPE, generator=generator, dtype=torch.float64), a)
    calls: list[int] = []
    end = SAMPLERS[solver](exact_eps(weight, table, calls), start, weight, table, steps)
    exact = MEAN + STD * (start - a.sqrt() * MEAN) / (a * STD**2 + 1 - a).sqrt()
    return float((end - exact).square().mean().sqrt()), len(calls)


def test_alpha_bar_starts_clean_and_falls() -> None:
    table = alpha_bar_table()
    assert table[0] == 1.0
    assert len(table) == 1001
    assert bool((table.diff() < 0).all())
    # β₁ = 0.0015 by the scaled-linear rule, and the end is nearly all noise.
    assert table[1] == pytest.approx(1 - 0.0015)
    assert table[-1] < 0.01


@pytest.mark.parametrize(("solver", "bound"), [("pndm", 0.016), ("ddim", 0.05)])
def test_full_weight_follows_the_flow(solver: str, bound: float) -> None:
    rmse, calls = flow_rmse(solver, 1.0)
    assert rmse <= bound
    assert calls == evaluations(solver, 50)


@pytest.mark.parametrize("w", [0.05, 0.1, 0.25])
def test_pndm_is_close_at_low_weights(w: float) -> None:
    assert flow_rmse("pndm", w)[0] <= 0.006


@pytest.mark.parametrize("solver", sorted(SAMPLERS))
def test_zero_weight_never_moves(solver: str) -> None:
    table = alpha_bar_table()
    weight = torch.zeros(SHAPE)
    start = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    end = SAMPLERS[solver](lambda x, _t: 1e3 * torch.ones_like(x), start, weight, table, 20)
    assert torch.equal(end, start)


@pytest.mark.parametrize("solver", sorted(SAMPLERS))
def test_more_steps_come_closer(solver: str) -> None:
    assert flow_rmse(solver, 1.0, 100)[0] < flow_rmse(solver, 1.0, 25)[0]


def test_pndm_beats_ddim() -> None:
    assert flow_rmse("pndm", 1.0)[0] < flow_rmse("ddim", 1.0)[0]


def test_times_go_from_total_to_zero() -> None:
    pairs = list(time_pairs(1000, 50))
    assert pairs[0] == (1000, 980)
    assert pairs[-1] == (20, 0)
    assert all(t > t_next for t, t_next in pairs)


def test_transfer_recovers_the_clean_voxel() -> None:
    # With the true ε, one step to ᾱ' = 1 is exact.
    clean, noise = torch.randn(2, 100, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    a = torch.full((100,), 0.3, dtype=torch.float64)
    assert torch.allclose(transfer(add_noise(clean, noise, a), noise, a, torch.ones(100, dtype=torch.float64)), clean)


def test_steps_report_their_times() -> None:
    seen: list[int] = []

    def hook(x: Tensor, t: int) -> Tensor:
        seen.append(t)
        return x

    x = torch.zeros(SHAPE)
    SAMPLERS["pndm"](lambda x, _t: torch.zeros_like(x), x, torch.ones(SHAPE), alpha_bar_table(), 10, hook)
    assert seen == [900, 800, 700, 600, 500, 400, 300, 200, 100, 0]
