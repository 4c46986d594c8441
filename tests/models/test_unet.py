"""The degree as a condition: off by default, without effect at the start, and heard once it is trained."""

import pytest
import torch
from torch import Tensor

from spinepaint.models.unet import ConditionalUNet, ConditionEmbedding, UNetConfig

SIZES = {"channels": (16, 32), "head_channels": 16, "norm_groups": 8}


def perturbed(waves: int) -> ConditionalUNet:
    torch.manual_seed(0)
    unet = ConditionalUNet(UNetConfig(degree_waves=waves, **SIZES)).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return unet


def eps(unet: ConditionalUNet, degree: float | None, condition: int = 1) -> Tensor:
    x = torch.randn(1, 3, 8, 8, 4, generator=torch.Generator().manual_seed(1))
    told = None if degree is None else torch.tensor([degree])
    with torch.no_grad():
        out: Tensor = unet(x, x[:, :1], torch.tensor([500]), torch.tensor([condition]), torch.tensor([2]), told)
    return out


def test_a_network_without_waves_does_not_look_at_the_degree() -> None:
    unet = perturbed(0)
    assert torch.equal(eps(unet, 0.3), eps(unet, 0.8))


def test_a_network_with_waves_hears_the_degree() -> None:
    unet = perturbed(4)
    assert not torch.allclose(eps(unet, 0.3), eps(unet, 0.8), atol=1e-4)


def test_not_told_is_nan_or_none_and_differs_from_every_degree() -> None:
    unet = perturbed(4)
    untold = eps(unet, None)
    assert torch.equal(untold, eps(unet, float("nan")))
    assert bool(torch.isfinite(untold).all())
    assert not torch.allclose(untold, eps(unet, 0.0), atol=1e-4)


def test_the_degree_starts_without_effect() -> None:
    embedding = ConditionEmbedding(5, 16, 4)
    low, high = (embedding(torch.tensor([[2.0, degree]])) for degree in (0.1, 0.9))
    assert torch.equal(low, high)
    assert torch.equal(low, embedding.table(torch.tensor([2])))


@pytest.mark.parametrize("condition", [0, 3])
def test_the_same_degree_means_something_else_for_another_class(condition: int) -> None:
    embedding = ConditionEmbedding(5, 16, 4)
    torch.nn.init.normal_(embedding.outer.weight)
    added = [embedding(torch.tensor([[c, 0.5]])) - embedding.table(torch.tensor([int(c)])) for c in (1.0, float(condition))]
    assert not torch.allclose(*added, atol=1e-4)
