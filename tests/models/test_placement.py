"""Every network of a bundle where the setting puts it: inputs go there, results come back, the noise is the CPU's."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from spinepaint.models import inpaint as inpainting
from spinepaint.models.batching import inpaint_many
from spinepaint.models.inpaint import Draw, Inpainter, inpaint
from spinepaint.models.localiser import DiscLocaliser, LocaliserConfig, heatmaps
from spinepaint.models.placement import device_of
from spinepaint.models.rl_localiser import RlLocaliser, RlLocaliserConfig
from spinepaint.models.rl_localiser_walk import look
from spinepaint.models.segmentation import (
    DenoiserConfig,
    DiffusionNetwork,
    PlainConfig,
    PlainSegmenter,
    SegmenterConfig,
    Segmenters,
)
from tests.models.elsewhere import Elsewhere
from tests.models.tiny import CROP, tiny_inpainter

segment_module = import_module("spinepaint.models.segmentation.segment")  # the package has a function of its name


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Half precision is off, so that both devices give the same."""
    for module in (inpainting, segment_module):
        monkeypatch.setattr(module, "half_precision", lambda _device: nullcontext())
    with Elsewhere():
        yield


def moved(network: nn.Module) -> Any:
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    there = network.eval().to("meta")
    assert device_of(there).type == "meta"
    return there


@pytest.mark.usefixtures("elsewhere")
def test_the_device_that_is_not_there_refuses_what_a_gpu_would() -> None:
    layer = moved(nn.Linear(2, 2))
    with pytest.raises(RuntimeError, match="two devices"):
        layer(torch.ones(1, 2))
    with pytest.raises((TypeError, RuntimeError)):
        layer(torch.ones(1, 2).to("meta")).numpy()
    assert layer(torch.ones(1, 2).to("meta")).cpu().shape == (1, 2)


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("method", ["weighted", "repaint"])
def test_inpainting_goes_there_and_comes_back(method: Any) -> None:
    here, there = tiny_inpainter(), tiny_inpainter()
    there = Inpainter(moved(there.autoencoder), moved(there.unet), there.alpha_bar, there.extent_mm)
    crop = torch.randn(CROP, generator=torch.Generator().manual_seed(1)).clamp(-1, 1)
    draw = Draw(0, 3, (40.0, 40.0, 25.0), steps=2, guidance=2.0, seed=4, method=method, degree=0.5)
    expected, found = inpaint(here, crop, draw), inpaint(there, crop, draw)
    assert found.edit.device.type == found.original.device.type == "cpu"
    assert torch.allclose(found.original, expected.original, atol=1e-4)
    assert (found.edit - expected.edit).abs().mean() < 1e-3  # a seed means the same noise there
    both = inpaint_many(there, [crop, crop], [draw, replace(draw, seed=5)])
    assert torch.allclose(both[0].edit, found.edit, atol=1e-4)
    assert both[1].edit.device.type == "cpu"


@pytest.mark.usefixtures("elsewhere")
def test_the_localiser_goes_there_and_comes_back() -> None:
    torch.manual_seed(0)
    network = DiscLocaliser(LocaliserConfig(widths=(8, 8, 8), deep_blocks=1)).eval()
    slices = torch.rand(5, 1, 32, 32)
    expected = heatmaps(network, slices)
    found = heatmaps(moved(network), slices)
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_allclose(b, a, atol=1e-5)


@pytest.mark.usefixtures("elsewhere")
def test_agents_see_there_and_are_told_here() -> None:
    torch.manual_seed(0)
    config = RlLocaliserConfig(view=16, widths=(8, 8, 8), hidden=16)
    network = RlLocaliser(config).eval()
    views = np.random.default_rng(0).integers(0, 255, (2, config.planes, 16, 16), dtype=np.uint8)
    facts, agents = np.zeros((2, config.facts), np.float32), np.array([0, 3])
    expected = look(network, views, facts, agents)
    there = moved(network)
    with torch.inference_mode():  # views, which `look` takes of it, must be of a tensor of its own mode
        there.support = there.support + 0
    found = look(there, views, facts, agents)
    np.testing.assert_allclose(found.values, expected.values, atol=1e-5)
    np.testing.assert_allclose(found.doubts, expected.doubts, atol=1e-4)


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("diffusion", [False, True])
def test_the_segmenter_goes_there_and_comes_back(diffusion: bool) -> None:
    torch.manual_seed(0)
    config = SegmenterConfig(PlainConfig(filters=(16, 16, 16)), DenoiserConfig(widths=(16, 16)))
    here = Segmenters(config, PlainSegmenter(config.plain).eval(), DiffusionNetwork(config.denoiser).eval())
    voxels = np.random.default_rng(0).random((2, 24, 24), dtype=np.float32)
    how = replace(config.ensemble, samples=1, steps=2)
    expected = segment_module.segment(here, voxels, (4.0, 1.5, 1.5), diffusion=diffusion, how=how)
    there = Segmenters(config, moved(here.plain), moved(here.diffusion))
    found = segment_module.segment(there, voxels, (4.0, 1.5, 1.5), diffusion=diffusion, how=how)
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-4)
    np.testing.assert_allclose(found.uncertainty, expected.uncertainty, atol=1e-4)
