"""What the denoiser says, and the ε that samplers are given."""

import pytest
import torch
from torch import Tensor, nn

from spinepaint.models.inpaint import Draw, denoiser
from spinepaint.models.prediction import PREDICTIONS, noise_of, target_of
from spinepaint.models.samplers import pndm
from spinepaint.models.schedule import add_noise, alpha_bar_table, voxel_times
from spinepaint.models.unet import UNetConfig

SHAPE = (2, 3, 8, 8, 4)


def drawn(seed: int) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("predicts", PREDICTIONS)
def test_the_target_gives_back_the_noise_at_every_level(predicts: str) -> None:
    clean, donor, noise = drawn(0), drawn(1), drawn(2)
    alpha_bar = alpha_bar_table()[torch.linspace(0, 1000, 8 * 8 * 4).round().long()].reshape(1, 1, 8, 8, 4)
    x = add_noise(clean, noise, alpha_bar)
    said = target_of(noise, clean, donor, alpha_bar, predicts)  # type: ignore[arg-type]
    assert torch.allclose(noise_of(said, x, donor, alpha_bar, predicts), noise, atol=1e-12)  # type: ignore[arg-type]


def test_where_all_is_noise_the_change_itself_is_said() -> None:
    clean, donor, noise = drawn(0), drawn(1), drawn(2)
    said = target_of(noise, clean, donor, alpha_bar_table()[-1:], "change")
    assert torch.allclose(said, donor - clean, atol=0.05)
    # At the end of the table a rounding of bfloat16 in ε would be worth a third of a standard deviation of the latent; here, less
    # than a hundredth.
    alpha_bar = alpha_bar_table()[-1]
    x = add_noise(clean, noise, alpha_bar)
    errors = {}
    for predicts in PREDICTIONS:
        rounded = target_of(noise, clean, donor, alpha_bar, predicts).bfloat16().double()
        eps = noise_of(rounded, x, donor, alpha_bar, predicts)
        errors[predicts] = ((x - (1 - alpha_bar).sqrt() * eps) / alpha_bar.sqrt() - clean).std().item()
    assert errors["change"] < 0.01 < 0.1 < errors["noise"]


class Oracle(nn.Module):
    """Knows what is to be painted, and says it in the terms of `predicts`."""

    def __init__(self, wanted: Tensor, table: Tensor, predicts: str) -> None:
        super().__init__()
        self.config = UNetConfig(predicts=predicts, donor=True)  # type: ignore[arg-type]
        self.wanted, self.table = wanted, table

    def forward(
        self, x: Tensor, weight: Tensor, t: Tensor, _condition: Tensor, _fsu: Tensor, degree: Tensor, donor: Tensor
    ) -> Tensor:
        alpha_bar = self.table[voxel_times(weight, t[:, None, None, None, None])]
        # The unconditional half of a guided evaluation sees nothing to paint.
        told = degree.isfinite()[:, None, None, None, None]
        clean = torch.where(told, self.wanted, donor[:, :-1])
        noise = (x - alpha_bar.sqrt() * clean) / (1 - alpha_bar).sqrt().clamp(min=1e-6)
        return target_of(noise, clean, donor[:, :-1], alpha_bar, self.config.predicts)


@pytest.mark.parametrize("predicts", PREDICTIONS)
def test_sampling_from_the_donor_ends_at_what_is_predicted(predicts: str) -> None:
    table, latent, wanted = alpha_bar_table(), drawn(0)[:1], drawn(1)[:1]
    weight = torch.full((1, 1, *SHAPE[2:]), 0.9, dtype=torch.float64)
    start = add_noise(latent, drawn(2)[:1], table[voxel_times(weight, 1000)])
    draw = Draw(0, 0, (0.0, 0.0, 0.0), degree=0.5)
    oracle = Oracle(wanted, table, predicts)
    end = pndm(denoiser(oracle, latent, weight, table, draw), start, weight, table, 50)  # type: ignore[arg-type]
    assert (end - wanted).square().mean().sqrt() < 0.02


def test_guidance_enlarges_the_change() -> None:
    table, latent, wanted = alpha_bar_table(), drawn(0)[:1], drawn(1)[:1]
    weight, x = torch.ones(1, 1, *SHAPE[2:], dtype=torch.float64), drawn(2)[:1]
    eps = {
        guidance: denoiser(
            Oracle(wanted, table, "change"),  # type: ignore[arg-type]
            latent,
            weight,
            table,
            Draw(0, 0, (0.0, 0.0, 0.0), degree=0.5, guidance=guidance),
        )(x, 900)
        for guidance in (1.0, 2.0)
    }
    alpha_bar = table[900]
    painted = {g: (x - (1 - alpha_bar).sqrt() * e) / alpha_bar.sqrt() - latent for g, e in eps.items()}
    assert torch.allclose(painted[1.0], wanted - latent, atol=1e-5)
    assert torch.allclose(painted[2.0], 2 * (wanted - latent), atol=1e-5)


def test_a_prediction_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown prediction 'x0'"):
        UNetConfig(predicts="x0")  # type: ignore[arg-type]
