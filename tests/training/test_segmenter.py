"""The segmenter's examples, its scores and its fitting."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from spinepaint.imaging.errors import Refusal
from spinepaint.models.bundle import load_bundle
from spinepaint.models.segmentation import EnsembleConfig, Segmentation, Segmenters
from spinepaint.training import segmenter, segmenter_scores, segmenter_settings, segmenter_tasks
from spinepaint.training.phantom import Phantom, Tissue, make_phantom
from spinepaint.training.segmenter import train_segmenter
from spinepaint.training.segmenter_looks import bend, disguise, lend_texture, match_histogram, surround
from spinepaint.training.segmenter_losses import masks_loss
from spinepaint.training.segmenter_run import read_segmenter
from spinepaint.training.segmenter_scores import Case, box_overlap, compare, dice, disc_scores, score_phantoms
from spinepaint.training.segmenter_settings import SegmenterTraining, gather
from spinepaint.training.segmenter_spines import Look, Spine, read_spine, structure_labels
from spinepaint.training.segmenter_tasks import DiffusionTask, PlainTask
from spinepaint.training.segmenter_windows import window
from spinepaint.training.spider import DiscBox
from tests.training.tiny_bundle import write_tiny_bundle

TINY = {"plain": {"filters": [16, 16, 16]}, "denoiser": {"widths": [16, 16]}, "ensemble": {"steps": 3, "samples": 1}}


def spine(seed: int = 0) -> Spine:
    """Bright vertebrae, grey discs and a brighter canal behind them, in three of five slices; T1 is T2 turned dark."""
    labels = np.zeros((5, 200, 160), np.uint8)
    for top in range(5, 190, 36):
        labels[1:4, top : top + 27, 60:90], labels[1:4, top + 27 : top + 36, 60:90] = 1, 2
    labels[1:4, :, 92:104] = 3
    grey = np.array([20, 110, 60, 170], np.uint8)[labels]
    return Spine(seed, np.stack([grey, 190 - grey, labels]))


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return make_phantom(7, {"L4-L5": ("disc_herniation", "moderate_large")}, slices=3, matrix=256, pixel_mm=1.0)


def look() -> Look:
    rng = np.random.default_rng(5)
    rows = np.linspace(20, 160, 5)
    return Look(3, rng.random((200, 150)).astype(np.float32), np.stack([rows, np.full(5, 70.0)], axis=1))


def shape_of(spine_: Spine) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    masks = np.stack([(spine_.labels[2] == k).astype(np.float32) for k in (1, 2, 3)])
    return np.repeat(spine_.planes[:1, 2].astype(np.float32) / 170, 3, axis=0), masks


def test_a_window_shows_what_its_masks_say() -> None:
    for seed in range(6):
        image, masks = window(spine(), [], np.random.default_rng(seed), (96, 80), 1.25, t1=False)
        assert image.shape == masks.shape == (3, 96, 80) and image.dtype == np.float32
        assert image.min() >= 0 and masks.max() <= 1
        vertebra, canal, outside = masks[0] > 0.9, masks[2] > 0.9, (masks.max(axis=0) < 0.01) & (image[1] > 0)
        if vertebra.sum() > 50 and outside.sum() > 50:
            assert image[1][vertebra].mean() > image[1][outside].mean()
        if vertebra.sum() > 50 and canal.sum() > 50:
            assert image[1][canal].mean() > image[1][vertebra].mean()


def test_a_window_is_the_same_for_the_same_numbers() -> None:
    a, b = (window(spine(), [look()], np.random.default_rng(3), (64, 48), 1.25, t1=True) for _ in range(2))
    assert np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1])


def test_a_real_slice_lends_its_histogram_and_no_order_changes() -> None:
    rng = np.random.default_rng(0)
    image, other = rng.random((3, 32, 32)).astype(np.float32), (rng.random((40, 40)) ** 3).astype(np.float32)
    matched = match_histogram(image, other, 1.0)
    np.testing.assert_allclose(np.quantile(matched, [0.2, 0.5, 0.8]), np.quantile(other, [0.2, 0.5, 0.8]), atol=0.02)
    np.testing.assert_allclose(match_histogram(image, other, 0.0), image)
    order = image.ravel().argsort()
    for changed in (matched, bend(image, rng)):
        assert (np.diff(changed.ravel()[order]) >= -1e-6).all()


def test_a_real_slice_lends_its_surroundings_and_leaves_the_spine() -> None:
    image, masks = shape_of(spine())
    mixed = surround(image, masks, look(), 1.0, np.random.default_rng(0))
    inside = masks.max(axis=0) > 0
    assert np.array_equal(mixed[:, inside], image[:, inside])
    assert np.abs(mixed - image)[:, :, :40].mean() > 0.05
    few = Look(3, look().image, look().centres[:2])
    assert surround(image, masks, few, 1.0, np.random.default_rng(0)) is image


def test_texture_is_lent_and_disguises_leave_shapes() -> None:
    image, masks = shape_of(spine())
    textured = lend_texture(image, look(), 1.0, np.random.default_rng(0))
    assert 0 < np.abs(textured - image).mean() < 0.3
    assert disguise(image, masks, [look()], 1.0, np.random.default_rng(1), t1=False).shape == image.shape


def test_the_labels_of_a_phantom_are_its_tissues(phantom: Phantom) -> None:
    labels = structure_labels(phantom)
    assert (labels[phantom.labels == Tissue.VERTEBRA] == 1).all() and (labels[phantom.labels == Tissue.NUCLEUS] == 2).all()
    assert (labels[phantom.labels == Tissue.CSF] == 3).all() and (labels[phantom.labels == Tissue.MUSCLE] == 0).all()


def test_no_ligament_before_a_body_is_a_disc(phantom: Phantom) -> None:
    """Walking down the front of a body one is in no disc."""
    middle = phantom.labels[1]
    for level in range(7, 10):
        body = np.argwhere((phantom.levels[1] == level + 1) & (middle == Tissue.VERTEBRA))
        row = int(np.median(body[:, 0]))
        assert not np.isin(middle[row], (Tissue.ANNULUS, Tissue.NUCLEUS)).any()


def test_a_spine_is_made_once(tmp_path: Path, phantom: Phantom, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr("spinepaint.training.segmenter_spines.phantom_of", lambda *args: made.append(args) or phantom)
    first, again = (read_spine(7, tmp_path) for _ in range(2))
    assert made == [(7, "T2"), (7, "T1")]
    assert np.array_equal(first.planes, again.planes)
    assert np.array_equal(first.labels, structure_labels(phantom)) and first.image(t1=True).shape == first.labels.shape


def test_dice_by_hand(phantom: Phantom) -> None:
    a, b = np.array([True, True, False, False]), np.array([True, False, True, False])
    assert dice(a, b) == 0.5 and dice(~a & a, ~b & b) == 1.0
    truth = structure_labels(phantom) == 2
    assert set(disc_scores(truth, phantom).values()) == {1.0}
    halved = truth & (np.arange(truth.shape[2]) % 2 == 0)
    assert all(0.55 < score < 0.8 for score in disc_scores(halved, phantom).values())


def test_boxes_are_compared_with_connected_discs() -> None:
    discs = np.zeros((40, 60), bool)
    discs[10:20, 10:40] = discs[30:36, 10:40] = True
    assert box_overlap(discs, DiscBox(1, (15.0, 25.0), (10.0, 30.0), {})) == 1.0
    assert box_overlap(discs, DiscBox(1, (15.0, 40.0), (10.0, 30.0), {})) == pytest.approx(1 / 3, abs=0.02)
    assert box_overlap(discs, DiscBox(1, (25.0, 25.0), (4.0, 4.0), {})) == 0.0


def test_scores_split_healthy_from_degenerate_discs(phantom: Phantom, monkeypatch: pytest.MonkeyPatch) -> None:
    truth, asked = structure_labels(phantom), []
    spoilt = np.where((truth == 2) & (phantom.levels == 9), 0, truth).astype(np.uint8)  # L4-L5 is missing

    def find(models: Segmenters, voxels: object, spacing: object, *, diffusion: bool, how: EnsembleConfig | None) -> Segmentation:
        asked.append(how.steps if how else None)
        return Segmentation(spoilt, np.zeros((3, *truth.shape), np.float32), np.zeros(truth.shape, np.float32))

    monkeypatch.setattr(segmenter_scores, "segment", find)
    monkeypatch.setattr(segmenter_scores, "_phantom", lambda case: phantom)
    level = phantom.levels[phantom.labels == Tissue.HERNIATION]
    assert set(level) == {9}
    config = SegmenterTraining(run_dir="", **TINY).model()  # type: ignore[arg-type]
    table = compare(Segmenters(config, None, None), [Case(7)], (10, 30))  # type: ignore[arg-type]
    assert asked == [None, 10, 30] and list(table) == ["plain", "diffusion T=10", "diffusion T=30"]
    figures = table["plain"]
    assert figures["vertebrae"] == figures["canal"] == 1.0 and figures["discs"] < 1.0
    assert figures["degenerate_discs"] < 1.0 and figures["healthy_discs"] == 1.0
    assert score_phantoms(Segmenters(config, None, None), [], None) == {}  # type: ignore[arg-type]


def test_the_losses_fall_towards_the_masks() -> None:
    masks = (torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) > 0.7).float()
    right, wrong = (masks_loss(sign * 8 * (2 * masks - 1), masks, mse=True) for sign in (1, -1))
    assert set(right) == {"dice", "bce", "mse"} and set(masks_loss(masks, masks, mse=False)) == {"dice", "bce"}
    assert all(right[name] < 0.01 < wrong[name] for name in right)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SegmenterTraining:
    """A run on drawn spines, that is validated by nothing."""
    monkeypatch.setattr(segmenter_settings, "read_spine", lambda seed, folder: spine(seed))
    monkeypatch.setattr(segmenter_tasks, "WINDOWS", ((48, 32),))
    for module in (segmenter, segmenter_tasks):
        monkeypatch.setattr(module, "score_phantoms", lambda models, cases, how: {"discs": float(len(cases))})
    return SegmenterTraining(
        run_dir=str(tmp_path / "run"), phantoms=10, batch=2, plain_steps=3, diffusion_steps=3, held_out=2, bf16=False, **TINY
    )  # type: ignore[arg-type]


def test_folds_part_the_patients(small: SegmenterTraining) -> None:
    seen = set()
    for fold in range(5):
        material = gather(small, fold)
        learnt, judged = {item.seed for item in material.spines}, {case.seed for case in material.cases}
        assert not learnt & judged and len(learnt) == 8 and all(seed % 5 == fold for seed in judged)
        seen |= judged
        assert not any(small.judges(fold, patient) for patient in (8, 16, 24))  # held out from every training
    assert seen == set(range(10))
    whole = gather(small, None)
    assert len(whole.spines) == 10 and all(case.seed >= 1_000_000 for case in whole.cases)


def test_steps_lower_the_loss_and_depend_on_their_number_alone(small: SegmenterTraining) -> None:
    material = gather(small, None)
    plain, again = PlainTask(small, material), PlainTask(small, material)
    losses = [sum(plain.step(0).values()) for _ in range(6)]
    assert losses[-1] < losses[0]
    assert sum(again.step(0).values()) == pytest.approx(losses[0])
    diffusion = DiffusionTask(small, material, plain.averaged)
    before = [p.clone() for p in plain.averaged.parameters()]
    losses = [sum(diffusion.step(0).values()) for _ in range(6)]
    assert losses[-1] < losses[0]
    assert all(torch.equal(a, b) for a, b in zip(before, plain.averaged.parameters(), strict=True))  # it is not trained on


def test_five_folds_are_fitted_resumed_and_summed_up(small: SegmenterTraining, tmp_path: Path) -> None:
    both = SegmenterTraining(**{**vars(small), "fold": "all", "folds": 2})
    summary = train_segmenter(both)
    run = tmp_path / "run"
    assert summary["plain_discs"] == {"mean": 2.0, "sd": 0.0, "folds": [2.0, 2.0]}
    assert json.loads((run / "cross_validation.json").read_text()) == summary
    facts = json.loads((run / "fold-1" / "facts.json").read_text())
    assert facts["fold"] == 1 and facts["spines"] == 5
    first = (run / "fold-0" / "plain.safetensors").read_bytes()
    train_segmenter(both)  # every step is done
    assert (run / "fold-0" / "plain.safetensors").read_bytes() == first
    assert read_segmenter(run / "fold-0").config == both.model()


def test_settings_that_cannot_be_are_refused(small: SegmenterTraining) -> None:
    for wrong in ({"fold": 7}, {"fold": "some"}, {"plain": {"filters": [8, 8, 16]}}, {"ensemble": {"steps": 0}}, {"phantoms": 0}):
        with pytest.raises(Refusal) as refused:
            SegmenterTraining(**{**vars(small), **wrong})
        assert refused.value.type == "bad-config"


def test_a_bundle_may_hold_a_segmenter(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path / "with", segmenter=True)
    kept, loaded = read_segmenter(folder), load_bundle(folder)
    assert loaded.segmenter is not None and loaded.segmenter.config == kept.config == loaded.config.segmenter
    image = torch.rand(1, 3, 16, 16)
    with torch.inference_mode():
        assert torch.equal(kept.plain(image), loaded.segmenter.plain(image))
    with pytest.raises(ValueError, match="no segmenter"):
        read_segmenter(write_tiny_bundle(tmp_path / "without"))
