"""The agents' environment, replay and fitting."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from spinepaint.app.cli import app
from spinepaint.models.rl_localiser import RlLocaliser, RlLocaliserConfig
from spinepaint.models.rl_localiser_walk import Walks, confidence
from spinepaint.training import rl_localiser, rl_localiser_data
from spinepaint.training.bundles import read_rl_localiser
from spinepaint.training.localiser_scenes import Disc, Scene
from spinepaint.training.phantom import make_phantom
from spinepaint.training.ranking import auc
from spinepaint.training.rl_localiser import RlLocaliserTask, RlLocaliserTraining, Walked, calibrated, fit, projected
from spinepaint.training.rl_localiser_data import Ground, altered, phantom_ground, slice_ground, spoilt
from spinepaint.training.rl_localiser_field import Field
from spinepaint.training.rl_localiser_replay import Moves, Replay, Running

SMALL = RlLocaliserConfig(widths=(8, 8, 8), hidden=16, view=16, atoms=11, most_moves=4)
SPACING_MM = SMALL.spacing_mm


def _ground(seed: int = 0) -> Ground:
    """Five bright spots in noise."""
    rng = np.random.default_rng(seed)
    grid = rng.integers(0, 60, (9, 60, 40), dtype=np.uint8)
    targets = np.array([[4.0, 8 + 11 * i, 20.0] for i in range(5)])
    for x, r, c in targets.astype(int):
        grid[x - 1 : x + 2, r - 2 : r + 3, c - 2 : c + 3] = 200
    return Ground(grid, targets)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rl_localiser, "phantom_ground", lambda seed, config: _ground(seed % 7))
    monkeypatch.setattr(rl_localiser_data, "phantom_ground", lambda seed, config, cut_share: _ground(seed % 7))


def _config(run_dir: Path, **changes: object) -> RlLocaliserTraining:
    base = RlLocaliserTraining(
        run_dir=run_dir,
        phantoms=2,
        variants=2,
        held_out_phantoms=1,
        steps=3,
        walks=3,
        batch=4,
        replay=50,
        warm_up=4,
        explore_steps=10,
        bf16=False,
        model=SMALL,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def test_experts_come_nearer_with_every_move_and_end_at_their_discs() -> None:
    field, rng = Field(replace(SMALL, most_moves=20), [_ground()], [], 1.0), np.random.default_rng(0)
    running = Running(field.begin(rng, 4))
    rewards, ends = [], []
    for _ in range(40):
        moves = field.move(RlLocaliser(SMALL), running, rng, 1.0, 0.0)
        rewards.append(moves.reward[moves.counts & (moves.stage == 0) & (field.distance(running.walks, moves.position) > 16)])
        ends.append(field.distance(running.walks, moves.after)[moves.ended])
    assert (np.concatenate(rewards) > 0).mean() > 0.95
    assert np.concatenate(ends).size > 0 and np.median(np.concatenate(ends)) < 6


def test_a_move_out_of_the_image_costs_one() -> None:
    field, rng = Field(SMALL, [_ground()], [], 1.0), np.random.default_rng(1)
    running = Running(Walks.begin(np.zeros(1, np.int64), np.zeros((1, 5, 3), np.int64)))
    moves = field.move(RlLocaliser(SMALL), running, rng, 0.0, 1.0)
    out = np.isin(moves.action, (0, 2, 4))
    assert out.any() and (moves.reward[out] == -1).all() and (moves.reward[~out] > -1).all()


def test_agents_without_a_known_disc_teach_nothing() -> None:
    ground = _ground()
    ground.targets[2] = np.nan
    field, rng = Field(SMALL, [], [ground], 0.5), np.random.default_rng(0)
    moves = field.move(RlLocaliser(SMALL), Running(field.begin(rng, 3)), rng, 0.5, 0.2)
    assert not moves.counts[:, 2].any() and moves.counts[:, [0, 1, 3, 4]].all()
    assert np.isfinite(moves.reward).all()


def test_phantoms_and_real_slices_have_their_shares() -> None:
    field = Field(SMALL, [_ground()] * 2, [_ground()] * 3, 0.25)
    drawn = field.begin(np.random.default_rng(0), 400).volume
    assert set(drawn.tolist()) == {0, 1, 2, 3, 4}
    assert 0.15 < (drawn < 2).mean() < 0.35


def test_the_replay_forgets_the_oldest_and_comes_back_whole() -> None:
    field, rng = Field(SMALL, [_ground()], [], 1.0), np.random.default_rng(0)
    running, network, replay = Running(field.begin(rng, 3)), RlLocaliser(SMALL), Replay(7, 5)
    for _ in range(4):
        latest = field.move(network, running, rng, 0.5, 0.5)
        replay.add(latest)
    assert len(replay) == 7 and replay.added == 12
    assert (replay.rows["position"][4] == latest.position[2]).all()
    copy = Replay(7, 5)
    copy.load_state_dict(replay.state_dict())
    first, second = (part.draw(np.random.default_rng(1), 6) for part in (replay, copy))
    assert all(np.array_equal(getattr(first, item.name), getattr(second, item.name)) for item in fields(Moves))


def test_the_projection_keeps_mass_and_mean() -> None:
    support = torch.linspace(-2, 5, 11)
    p = torch.softmax(torch.randn(3, 11, generator=torch.Generator().manual_seed(0)), dim=1)
    reward, discount = torch.tensor([0.3, -1.0, 1.0]), torch.tensor([0.6, 0.5, 0.0])
    out = projected(p, reward, discount, support)
    assert torch.allclose(out.sum(dim=1), torch.ones(3), atol=1e-6) and (out >= 0).all()
    assert torch.allclose(out @ support, reward + discount * (p @ support), atol=1e-5)
    assert int(out[2].count_nonzero()) == 2  # the end of a walk is worth its reward alone


def test_values_beyond_the_support_go_to_its_ends() -> None:
    support = torch.linspace(-2, 5, 11)
    out = projected(torch.full((2, 11), 1 / 11), torch.tensor([100.0, -100.0]), torch.ones(2), support)
    assert out[0, -1] == pytest.approx(1.0) and out[1, 0] == pytest.approx(1.0)


def test_a_resumed_run_equals_an_unbroken_one(tmp_path: Path) -> None:
    whole = load_file(fit(_config(tmp_path / "whole")))
    for _ in range(3):  # no minutes left: each call takes a single step
        broken = load_file(fit(_config(tmp_path / "broken", max_minutes=0.0)))
    assert all(torch.equal(whole[name], broken[name]) for name in whole)
    network = read_rl_localiser(tmp_path / "whole")
    assert not network.training and torch.equal(network.state_dict()["heads.bias"], whole["heads.bias"])


def test_another_seed_gives_other_weights(tmp_path: Path) -> None:
    first, second = (load_file(fit(_config(tmp_path / str(seed), seed=seed, steps=1))) for seed in (0, 1))
    assert not all(torch.equal(first[name], second[name]) for name in first)


def test_steps_lower_the_loss(tmp_path: Path) -> None:
    task = RlLocaliserTask(_config(tmp_path, steps=25, lr=3e-2, discount=0.0))
    history = [task.step(number)["loss"] for number in range(25)]
    assert np.mean(history[-5:]) < 0.9 * np.mean(history[:3])


def test_nothing_to_learn_from_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing to learn from"):
        RlLocaliserTask(_config(tmp_path, phantoms=0))


def test_the_area_under_the_curve() -> None:
    failed = np.array([True, False, False, True])
    assert auc(np.array([0.9, 0.1, 0.2, 0.8]), failed) == 1.0
    assert auc(np.array([0.5, 0.5, 0.5, 0.5]), failed) == 0.5
    assert np.isnan(auc(np.array([0.5, 0.5]), np.array([False, False])))


def test_confidence_is_fitted_to_failures() -> None:
    rng = np.random.default_rng(0)
    width = np.concatenate([rng.normal(0.8, 0.1, 60), rng.normal(2.0, 0.3, 12)])
    doubts = np.stack([width, rng.uniform(0, 1, 72), -width, rng.uniform(0, 1, 72)], axis=1)
    error = np.where(np.arange(72) >= 60, 34.0, 2.0)
    config = calibrated(SMALL, Walked(error, np.ones(72, bool), doubts))
    assert min(config.certainty[1:]) >= 0 and config.certainty[3] < config.certainty[1]
    sure = confidence(config, doubts)
    assert sure[:60].mean() > 0.9 and sure[60:].mean() < 0.3
    alone = calibrated(SMALL, Walked(error[:60], np.ones(60, bool), doubts[:60]))
    assert (confidence(alone, doubts[:60]) > 0.5).all()


def test_a_variant_has_its_discs_where_they_are_seen() -> None:
    ground = _ground()
    for seed in range(4):
        other = altered(ground, np.random.default_rng(seed))
        for x, r, c in other.targets[other.inside].round().astype(int):
            assert other.grid[x, r, c] > 120
        assert not np.array_equal(other.targets, ground.targets)
        noisy = spoilt(ground, np.random.default_rng(seed))
        assert noisy.grid.dtype == np.uint8 and noisy.targets.shape == (5, 3)


def test_a_phantoms_targets_are_its_discs(monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"slices": 7, "matrix": 256, "pixel_mm": 1.0}
    monkeypatch.setattr(rl_localiser_data, "make_phantom", lambda seed, lesions: make_phantom(seed, lesions, **small))
    whole, cut = (phantom_ground(4, SMALL, cut_share=share) for share in (0.0, 1.0))
    phantom = make_phantom(4, **small)
    gaps = np.linalg.norm(np.diff([phantom.disc_centres_lps_mm[fsu] for fsu in SMALL.fsus], axis=0), axis=1)
    assert whole.inside.all()
    assert np.allclose(np.linalg.norm(np.diff(whole.targets, axis=0), axis=1) * SPACING_MM, gaps, rtol=0.05)
    assert cut.grid.shape[1] < whole.grid.shape[1] and 3 <= cut.inside.sum() < 5 and np.isfinite(cut.targets).all()


def test_a_slice_becomes_one_plane_or_a_slab_with_its_discs() -> None:
    rows, columns = np.mgrid[:260, :200]
    discs = tuple(Disc(level, (210.0 - 36 * level, 90.0), None, None) for level in range(6))
    blobs = [np.exp(-0.5 * ((rows - d.centre[0]) ** 2 + (columns - d.centre[1]) ** 2) / 20) for d in discs]
    scene = Scene((0.3 + np.sum(blobs, axis=0)).astype(np.float32), discs)
    made = [slice_ground(scene, np.random.default_rng(seed), SMALL) for seed in range(4)]
    assert {len(ground.grid) == 1 for ground in made} == {True, False}
    for ground in made:
        for target in ground.targets[ground.inside]:
            x, r, c = target.round().astype(int)
            assert ground.grid[x, r, c] > np.median(ground.grid[x])


def test_only_localisers_have_kinds(tmp_path: Path) -> None:
    config = tmp_path / "x.yaml"
    config.write_text("{}")
    refused = CliRunner().invoke(app, ["train", "autoencoder", "--kind", "rl", "--config", str(config)])
    assert refused.exit_code == 2


def test_the_command_trains_agents(tmp_path: Path) -> None:
    config = tmp_path / "tiny-rl-localiser.yaml"
    config.write_text(f"run_dir: {tmp_path / 'run'}\nphantoms: 1\nsteps: 0\nheld_out_phantoms: 0\nwarm_up: 0\n")
    done = CliRunner().invoke(app, ["train", "localiser", "--kind", "rl", "--config", str(config)])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "run" / "rl_localiser.safetensors").exists()
