"""The localiser's examples and its fitting."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from spinepaint.models.localiser import DiscLocaliser, LocaliserConfig
from spinepaint.training import localiser
from spinepaint.training.localiser import LocaliserTask, LocaliserTraining, fit, losses, score_scenes, thickness
from spinepaint.training.localiser_data import augment, example, render_targets
from spinepaint.training.localiser_scenes import Disc, Scene, calibrated, phantom_scenes, random_pathologies
from spinepaint.training.spider import DiscBox, SpiderSlice

SMALL = LocaliserConfig(widths=(16, 16, 16), deep_blocks=1)


def _slice(spacing: tuple[float, float], shrink: tuple[float, float] = (1.0, 1.0)) -> SpiderSlice:
    """Five discs 36 mm apart and 46 mm wide at 0.6 mm, on a matrix interpolated by `shrink` afterwards."""
    boxes = tuple(
        DiscBox(i + 1, ((200 - 36 * i) / 0.6 * shrink[0], 120 / 0.6 * shrink[1]), (20 * shrink[0], 46 / 0.6 * shrink[1]), {})
        for i in range(5)
    )
    return SpiderSlice("1_t2", 1, np.zeros((400, 400), np.float32), spacing, boxes)


def test_a_right_spacing_is_kept() -> None:
    assert calibrated(_slice((0.6, 0.6))) == (0.6, 0.6)


@pytest.mark.parametrize("shrink", [(0.5, 0.5), (1.8, 1.0), (0.65, 1.5)])
def test_a_spacing_that_gives_impossible_discs_is_corrected(shrink: tuple[float, float]) -> None:
    spacing = calibrated(_slice((0.6, 0.6), shrink))
    assert np.allclose(spacing, np.array([0.6, 0.6]) / shrink, rtol=0.02)


def _scene() -> Scene:
    """Blobs at five discs of a grey slice."""
    rows, columns = np.mgrid[:260, :200]
    image = np.full(rows.shape, 0.3)
    discs = []
    for level in range(5):
        centre = (210.0 - 36 * level, 90.0 + 3 * level)
        image += np.exp(-0.5 * ((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2) / 9)
        discs.append(Disc(level, centre, (centre[0], centre[1] + 18), (centre[0], centre[1] + 26)))
    return Scene(image.astype(np.float32), tuple(discs))


def test_discs_follow_the_image_through_augmentation() -> None:
    scene, seen = _scene(), 0
    for seed in range(12):
        window, discs = augment(scene, np.random.default_rng(seed), (192, 160), 1.25)
        assert window.shape == (192, 160) and window.dtype == np.float32
        for disc in discs:
            r, c = round(disc.centre[0]), round(disc.centre[1])
            around = window[max(r - 9, 0) : r + 10, max(c - 9, 0) : c + 10]
            assert window[r - 1 : r + 2, c - 1 : c + 2].mean() > around.mean()
            seen += 1
    assert seen > 20


def test_augmentation_sometimes_cuts_levels_off() -> None:
    counts = {len(augment(_scene(), np.random.default_rng(seed), (192, 160), 1.25)[1]) for seed in range(30)}
    assert 5 in counts and min(counts) < 5


def test_an_example_is_a_function_of_its_seed() -> None:
    first, second = (example(_scene(), np.random.default_rng(5), (96, 96), 1.25, 7) for _ in range(2))
    assert np.array_equal(first[0], second[0]) and np.array_equal(first[1].heat, second[1].heat)


def test_targets_peak_at_their_points_and_fade_off_the_midline() -> None:
    disc = Disc(0, (30.0, 20.0), (30.0, 27.0), (30.0, 31.0))
    middle, beside = (render_targets((replace(disc, off_slice_mm=mm),), (60, 60), 2.5, 7) for mm in (0.0, 12.0))
    for channel, column in enumerate((20, 27, 31)):
        assert np.unravel_index(middle.heat[channel].argmax(), (60, 60)) == (30, column)
        assert middle.heat[channel].max() == pytest.approx(1.0)
        assert beside.heat[channel].max() < 0.5
    assert middle.level[30, 20] == 6 and middle.level_weight[30, 20] == pytest.approx(1.0)
    assert (middle.weight == 1).all()


def test_an_unknown_margin_teaches_nothing_where_it_could_be() -> None:
    targets = render_targets((Disc(2, (30.0, 20.0), None, None),), (60, 60), 2.5, 7)
    assert targets.weight[1, 30, 27] == 0 and targets.weight[2, 30, 30] == 0
    assert targets.weight[0].min() == 1 and targets.weight[1, 5, 5] == 1


def test_losses_are_lower_for_the_right_answer() -> None:
    targets = [render_targets(_scene().discs, (130, 100), 2.5, 7)]
    right = torch.zeros(1, 10, 130, 100)
    right[0, :3] = torch.logit(torch.from_numpy(targets[0].heat).clamp(1e-3, 1 - 1e-3))
    right[0, 3:] = 5 * torch.nn.functional.one_hot(torch.from_numpy(targets[0].level), 7).permute(2, 0, 1)
    good, bad = losses(right, targets), losses(-right, targets)
    assert good[0] < 0.2 * bad[0] and good[1] < 0.2 * bad[1]


@pytest.fixture(scope="module")
def scenes() -> tuple[Scene, ...]:
    """One phantom's slices."""
    return phantom_scenes(3)


def test_a_phantom_gives_every_lumbar_disc_on_every_slice(scenes: tuple[Scene, ...]) -> None:
    for scene in scenes:
        assert {0, 1, 2, 3, 4} <= {disc.level for disc in scene.discs}
    nearest = min(scenes, key=lambda s: s.discs[-1].off_slice_mm)
    for disc in nearest.discs:
        if disc.margin and disc.canal:
            assert disc.centre[1] < disc.margin[1] < disc.canal[1]
    assert 2.0 < thickness(scenes) < 8.0


def test_phantoms_have_pathologies_of_the_vocabulary() -> None:
    drawn = [random_pathologies(np.random.default_rng(seed)) for seed in range(40)]
    assert 20 < sum(len(chosen) for chosen in drawn) < 90


def test_an_unfitted_network_finds_nothing_right(scenes: tuple[Scene, ...]) -> None:
    torch.manual_seed(0)
    scores = score_scenes(DiscLocaliser(SMALL), scenes[:3], thickness(scenes))
    assert set(scores) == set(SMALL.fsus)
    assert sum(named for _, named in scores.values()) < 3


def _config(run_dir: Path, **changes: object) -> LocaliserTraining:
    base = LocaliserTraining(run_dir=run_dir, phantoms=1, held_out_phantoms=0, steps=3, batch=2, model=SMALL, bf16=False)
    return replace(base, **changes)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, scenes: tuple[Scene, ...]) -> None:
    monkeypatch.setattr(localiser, "WINDOWS", ((64, 48), (48, 64)))
    monkeypatch.setattr(localiser, "phantom_scenes", lambda seed: scenes)


def test_a_resumed_run_equals_an_unbroken_one(tmp_path: Path) -> None:
    whole = load_file(fit(_config(tmp_path / "whole")))
    for _ in range(3):  # no minutes left: each call takes a single step
        broken = load_file(fit(_config(tmp_path / "broken", max_minutes=0.0)))
    assert all(torch.equal(whole[name], broken[name]) for name in whole)
    DiscLocaliser(SMALL).load_state_dict(whole)


def test_another_seed_gives_other_weights(tmp_path: Path) -> None:
    first, second = (load_file(fit(_config(tmp_path / str(seed), seed=seed, steps=1))) for seed in (0, 1))
    assert not all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_starts_from_the_weights_of_another(tmp_path: Path) -> None:
    first = fit(_config(tmp_path / "first", steps=1))
    task = LocaliserTask(_config(tmp_path / "second", seed=1, weights=str(first)))
    started = task.network.state_dict()
    assert all(torch.equal(started[name], value) for name, value in load_file(first).items())


def test_steps_lower_the_loss(tmp_path: Path) -> None:
    task = LocaliserTask(_config(tmp_path, steps=30, lr=5e-3))
    history = [task.step(number)["spots"] for number in range(30)]
    assert np.mean(history[-5:]) < 0.7 * np.mean(history[:3])


def test_nothing_to_learn_from_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing to learn from"):
        LocaliserTask(_config(tmp_path, phantoms=0))
