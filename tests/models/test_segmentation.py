"""The segmenter's networks, its diffusion over masks, and what `segment` makes of them."""

import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from spinepaint.models.segmentation import (
    STRUCTURES,
    DenoiserConfig,
    DiffusionNetwork,
    EnsembleConfig,
    PlainConfig,
    PlainSegmenter,
    SegmenterConfig,
    Segmenters,
    segment,
    segmenter_config,
)
from spinepaint.models.segmentation.diffusion import alpha_bar, ddim, ensemble, noised, times, uncertainty_of
from spinepaint.models.segmentation.segment import labels_of, pre_segmentation, with_neighbours

SMALL = SegmenterConfig(
    plain=PlainConfig(filters=(16, 16, 16)), denoiser=DenoiserConfig(widths=(16, 16)), ensemble=EnsembleConfig(steps=3, samples=1)
)
SPACING = (4.0, 1.0, 0.8)


class Oracle(nn.Module):
    """Stands in for a fitted network: bright pixels are vertebrae, dark ones canal, middling ones discs."""

    def forward(self, image: Tensor) -> Tensor:
        here = image[:, 1]
        return 8 * torch.stack([here - 0.75, 0.125 - (here - 0.5).abs(), torch.where(here > 0, 0.25 - here, -1.0)], dim=1)


class OracleDiffusion(nn.Module):
    """The same, whatever the noised masks are."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Identity()

    def denoiser(self, x: Tensor, u: Tensor, image: Tensor, features: Tensor) -> Tensor:
        return Oracle()(image)


ORACLE = Segmenters(SMALL, Oracle(), OracleDiffusion())  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def models() -> Segmenters:
    torch.manual_seed(0)
    return Segmenters(SMALL, PlainSegmenter(SMALL.plain).eval(), DiffusionNetwork(SMALL.denoiser).eval())


def stripes() -> tuple[np.ndarray, np.ndarray]:
    """Voxels (2, 96, 80) with a vertebra, a disc and a canal, and their labels."""
    labels = np.zeros((2, 96, 80), np.uint8)
    labels[:, 10:40, 20:50], labels[:, 40:55, 20:50], labels[:, 10:55, 50:60] = 1, 2, 3
    grey = np.array([0.0, 1.0, 0.5, 0.1], np.float32)[labels]
    return grey, labels


def test_both_networks_keep_the_grid(models: Segmenters) -> None:
    image = torch.rand(2, 3, 16, 24)
    assert models.plain(image).shape == (2, 3, 16, 24)
    assert models.diffusion(torch.randn(2, 3, 16, 24), torch.rand(2), image).shape == (2, 3, 16, 24)


def test_the_default_networks_are_small_and_keep_each_weight_once() -> None:
    config = SegmenterConfig()
    networks = [PlainSegmenter(config.plain), DiffusionNetwork(config.denoiser)]
    kept = sum(value.numel() for network in networks for value in network.state_dict().values())
    assert kept == sum(p.numel() for network in networks for p in network.parameters()) < 2_000_000
    assert config.multiple == 16


def test_the_denoiser_looks_at_masks_time_and_image(models: Segmenters) -> None:
    torch.manual_seed(1)
    x, u, image = torch.randn(1, 3, 16, 16), torch.tensor([0.3]), torch.rand(1, 3, 16, 16)
    with torch.inference_mode():
        base = models.diffusion(x, u, image)
        for other in ((x + 1, u, image), (x, u + 0.5, image), (x, u, image.flip(3))):
            assert (models.diffusion(*other) - base).abs().max() > 1e-4


def test_the_configuration_survives_json() -> None:
    assert segmenter_config(json.loads(json.dumps(asdict(SMALL)))) == SMALL


def test_the_cosine_schedule_runs_from_mask_to_noise() -> None:
    table = alpha_bar(torch.linspace(0, 1, 101))
    assert table[0] == pytest.approx(1.0) and table[-1] == pytest.approx(0.0, abs=1e-6)
    assert (table.diff() < 0).all()
    # Nichol & Dhariwal 2021, eq. 17, by hand at half time
    at_half = math.cos(0.508 / 1.008 * math.pi / 2) ** 2 / math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    assert table[50] == pytest.approx(at_half, rel=1e-5)


def test_noised_masks_have_the_schedules_moments() -> None:
    noise = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    u = torch.tensor([0.6])
    x = noised(torch.ones(1, 3, 64, 64), u, noise)
    assert x.mean() == pytest.approx(float(alpha_bar(u).sqrt()), abs=0.03)
    assert x.var() == pytest.approx(float(1 - alpha_bar(u)), rel=0.05)


@pytest.mark.parametrize(("steps", "evaluations"), [(1, 1), (2, 1), (10, 9), (30, 29), (1000, 50)])
def test_a_sampler_visits_what_was_asked(steps: int, evaluations: int) -> None:
    visited = times(steps, 50)
    assert len(visited) == evaluations + 1
    assert visited[-1] == 0 and visited[0] == ((steps - 1) / steps if steps > 1 else 1.0)
    assert visited == sorted(visited, reverse=True) and len(set(visited)) == len(visited)


def test_ddim_follows_the_exact_path_where_the_mask_is_known() -> None:
    """With x₀ predicted exactly, x stays √ᾱ x₀ + √(1 − ᾱ) ε with the first ε at every step."""
    mask = torch.where(torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(2)) > 0.5, 1.0, -1.0)
    eps = torch.randn(mask.shape, generator=torch.Generator().manual_seed(3))
    us = times(8, 50)
    seen: list[tuple[float, Tensor]] = []

    def denoiser(x: Tensor, u: Tensor, image: Tensor, features: list[Tensor]) -> Tensor:
        seen.append((float(u), x))
        return 60 * mask

    logits = list(ddim(denoiser, [], mask, noised(mask, torch.tensor(us[:1]), eps), us))  # type: ignore[arg-type]
    assert len(logits) == len(us) - 1
    for u, x in seen:
        torch.testing.assert_close(x, noised(mask, torch.tensor([u]), eps), atol=1e-4, rtol=0)


def test_uncertainty_is_highest_at_one_over_e() -> None:
    p = torch.tensor([0.0, 1 / math.e, 0.5, 1.0])
    expected = [0.0, 1 / math.e, 0.5 * math.log(2), 0.0]
    assert uncertainty_of(p).tolist() == pytest.approx(expected, abs=2e-5)


def test_the_ensemble_weighs_its_last_steps_as_published() -> None:
    """Against the equations written out in NumPy, for a denoiser whose logits are known at each step."""
    config = EnsembleConfig(steps=5, samples=2, last_steps=3)
    values = [0.3, -2.0, 1.0, 2.0]  # logits at T - 1, ..., 1: the first is not among the last three
    calls = iter(values * 2)

    class Known(nn.Module):
        encoder = nn.Identity()

        def denoiser(self, x: Tensor, *_: object) -> Tensor:
            return torch.full_like(x, next(calls))

    start = torch.ones(1, 3, 2, 2)
    drawn = ensemble(Known(), start, start, config, torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    logits = np.array(values[1:])
    p = 1 / (1 + np.exp(-logits))
    u = -p * np.log(p)
    w = np.exp(1 / (1 + np.exp(-np.arange(1, 4) / 3)) * (1 - u))
    assert float(drawn.probability[0, 0, 0, 0]) == pytest.approx((w * p).sum() / w.sum(), abs=1e-5)
    assert float(drawn.uncertainty[0, 0, 0, 0]) == pytest.approx(u.max(), abs=1e-5)


@pytest.mark.parametrize("diffusion", [False, True])
def test_structures_are_found_on_the_grid_of_the_series(diffusion: bool) -> None:
    voxels, labels = stripes()
    found = segment(ORACLE, voxels, SPACING, diffusion=diffusion)
    assert found.labels.shape == voxels.shape == found.uncertainty.shape
    assert found.probabilities.shape == (len(STRUCTURES), *voxels.shape)
    for value in (1, 2, 3):
        a, b = found.labels == value, labels == value
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.75  # grey edges look like discs
    assert found.uncertainty.min() >= 0 and found.uncertainty.max() <= 1 / math.e + 1e-6
    assert found.uncertainty[0, 25, 35] < found.uncertainty[0, 39:41, 35].max()  # borders are less certain than insides


def test_segmenting_repeats_itself_and_changes_with_the_seed(models: Segmenters) -> None:
    voxels, _ = stripes()
    before, heard = voxels.copy(), []
    first = segment(models, voxels, SPACING, seed=1, progress=heard.append)
    again, other = (segment(models, voxels, SPACING, seed=seed) for seed in (1, 2))
    assert np.array_equal(voxels, before) and heard[-1] == 1.0
    assert np.array_equal(first.probabilities, again.probabilities)
    assert not np.array_equal(first.probabilities, other.probabilities)


def test_other_shapes_and_settings_are_refused(models: Segmenters) -> None:
    with pytest.raises(ValueError, match="three axes"):
        segment(models, np.zeros((8, 8), np.float32), SPACING)
    with pytest.raises(ValueError, match="at least 1"):
        replace(SMALL.ensemble, steps=0)
    with pytest.raises(ValueError, match="none below 16"):
        PlainConfig(filters=(8, 8, 16))


def test_a_slice_stands_between_its_neighbours() -> None:
    stack = with_neighbours(torch.arange(3.0)[:, None, None].expand(3, 2, 2))
    assert stack[:, :, 0, 0].tolist() == [[0, 0, 1], [0, 1, 2], [1, 2, 2]]


def test_a_pixel_belongs_to_one_structure_at_most() -> None:
    p = torch.tensor([[0.9, 0.6], [0.7, 0.2], [0.1, 0.3]])[None, :, None]
    assert pre_segmentation(p)[0, :, 0].tolist() == [[1.0, 1.0], [-1.0, -1.0], [-1.0, -1.0]]
    assert labels_of(np.array([[0.9, 0.2], [0.7, 0.4], [0.1, 0.3]], np.float32)).tolist() == [1, 0]
