"""The three methods behind one call, with small perturbed networks."""

import pytest
import torch
from torch import Tensor

from spinepaint.models.autoencoder import AutoencoderConfig, SliceAutoencoder
from spinepaint.models.inpaint import METHODS, Draw, Inpainter, inpaint, noise_weight
from spinepaint.models.samplers import SAMPLERS
from spinepaint.models.schedule import alpha_bar_table
from spinepaint.models.unet import ConditionalUNet, UNetConfig
from spinepaint.models.weighting import gaussian_weight

EXTENT = (80.0, 80.0, 50.0)
MIDDLE = (40.0, 40.0, 25.0)


@pytest.fixture(scope="module")
def models() -> Inpainter:
    torch.manual_seed(0)
    autoencoder = SliceAutoencoder(AutoencoderConfig(channels=16, encoder_blocks=1, decoder_blocks=1, codes=64)).eval()
    autoencoder.codebook.vectors.copy_(torch.randn(64, 3))
    unet = ConditionalUNet(UNetConfig(channels=(16, 32), head_channels=16, norm_groups=8)).eval()
    with torch.no_grad():
        # MONAI starts with zeroed output layers: conditioning would have no effect.
        for parameter in unet.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return Inpainter(autoencoder, unet, alpha_bar_table(), EXTENT)


@pytest.fixture(scope="module")
def crop() -> Tensor:
    return torch.randn(64, 64, 16, generator=torch.Generator().manual_seed(5)).clamp(-1, 1)


def draw(**changes: object) -> Draw:
    settings: dict[str, object] = {"condition": 0, "fsu": 3, "landmark_mm": MIDDLE, "steps": 4}
    return Draw(**{**settings, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("solver", ["pndm", "ddim"])
def test_every_method_and_solver_gives_a_crop(models: Inpainter, crop: Tensor, method: str, solver: str) -> None:
    result = inpaint(models, crop, draw(method=method, solver=solver))
    assert result.edit.shape == result.original.shape == crop.shape
    assert bool(torch.isfinite(result.edit).all())
    assert result.network_evaluations == (5 if solver == "pndm" else 4)


def test_same_seed_same_pixels_other_seed_others(models: Inpainter, crop: Tensor) -> None:
    first, again, other = (inpaint(models, crop, draw(seed=seed)).edit for seed in (7, 7, 8))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("change", [{"condition": 3}, {"fsu": 0}, {"guidance": 2.0}])
def test_conditions_matter(models: Inpainter, crop: Tensor, change: dict[str, object]) -> None:
    plain, changed = inpaint(models, crop, draw()).edit, inpaint(models, crop, draw(**change)).edit
    assert not torch.allclose(plain, changed, atol=1e-4)


def test_masked_leaves_the_known_region_alone(models: Inpainter, crop: Tensor) -> None:
    result = inpaint(models, crop, draw(method="masked"))
    inside = noise_weight(gaussian_weight((64, 64, 16), EXTENT, MIDDLE, 16.0), "masked")[0, 0] > 0
    moved = (result.edit - result.original).abs()
    # Not zero outside: the decoder's normalisation looks at whole slices. The latent there does not move at all.
    assert moved[:8, :8].mean() < 0.35 * moved[inside].mean()


def test_masked_weight_holds_the_latent_outside_still() -> None:
    weight = noise_weight(gaussian_weight((16, 16, 16), EXTENT, MIDDLE, 16.0), "masked")
    start = torch.randn(1, 3, 16, 16, 16, generator=torch.Generator().manual_seed(2))
    end = SAMPLERS["pndm"](lambda x, _t: torch.randn_like(x), start, weight, alpha_bar_table(), 6)
    still = (weight == 0).expand_as(start)
    assert bool(still.any())
    assert torch.equal(end[still], start[still])


def test_weighted_moves_the_landmark_more_than_the_corner(models: Inpainter, crop: Tensor) -> None:
    result = inpaint(models, crop, draw(sigma_mm=8.0, steps=8))
    moved = (result.edit - result.original).abs()
    assert moved[28:36, 28:36, 6:10].mean() > 3 * moved[:4, :4, :2].mean()


def test_progress_is_told_and_may_stop_the_draw(models: Inpainter, crop: Tensor) -> None:
    heard: list[float] = []
    inpaint(models, crop, draw(steps=5), heard.append)
    assert heard == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])

    class StopError(Exception):
        pass

    def stop(_share: float) -> None:
        raise StopError

    with pytest.raises(StopError):
        inpaint(models, crop, draw(), stop)


@pytest.mark.parametrize("change", [{"method": "magic"}, {"solver": "euler"}])
def test_unknown_names_are_refused(models: Inpainter, crop: Tensor, change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="unknown"):
        inpaint(models, crop, draw(**change))
