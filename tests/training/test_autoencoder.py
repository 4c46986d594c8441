"""The autoencoder's fit on a few phantom slices: terms that come in late, and exact resume with all of them."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from spinepaint.training.autoencoder import AutoencoderTask, AutoencoderTraining
from spinepaint.training.fitting import load_checkpoint, save_checkpoint
from spinepaint.training.vqgan import Adversary, Perceptual

MODEL = {"channels": 16, "encoder_blocks": 1, "decoder_blocks": 1, "codes": 32}
SHARP = {"perceptual": 0.1, "adversarial": 0.05, "sharpen_from": 2, "quantise_from": 1}


def training(run: Path, **changes: object) -> AutoencoderTraining:
    return AutoencoderTraining(run=str(run), phantoms=1, batch=2, steps=4, threads=1, model=MODEL, **changes)  # type: ignore[arg-type]


def test_the_sharpening_terms_come_in_at_their_step(tmp_path: Path) -> None:
    task = AutoencoderTask(training(tmp_path, **SHARP))
    before = {name: value.clone() for name, value in task.adversary.network.state_dict().items()}  # type: ignore[union-attr]
    figures = [task.step(number) for number in range(3)]
    assert ["adversary" in step for step in figures] == [False, False, True]
    after = task.adversary.network.state_dict()  # type: ignore[union-attr]
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_a_resumed_run_ends_like_an_unbroken_one(tmp_path: Path) -> None:
    whole, first = (AutoencoderTask(training(tmp_path, **SHARP)) for _ in range(2))
    for number in range(4):
        whole.step(number)
    for number in range(2):
        first.step(number)
    save_checkpoint(first, tmp_path, 2, 0.0)
    resumed = AutoencoderTask(training(tmp_path, **SHARP))
    start, _ = load_checkpoint(resumed, tmp_path)
    for number in range(start, 4):
        resumed.step(number)
    assert all(
        torch.equal(a, b) for a, b in zip(whole.model.state_dict().values(), resumed.model.state_dict().values(), strict=True)
    )


def test_a_run_begins_from_one_with_fewer_latent_channels(tmp_path: Path) -> None:
    first = AutoencoderTask(training(tmp_path / "first"))
    (tmp_path / "first").mkdir()
    save_checkpoint(first, tmp_path / "first", 1, 0.0)
    wider = training(tmp_path / "second", start=str(tmp_path / "first"))
    second = AutoencoderTask(replace(wider, model={**MODEL, "latent_channels": 5, "code_levels": 2}))
    slices = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before, after = (task.model.eval().reconstruct(slices, quantise=False) for task in (first, second))
    assert torch.allclose(before[0], after[0], atol=1e-5)
    assert torch.allclose(before[1], after[1][:, :3], atol=1e-5)
    assert second.step(0)["loss"] > 0


def test_the_perceptual_distance_is_zero_for_equals_and_grows_with_blur() -> None:
    torch.manual_seed(0)
    distance, image = Perceptual(), torch.randn(1, 1, 64, 64).clamp(-1, 1)
    blurred = [torch.nn.functional.avg_pool2d(image, k, 1, k // 2) for k in (3, 7)]
    assert float(distance(image, image)) == pytest.approx(0.0, abs=1e-6)
    assert 0 < float(distance(blurred[0], image)) < float(distance(blurred[1], image))
    wanted = blurred[0].clone().requires_grad_()
    distance(wanted, image).backward()  # type: ignore[no-untyped-call]
    assert float(wanted.grad.abs().sum()) > 0  # type: ignore[union-attr]


def test_the_adversary_learns_to_tell_real_from_made() -> None:
    torch.manual_seed(0)
    adversary = Adversary(1e-3, channels=8)
    real, made = torch.randn(4, 1, 32, 32), torch.randn(4, 1, 32, 32) * 0.2
    losses = [adversary.learn(made, real) for _ in range(15)]
    assert losses[-1] < 0.5 * losses[0]
    assert float(adversary.generator_term(made)) > float(adversary.generator_term(real))
