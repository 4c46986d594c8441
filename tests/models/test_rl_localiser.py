"""The agents' network, views and walk; a hand-made network stands in for a fitted one."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from spinepaint.models.rl_localiser import MOVES, RlLocaliser, RlLocaliserConfig, full_width_half_maximum
from spinepaint.models.rl_localiser_views import BYTE, Atlas, to_agents_grid
from spinepaint.models.rl_localiser_walk import Walks, advance, confidence, facts, find, localise_by_agents, odd_gaps

SMALL = RlLocaliserConfig(widths=(8, 8, 8), hidden=8, view=16, atoms=15, gammas=(1.0,), certainty=(4.0, 2.0, 0.0, 0.0, 0.1))
SPACING = (2.0, 2.0, 2.0)
SHAPE = (11, 128, 96)
TRUTH = {name: np.array([5.0, 12.0 + 24 * i, 50.0 - 3 * i]) for i, name in enumerate(SMALL.fsus)}


class Oracle(nn.Module):
    """Knows where the discs are, and where an agent is by the grey value that it stands on: see `_signposts`."""

    def __init__(self, config: RlLocaliserConfig, sure: tuple[bool, ...] = (True,) * 5) -> None:
        super().__init__()
        self.config, self.sure = config, sure
        self.register_buffer("support", torch.linspace(config.low, config.high, config.atoms))

    def forward(self, views: Tensor, facts_: Tensor, agent: Tensor) -> Tensor:
        half, out = self.config.view // 2, torch.full((len(agent), len(MOVES), self.config.atoms), -20.0)
        bytes_ = (views[:, 1, half, half] * BYTE).round().long()
        for n, (byte, a) in enumerate(zip(bytes_.tolist(), agent.tolist(), strict=True)):
            away = self.away(byte, a)
            axis = int(np.abs(away).argmax())
            out[n, :, 0] = 0.0
            out[n, 2 * axis + int(away[axis] > 0), 0] = -20.0
            out[n, 2 * axis + int(away[axis] > 0), int(np.clip(abs(away[axis]), 2, self.config.atoms - 1))] = 0.0
            if not self.sure[a]:
                out[n] = 0.0
                out[n, 0, -1] = 0.01
        return torch.log_softmax(out, dim=-1)

    def away(self, byte: int, agent: int) -> np.ndarray:
        row, column = 8 * (byte // 16), 8 * (byte % 16)
        _, r, c = TRUTH[self.config.fsus[agent]]
        return np.array([0.0, r - row - 4, c - column - 4])


def test_the_network_gives_a_distribution_for_every_move_of_the_asked_agent() -> None:
    torch.manual_seed(0)
    network = RlLocaliser(SMALL)
    views, known = torch.rand(3, SMALL.planes, 16, 16), torch.rand(3, SMALL.facts)
    log = network(views, known, torch.tensor([0, 4, 4]))
    assert log.shape == (3, 6, 15)
    assert torch.allclose(log.exp().sum(dim=-1), torch.ones(3, 6), atol=1e-5)
    other = network(views, known, torch.tensor([1, 4, 4]))
    assert not torch.allclose(log[0], other[0]) and torch.allclose(log[1:], other[1:])


def test_the_network_does_not_mind_the_scanners_gain() -> None:
    network = RlLocaliser(SMALL)
    views, known, agent = torch.rand(1, SMALL.planes, 16, 16), torch.rand(1, SMALL.facts), torch.tensor([2])
    assert torch.allclose(network(views, known, agent), network(5 * views + 3, known, agent), atol=0.05)


def test_the_config_survives_json() -> None:
    assert RlLocaliserConfig(**json.loads(json.dumps(asdict(SMALL)))) == SMALL


@pytest.mark.parametrize(("sigma", "gap"), [(0.5, 0.1), (1.0, 0.1), (1.0, 0.25)])
def test_the_width_of_a_gaussian_is_as_in_the_books(sigma: float, gap: float) -> None:
    place = torch.arange(-40, 41) * gap
    width = full_width_half_maximum(torch.exp(-0.5 * (place / sigma) ** 2)[None], gap)
    assert width.shape == (1,)
    assert float(width) == pytest.approx(2.3548 * sigma, rel=0.01)


def test_two_peaks_are_wider_than_one_and_the_support_bounds_all() -> None:
    one, two = torch.zeros(15), torch.zeros(15)
    one[3], two[3], two[11] = 1.0, 0.5, 0.5
    widths = full_width_half_maximum(torch.stack([one, two, torch.full((15,), 1 / 15)]), 1.0)
    assert widths.tolist() == pytest.approx([1.0, 9.0, 14.0])


def test_views_are_centred_and_zero_outside() -> None:
    volume = np.random.default_rng(0).integers(1, 255, (5, 40, 24), dtype=np.uint8)
    atlas = Atlas([np.zeros((2, 8, 8), np.uint8), volume], (1, 4))
    views = atlas.cut(np.array([1, 1, 0]), np.array([[2, 20, 12], [0, 0, 0], [1, 4, 4]]), 16, 2)
    assert views.shape == (3, 6, 16, 16) and views.dtype == np.uint8
    for plane, x in enumerate((0, 2, 4)):
        assert np.array_equal(views[0, plane], volume[x, 12:28, 4:20])
    assert (views[1, 0] == 0).all() and (views[1, 1, :8] == 0).all()
    assert np.array_equal(views[1, 1, 8:, 8:], volume[0, :8, :8])
    assert views[0, 4, 8, 8] == int(volume[2, 20:24, 12:16].mean())
    assert (views[0, 3] == 0).all() and (views[2] == 0).all()


def test_the_grid_keeps_places() -> None:
    voxels = np.zeros((11, 150, 100), np.float32)
    voxels[5, 60:64, 40:44] = 1.0
    grid, factor = to_agents_grid(voxels, (4.0, 1.0, 1.0), 2.0)
    assert grid.shape == (22, 75, 50) and np.allclose(factor, (2, 0.5, 0.5))
    where = np.argwhere(grid > 0.5 * grid.max())
    assert np.allclose((where.mean(axis=0) + 0.5) / factor - 0.5, (5, 61.5, 41.5), atol=0.3)


def _walks(*places: tuple[int, int, int]) -> Walks:
    return Walks.begin(np.zeros(1, np.int64), np.array([places]))


def _go(walks: Walks, action: int, value: float = 0.0) -> np.ndarray:
    shape = walks.stage.shape
    one = np.full(shape, value, np.float32)
    return advance(SMALL, np.array([[9, 40, 40]]), walks, np.full(shape, action), one, np.repeat(one[..., None], 3, axis=2))[1]


def test_steps_shorten_by_oscillation_and_end_at_the_calmest_place() -> None:
    walks = _walks((4, 20, 20))
    _go(walks, 3, value=3.0)  # row + 4
    assert walks.position.tolist() == [[[4, 24, 20]]]
    _go(walks, 2, value=1.0)  # and back: the calmer place was row 24
    assert walks.position.tolist() == [[[4, 24, 20]]] and walks.stage.tolist() == [[1]]
    for value in (2.0, 1.0, 2.0, 1.5):
        assert not walks.done.any()
        _go(walks, 3 if value == 2.0 else 2, value=value)
    assert walks.done.all() and walks.doubts.tolist() == [[[1.5, 1.5, 1.5]]]
    before = walks.position.copy()
    _go(walks, 5)
    assert np.array_equal(walks.position, before)


def test_a_move_out_of_the_image_stays_and_is_told() -> None:
    walks = _walks((4, 20, 20), (4, 2, 20))
    assert _go(walks, 2).tolist() == [[False, True]]
    assert walks.position[0, 1].tolist() == [4, 2, 20] and walks.stage.tolist() == [[0, 1]]


def test_walks_end_even_without_oscillation() -> None:
    walks, config = _walks((4, 0, 0)), replace(SMALL, most_moves=1)
    zero = np.zeros((1, 1), np.float32)
    for _ in config.steps:
        advance(config, np.array([[9, 40, 40]]), walks, np.array([[3]]), zero, np.zeros((1, 1, 3), np.float32))
    assert walks.done.all()


def test_agents_know_who_they_are_what_they_did_and_where_the_others_are() -> None:
    places = np.zeros((1, 5, 3), np.int64)
    places[0, 1] = (0, 10, 0)
    moves = np.full((1, 5, 4), -1)
    moves[0, 2, 0] = 3
    known = facts(SMALL, places, np.ones((1, 5), np.int64), moves)
    assert known.shape == (1, 5, SMALL.facts)
    assert known[0, 2, :8].tolist() == [0, 0, 1, 0, 0, 0, 1, 0]
    assert known[0, 2, 8:32].nonzero()[0].tolist() == [3] and not known[0, 1, 8:32].any()
    assert known[0, 0, 32:].reshape(5, 3)[1].tolist() == pytest.approx([0, 0.2, 0])  # 20 mm in dm / 10


def _signposts() -> np.ndarray:
    """A volume whose grey values say where they are, in blocks of 8 x 8 voxels, on the agents' own grid."""
    rows, columns = (np.arange(n) // 8 for n in SHAPE[1:])
    return np.broadcast_to(16.0 * rows[:, None] + columns, SHAPE).astype(np.float32)


@pytest.fixture
def signposts(monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    from spinepaint.models import rl_localiser_views

    monkeypatch.setattr(rl_localiser_views, "normalise", lambda voxels: voxels / np.float32(BYTE))
    return _signposts()


def test_agents_that_know_the_way_arrive(signposts: np.ndarray) -> None:
    found = localise_by_agents(Oracle(SMALL), signposts, SPACING)  # type: ignore[arg-type]
    assert set(found.centres) == set(TRUTH) and found.warnings == ()
    for name, truth in TRUTH.items():
        assert (np.abs(found.centres[name] - truth)[1:] <= 8).all()  # a signpost's block
        assert found.confidence[name] > 0.5


def test_an_agent_that_is_not_sure_is_left_out(signposts: np.ndarray) -> None:
    config = replace(SMALL, least_confidence=0.3)
    found = localise_by_agents(Oracle(config, (True, True, False, True, True)), signposts, SPACING)  # type: ignore[arg-type]
    assert "L3-L4" not in found.centres and found.widths["L3-L4"] > found.widths["L2-L3"]
    assert any("L3-L4" in warning for warning in found.warnings)


def test_a_disc_beyond_the_border_is_absent(signposts: np.ndarray) -> None:
    found = localise_by_agents(Oracle(SMALL), signposts[:, :100], SPACING)  # type: ignore[arg-type]
    assert "L5-S1" not in found.centres and "L3-L4" in found.centres


def test_one_slice_is_enough_and_the_same_twice() -> None:
    torch.manual_seed(0)
    network, grid = RlLocaliser(SMALL), np.random.default_rng(0).integers(0, 255, (1, 40, 30), dtype=np.uint8)
    first, second = find(network, grid), find(network, grid)
    assert np.array_equal(first.places, second.places) and (first.places[:, 0] == 0).all()
    assert np.isfinite(first.doubts).all()


def test_confidence_falls_with_the_width_and_the_spread() -> None:
    def sure(width: float, spread_mm: float) -> float:
        return float(confidence(SMALL, np.array([[width, 0.0, 0.0, spread_mm]]))[0])

    assert sure(0.5, 0.0) > 0.9 and sure(2.0, 0.0) == pytest.approx(0.5) and sure(6.0, 0.0) < 0.01
    assert sure(0.5, 40.0) < sure(0.5, 5.0) < sure(0.5, 0.0)


def test_two_dimensional_input_is_refused() -> None:
    with pytest.raises(ValueError, match="three axes"):
        localise_by_agents(RlLocaliser(SMALL), np.zeros((8, 8), np.float32), SPACING)


def test_levels_that_cannot_be_neighbours_are_told() -> None:
    fsus = ("L1-L2", "L2-L3", "L3-L4")
    places = {name: np.array([2.0, row, 50.0]) for name, row in zip(fsus, (10.0, 48.0, 124.0), strict=True)}
    (warning,) = odd_gaps(fsus, places, (4.0, 1.0, 1.0))
    assert warning.startswith("L2-L3 and L3-L4 lie 76 mm apart")
    del places["L2-L3"]
    assert odd_gaps(fsus, places, (4.0, 1.0, 1.0)) == [], "levels with an absent one between them are no neighbours"
