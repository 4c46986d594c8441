"""One optimiser step of the denoiser on drawn latents: windows, degrees, starting weights."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from spinepaint.models.autoencoder import AutoencoderConfig, SliceAutoencoder
from spinepaint.models.unet import ConditionalUNet, UNetConfig
from spinepaint.training import inpainter
from spinepaint.training.crops import Latents, save_latents
from spinepaint.training.inpainter import InpainterTask, InpainterTraining, train_inpainter
from spinepaint.training.starting_weights import starting_weights

KINDS = ("phantom", "phantom-held-out")
CELLS = (16, 16, 8)
MODEL = {"channels": [16, 32], "head_channels": 16, "norm_groups": 8, "degree_waves": 4, "donor": True}


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InpainterTraining:
    """A training on twelve crops of noise, whose first latent channel holds the cell's own place along each axis."""
    generator = torch.Generator().manual_seed(0)
    latent = torch.randn(12, 3, *CELLS, generator=generator).half()
    places = torch.stack(torch.meshgrid(*(torch.arange(n) for n in CELLS), indexing="ij"))
    latent[6:] = places.half()
    latents = Latents(
        latent,
        torch.tensor([40.0, 40.0, 25.0]).repeat(12, 1) + 8 * torch.randn(12, 3, generator=generator),
        torch.arange(12) % 4,
        torch.arange(12) % 5,
        torch.arange(CELLS[2]).float().repeat(12, 1),
        torch.linspace(0, 1, 12),
        torch.cat([latent.half(), torch.ones(12, 1, *CELLS).half()], dim=1),
    )
    save_latents(latents, tmp_path / "phantom-000000.pt")
    autoencoder = SliceAutoencoder(AutoencoderConfig(channels=16, encoder_blocks=1, decoder_blocks=1, codes=64))
    monkeypatch.setattr(inpainter, "read_autoencoder", lambda *_: autoencoder)
    monkeypatch.setattr(inpainter, "prepare", lambda _data: {kind: [tmp_path / "phantom-000000.pt"] for kind in KINDS})
    return InpainterTraining(
        run=str(tmp_path / "run"),
        data={"folder": str(tmp_path), "autoencoder": "none"},
        batch=4,
        window=(12, 8, 4),
        whole=0.3,
        whole_batch=2,
        model=MODEL,
        crop={"extent_mm": (80.0, 80.0, 50.0), "grid": (64, 64, 8)},
    )


def test_a_window_keeps_the_landmark_at_its_place(config: InpainterTraining) -> None:
    task = InpainterTask(config)
    places = {name: value[6:10] for name, value in vars(task.sources[0]).items()}
    cut = task.crops.windowed(places, np.random.default_rng(3), config.window)
    assert cut["latent"].shape == (4, 3, 12, 8, 4)
    cell = torch.tensor(task.crops.cell_mm)
    for n in range(4):
        first = cut["latent"][n][:, 0, 0, 0].float()  # the window's first cell, as places in the whole crop
        moved = places["landmark_mm"][n] - cut["landmark_mm"][n]
        assert torch.allclose(moved, (first * cell).float(), atol=1e-3)
        assert torch.equal(cut["slice_weight"][n], cut["latent"][n][2, 0, 0].float())
    assert torch.equal(cut["donor"][:, :3], cut["latent"])


def test_steps_are_a_function_of_their_number(config: InpainterTraining) -> None:
    first, second = InpainterTask(config), InpainterTask(config)
    losses = [[task.step(number)["loss"] for number in range(3)] for task in (first, second)]
    assert losses[0] == losses[1]
    assert len(set(losses[0])) == 3


def test_late_times_come_more_often_with_a_power_below_one(config: InpainterTraining, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []

    def watched(unet: ConditionalUNet, x: Tensor, weight: Tensor, t: Tensor, *_rest: Tensor) -> Tensor:
        seen.append(t)
        return 0 * x

    monkeypatch.setattr(ConditionalUNet, "forward", watched)
    task = InpainterTask(InpainterTraining(**{**vars(config), "time_power": 0.5}))
    batch = task.crops.draw(np.random.default_rng(0), task.sources, 400)
    small = {name: value[..., :4, :4, :2] if name in ("latent", "donor") else value for name, value in batch.items()}
    small["slice_weight"] = torch.ones(400, 2)
    task._loss(task.unet, small, np.random.default_rng(1))
    times = torch.cat(seen)
    assert (times > 500).float().mean().item() == pytest.approx(0.75, abs=0.07)
    assert 1 <= int(times.min()) <= int(times.max()) <= 1000


def test_a_network_that_knew_classes_alone_can_be_trained_on(config: InpainterTraining, tmp_path: Path) -> None:
    plain = InpainterTraining(**{**vars(config), "model": {**MODEL, "degree_waves": 0, "donor": False}})
    old = InpainterTask(plain).unet
    with torch.no_grad():
        old.net.class_embedding.weight.fill_(0.25)
    save_file({name: value.contiguous() for name, value in old.state_dict().items()}, tmp_path / "old.safetensors")
    task = InpainterTask(InpainterTraining(**{**vars(config), "weights": str(tmp_path / "old.safetensors")}))
    assert torch.equal(task.unet.net.class_embedding.table.weight, old.net.class_embedding.weight)  # type: ignore[union-attr]
    x = torch.randn(1, 3, 8, 8, 4)
    told = (x, x[:, :1], torch.tensor([9]), torch.tensor([1]), torch.tensor([2]))
    with torch.no_grad():
        donor = torch.randn(1, 4, 8, 8, 4)
        new = task.unet.eval()(*told, torch.tensor([0.5]), donor)
        assert torch.allclose(new, old.eval()(*told), atol=1e-6)


def test_a_network_of_fewer_latent_channels_can_be_trained_on(config: InpainterTraining, tmp_path: Path) -> None:
    wide = replace(UNetConfig(**MODEL), latent_channels=5)  # type: ignore[arg-type]
    old, new = InpainterTask(config).unet, ConditionalUNet(wide)
    with torch.no_grad():
        for values in old.parameters():
            values.add_(0.02 * torch.randn_like(values))  # MONAI zeroes the last layer
    save_file({name: value.contiguous() for name, value in old.state_dict().items()}, tmp_path / "old.safetensors")
    new.load_state_dict(starting_weights(tmp_path / "old.safetensors", new))
    x, donor = torch.randn(1, 5, 8, 8, 4), torch.randn(1, 6, 8, 8, 4)
    told = (torch.rand(1, 1, 8, 8, 4), torch.tensor([9]), torch.tensor([1]), torch.tensor([2]), torch.tensor([0.5]))
    with torch.no_grad():
        wanted = old.eval()(x[:, :3], *told, torch.cat([donor[:, :3], donor[:, 5:]], dim=1))
        painted = new.eval()(x, *told, donor)
    assert torch.allclose(painted[:, :3], wanted, atol=1e-5)
    assert painted[:, 3:].abs().max() == 0


def test_the_degree_is_learnt(config: InpainterTraining) -> None:
    task = InpainterTask(config)
    before = task.unet.net.class_embedding.outer.weight.clone()  # type: ignore[union-attr]
    for number in range(4):  # MONAI zeroes the last layers: the first steps reach nothing deeper
        task.step(number)
    assert not torch.equal(before, task.unet.net.class_embedding.outer.weight)  # type: ignore[union-attr]


def test_validation_leaves_the_training_as_it_was_and_draws_pictures(config: InpainterTraining) -> None:
    task = InpainterTask(config)
    task.step(0)
    before = {name: value.clone() for name, value in task.unet.state_dict().items()}
    figures, pictures = task.validate(), task.pictures()
    assert figures == task.validate()
    assert all(torch.equal(value, before[name]) for name, value in task.unet.state_dict().items())
    assert set(figures) == set(pictures) == {"phantom"}
    assert pictures["phantom"].shape == (64, 3 * 64)
    assert 0 <= pictures["phantom"].min() <= pictures["phantom"].max() <= 1


def test_accumulated_batches_average(config: InpainterTraining) -> None:
    # With the learning rate of the first step alone, two accumulated batches are not one.
    once, twice = InpainterTask(config), InpainterTask(InpainterTraining(**{**vars(config), "accumulate": 2}))
    assert once.step(0)["loss"] != twice.step(0)["loss"]
    gradients = [p.grad for p in twice.unet.parameters() if p.grad is not None]
    assert gradients


def test_a_run_leaves_weights_that_another_can_start_from(config: InpainterTraining) -> None:
    figures = train_inpainter(InpainterTraining(**{**vars(config), "steps": 2}))
    assert figures["steps"] == 2
    weights = str(Path(config.run) / "average.safetensors")
    task = InpainterTask(InpainterTraining(**{**vars(config), "weights": weights}))
    with safe_open(weights, "pt") as stored:
        assert all(torch.equal(stored.get_tensor(name), value) for name, value in task.unet.state_dict().items())
    assert list((Path(config.run) / "board").iterdir())
