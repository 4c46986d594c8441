"""What a training step is noised from, and when."""

import numpy as np
import torch

from spinepaint.models.schedule import alpha_bar_table
from spinepaint.training.noising import draw_times, noise_towards

SHAPE = (400, 1, 4, 4, 2)


def donors(known: bool) -> torch.Tensor:
    return torch.full((400, 2, 4, 4, 2), float(known))


def test_without_a_share_every_crop_is_noised_from_its_lesion() -> None:
    times, part = draw_times(np.random.default_rng(0), donors(True), 1.0, 0.0, 0.6)
    assert bool((part == 0).all())
    assert 0 < times.min() < 0.05
    assert 0.95 < times.max() <= 1


def test_the_share_starts_at_the_donor_and_goes_on_from_what_is_painted() -> None:
    times, part = draw_times(np.random.default_rng(0), donors(True), 1.0, 0.5, 0.6)
    chosen = part > 0
    assert 0.42 < chosen.float().mean() < 0.58
    assert bool((times[part == 1] == 1).all())
    assert 0.1 < (part == 1).float().mean() < 0.3
    between = chosen & (part < 1)
    assert times[between].min() >= 0.6
    assert times[~chosen].min() < 0.1


def test_a_crop_without_a_known_donor_is_noised_from_its_lesion() -> None:
    _, part = draw_times(np.random.default_rng(0), donors(False), 1.0, 0.9, 0.6)
    assert bool((part == 0).all())


def test_the_noise_points_at_the_lesion_whatever_was_noised() -> None:
    generator = torch.Generator().manual_seed(0)
    clean, donor, noise = (torch.randn(SHAPE, generator=generator, dtype=torch.float64) for _ in range(3))
    alpha_bar = alpha_bar_table()[torch.linspace(1, 1000, 400).long()][:, None, None, None, None]
    part = torch.rand(400, generator=generator)
    x, towards = noise_towards(clean, donor, part, noise, alpha_bar)
    assert torch.allclose(x, alpha_bar.sqrt() * clean + (1 - alpha_bar).sqrt() * towards, atol=1e-6)
    late = alpha_bar.flatten() < 0.5
    assert torch.equal(towards[~late], noise[~late])
    whole = alpha_bar.sqrt() * torch.lerp(clean, donor, part[:, None, None, None, None].double()) + (1 - alpha_bar).sqrt() * noise
    assert torch.allclose(x[late], whole[late], atol=1e-6)
