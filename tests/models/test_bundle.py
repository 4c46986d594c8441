"""Bundles: a round trip, and every way in which one can be wrong."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from spinepaint.models.autoencoder import AutoencoderConfig, SliceAutoencoder
from spinepaint.models.bundle import (
    BundleConfig,
    BundleError,
    CropConfig,
    SamplingConfig,
    draw_degree,
    guidance_for,
    load_bundle,
    save_bundle,
    seal,
)
from spinepaint.models.localiser import DiscLocaliser, LocaliserConfig
from spinepaint.models.unet import ConditionalUNet, UNetConfig

CONFIG = BundleConfig(
    name="tiny",
    autoencoder=AutoencoderConfig(channels=16, encoder_blocks=1, decoder_blocks=1, codes=16, latent_scale=0.5),
    sampling=SamplingConfig(guidance=(1.0, 2.0, 1.0, 1.5), degrees=((0.3, 0.4), (0.6, 0.8), (0.4, 0.5), (0.7, 0.9))),
    unet=UNetConfig(channels=(16, 32), head_channels=16, norm_groups=8, degree_waves=4, donor=True),
    localiser=LocaliserConfig(widths=(8, 8, 8), deep_blocks=1),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    networks = {
        "autoencoder": SliceAutoencoder(CONFIG.autoencoder),
        "inpainter": ConditionalUNet(CONFIG.unet),
        "localiser": DiscLocaliser(CONFIG.localiser),
    }
    save_bundle(tmp_path / "tiny", CONFIG, networks, "# tiny\n")
    return tmp_path / "tiny"


def test_round_trip(folder: Path) -> None:
    bundle = load_bundle(folder)
    assert bundle.config == CONFIG
    assert len(bundle.sha256) == 64
    assert all(not p.requires_grad and p.dtype == torch.float32 for p in bundle.inpainter.unet.parameters())
    latent = bundle.inpainter.autoencoder.encode(torch.zeros(1, 1, 32, 32, 2))
    assert latent.shape == (1, 3, 8, 8, 2)


@pytest.mark.parametrize("name", ["autoencoder.safetensors", "config.json", "MODEL_CARD.md"])
def test_an_altered_file_is_refused(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(BundleError, match=name):
        load_bundle(folder)


def test_a_missing_file_is_refused(folder: Path) -> None:
    (folder / "inpainter.safetensors").unlink()
    with pytest.raises(BundleError, match="inpainter"):
        load_bundle(folder)


def test_an_unlisted_weight_file_is_refused(folder: Path) -> None:
    (folder / "extra.safetensors").write_bytes(b"")
    with pytest.raises(BundleError, match="extra"):
        load_bundle(folder)


def test_a_path_out_of_the_folder_is_refused(folder: Path) -> None:
    (folder.parent / "outside").write_text("x")
    with (folder / "SHA256SUMS").open("a") as sums:
        sums.write("0" * 64 + "  ../outside\n")
    with pytest.raises(BundleError, match="outside"):
        load_bundle(folder)


def test_weights_that_do_not_fit_are_refused(folder: Path) -> None:
    raw = json.loads((folder / "config.json").read_text())
    raw["unet"]["channels"] = [16, 48]
    (folder / "config.json").write_text(json.dumps(raw))
    seal(folder)
    with pytest.raises(BundleError, match="does not fit"):
        load_bundle(folder)


def test_an_unknown_setting_is_refused(folder: Path) -> None:
    raw = json.loads((folder / "config.json").read_text())
    raw["crop"]["colour"] = "red"
    (folder / "config.json").write_text(json.dumps(raw))
    seal(folder)
    with pytest.raises(BundleError, match="cannot be read"):
        load_bundle(folder)


def test_the_name_changes_with_any_file(folder: Path) -> None:
    before = load_bundle(folder).sha256
    (folder / "MODEL_CARD.md").write_text("# other\n")
    assert seal(folder) != before


def test_both_of_the_papers_grids_are_presets_of_one_program() -> None:
    native, paper = CropConfig(), CropConfig(grid=(128, 64, 32))
    assert native.extent_mm == paper.extent_mm == (80.0, 80.0, 50.0)
    assert torch.tensor(native.grid).prod() == torch.tensor(paper.grid).prod()
    assert replace(CONFIG, crop=paper).crop.grid == (128, 64, 32)


def test_a_degree_is_drawn_within_the_conditions_range_and_by_the_seed_alone() -> None:
    sampling = SamplingConfig(degrees=((0.3, 0.4), (0.6, 0.8)))
    drawn = [draw_degree(sampling, 1, seed) for seed in range(50)]
    assert all(degree is not None and 0.6 <= degree <= 0.8 for degree in drawn)
    assert len(set(drawn)) == 50
    assert drawn == [draw_degree(sampling, 1, seed) for seed in range(50)]
    assert draw_degree(SamplingConfig(), 1, 0) is None


def test_guidance_is_one_for_all_or_one_a_condition() -> None:
    assert [guidance_for(SamplingConfig(guidance=1.5), condition) for condition in (0, 3)] == [1.5, 1.5]
    assert guidance_for(SamplingConfig(guidance=(1.0, 2.0)), 1) == 2.0
