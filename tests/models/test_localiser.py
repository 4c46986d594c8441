"""The localiser's network and its reading of heatmaps."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from spinepaint.models.localiser import SPOTS, DiscLocaliser, LocaliserConfig, localise, normalise, to_grid

SMALL = LocaliserConfig(widths=(16, 16, 16), deep_blocks=1)
SPACING = (4.4, 1.0, 0.8)
# (slice, row, column) in voxels of discs L1-L2 … L5-S1.
TRUTH = {name: np.array([6.5, 60 + 35 * i, 110 - 8 * np.sin(i)]) for i, name in enumerate(SMALL.fsus)}


class Oracle(nn.Module):
    """Stands in for a fitted network: paints spots at TRUTH on each slice, fading from the midline."""

    config = SMALL

    def __init__(self, named: bool = True, present: tuple[str, ...] = SMALL.fsus) -> None:
        super().__init__()
        self.named, self.present, self.slice = named, present, 0

    def forward(self, grid: Tensor) -> Tensor:
        step = 2 * SMALL.spacing_mm
        rows, columns = (np.arange(n // 2) for n in grid.shape[2:])
        out = torch.full((len(grid), SPOTS + len(SMALL.levels), len(rows), len(columns)), -8.0)
        out[:, SPOTS:] = 0
        for image in out:
            for name in self.present:
                place, row, column = TRUTH[name]
                fade = np.exp(-0.5 * ((self.slice - place) * SPACING[0] / 8) ** 2)
                for channel, behind_mm in enumerate((0.0, 18.0, 26.0)):
                    # As `localise` sees a voxel: the grid's own spacing differs from 1.25 mm by rounding alone.
                    r = (row + 0.5) * SPACING[1] / step - 0.5
                    c = (column + 0.5) * SPACING[2] / step - 0.5 + behind_mm / step
                    distance = ((rows[:, None] - r) ** 2 + (columns - c) ** 2) * step**2
                    heat = torch.from_numpy(fade * np.exp(-0.5 * distance / 25)).float().clamp(1e-4, 0.98)
                    image[channel] = torch.maximum(image[channel], torch.logit(heat))
                    if channel == 0 and self.named:
                        image[SPOTS + SMALL.levels.index(name)][torch.from_numpy(distance < 200)] = 3.0
            self.slice += 1
        return out


VOXELS = np.random.default_rng(0).random((14, 260, 250), dtype=np.float32)


def test_the_network_keeps_half_the_resolution_and_any_size() -> None:
    network = DiscLocaliser(SMALL)
    assert network(torch.rand(2, 1, 48, 32)).shape == (2, SPOTS + 7, 24, 16)
    assert network(torch.rand(1, 1, 96, 80)).shape == (1, SPOTS + 7, 48, 40)


def test_the_config_survives_json() -> None:
    config = LocaliserConfig(**json.loads(json.dumps(asdict(SMALL))))
    assert config == SMALL
    DiscLocaliser(config).load_state_dict(DiscLocaliser(SMALL).state_dict())


def test_the_default_network_is_small() -> None:
    assert sum(p.numel() for p in DiscLocaliser(LocaliserConfig()).parameters()) < 2_000_000


def test_discs_are_found_in_three_dimensions() -> None:
    found = localise(Oracle(), VOXELS, SPACING)  # type: ignore[arg-type]
    assert set(found.centres) == set(TRUTH)
    for name, truth in TRUTH.items():
        assert np.linalg.norm((found.centres[name] - truth) * SPACING) < 1.0
        assert found.margins[name][2] - truth[2] == pytest.approx(18 / SPACING[2], abs=1.5)
        assert found.canals[name][2] - truth[2] == pytest.approx(26 / SPACING[2], abs=1.5)
        assert 0.5 < found.confidence[name] <= 1
    assert found.warnings == ()


def test_a_level_outside_the_field_of_view_is_absent() -> None:
    present = SMALL.fsus[:3]
    found = localise(Oracle(present=present), VOXELS, SPACING)  # type: ignore[arg-type]
    assert set(found.centres) == set(present)
    assert any("L5-S1" in warning for warning in found.warnings)


def test_doubtful_naming_warns_and_lowers_confidence() -> None:
    found = localise(Oracle(named=False, present=SMALL.fsus[1:4]), VOXELS, SPACING)  # type: ignore[arg-type]
    assert any(warning.startswith("level naming uncertain") for warning in found.warnings)
    assert max(found.confidence.values(), default=0.0) < 0.5


def test_an_empty_image_has_no_discs() -> None:
    found = localise(Oracle(present=()), np.zeros((5, 64, 64), np.float32), SPACING)  # type: ignore[arg-type]
    assert found.centres == {} and found.warnings == ("no lumbar disc was found",)


def test_two_dimensional_input_is_refused() -> None:
    with pytest.raises(ValueError, match="three axes"):
        localise(Oracle(), np.zeros((64, 64), np.float32), SPACING)  # type: ignore[arg-type]


def test_localise_leaves_the_voxels_alone_and_repeats_itself() -> None:
    torch.manual_seed(0)
    network, voxels = DiscLocaliser(SMALL), VOXELS[:3].copy()
    first, second = (localise(network, voxels, SPACING) for _ in range(2))
    assert np.array_equal(voxels, VOXELS[:3])
    assert first.confidence == second.confidence


def test_normalise_ignores_the_scanners_gain() -> None:
    assert np.allclose(normalise(VOXELS), normalise(VOXELS * 700 + 50), atol=1e-3)


def test_grid_has_the_asked_spacing_and_whole_multiples() -> None:
    grid = to_grid(torch.rand(2, 1, 100, 90), (1.0, 2.0), 1.25)
    assert grid.shape == (2, 1, 80, 144)
