"""The Gaussian weight: peak, radii in millimetres, anisotropic grids."""

import math

import pytest
import torch

from spinepaint.models.weighting import cell_centres_mm, gaussian_weight, roi

EXTENT = (80.0, 80.0, 50.0)
MIDDLE = (40.0, 40.0, 25.0)


@pytest.mark.parametrize("grid", [(32, 32, 16), (32, 16, 32)])
def test_radii_are_in_millimetres_on_any_grid(grid: tuple[int, int, int]) -> None:
    weight = gaussian_weight(grid, EXTENT, MIDDLE)[0, 0]
    distance = (cell_centres_mm(grid, EXTENT) - torch.tensor(MIDDLE)).norm(dim=-1)
    assert torch.equal(weight > 0.1, distance < 16 * math.sqrt(2 * math.log(10)))
    assert torch.equal(weight > 0.5, distance < 16 * math.sqrt(2 * math.log(2)))


def test_peak_is_one_at_the_landmark() -> None:
    centre_of_a_cell = (41.25, 38.75, 26.5625)
    weight = gaussian_weight((32, 32, 16), EXTENT, centre_of_a_cell)
    assert weight.max() == pytest.approx(1.0)
    assert weight.shape == (1, 1, 32, 32, 16)


def test_the_papers_region_is_half_the_crop() -> None:
    # METHOD: 48 % of the crop lies inside {W > 0.1}, and no cell rounds to t_v = 0 at t = 1000.
    weight = gaussian_weight((32, 32, 16), EXTENT, MIDDLE)
    assert float(roi(weight).mean()) == pytest.approx(0.48, abs=0.02)
    assert float(weight.min()) * 1000 > 0.5


def test_a_wider_sigma_reaches_further() -> None:
    narrow, wide = (gaussian_weight((32, 32, 16), EXTENT, MIDDLE, sigma) for sigma in (8.0, 16.0))
    assert bool((wide >= narrow).all())
    assert roi(wide).sum() > roi(narrow).sum()
