"""The registry of localisers, and bundles with and without the agents' network."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from spinepaint.app.choices import Localiser
from spinepaint.models.bundle import Bundle, load_bundle, read_config, save_bundle
from spinepaint.models.localisers import LOCALISERS, MissingNetworkError
from spinepaint.models.rl_localiser import RlLocaliser, RlLocaliserConfig
from tests.training.tiny_bundle import write_tiny_bundle

SMALL = RlLocaliserConfig(widths=(8, 8, 8), hidden=8, view=16, atoms=11, most_moves=3)


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return load_bundle(write_tiny_bundle(tmp_path_factory.mktemp("tiny")))


def test_the_command_lines_choices_are_the_registry() -> None:
    assert set(Localiser) == set(LOCALISERS)


def test_a_bundle_without_agents_still_has_heatmaps(without: Bundle) -> None:
    assert without.rl_localiser is None and without.config.rl_localiser is None
    LOCALISERS["heatmap"](without)
    for name in ("rl", "segmenter"):
        with pytest.raises(MissingNetworkError, match=f"'{name}'"):
            LOCALISERS[name](without)


def test_a_bundle_may_hold_agents(without: Bundle, tmp_path: Path) -> None:
    torch.manual_seed(0)
    agents = RlLocaliser(SMALL)
    networks = {
        "autoencoder": without.inpainter.autoencoder,
        "inpainter": without.inpainter.unet,
        "localiser": without.localiser,
        "rl_localiser": agents,
    }
    save_bundle(tmp_path, replace(without.config, rl_localiser=SMALL), networks, "Random weights.\n")
    assert read_config(tmp_path).rl_localiser == SMALL
    loaded = load_bundle(tmp_path).rl_localiser
    assert loaded is not None and not loaded.training and loaded.config == SMALL
    assert torch.equal(loaded.support, agents.support)
    assert all(value.dtype == torch.float16 for value in load_file(tmp_path / "rl_localiser.safetensors").values())


def test_the_agents_network_is_small() -> None:
    assert sum(p.numel() for p in RlLocaliser(RlLocaliserConfig()).parameters()) <= 1_500_000
