"""Cutting a crop and bringing it back, on volumes stored in any sense."""

import numpy as np
import pytest
from numpy.typing import NDArray

from spinepaint.imaging.crop import bring_back, cut, distance_mm
from spinepaint.imaging.orient import orient
from spinepaint.imaging.volume import Volume

EXTENT, GRID = (40.0, 40.0, 25.0), (64, 64, 8)
CENTRE = (1.0, 10.0, -5.0)

# Columns: patient directions (LPS) of slice, row and column. A common storage, one flipped everywhere, one oblique.
USUAL = np.array([[-1.0, 0, 0], [0, 0, 1], [0, -1, 0]]).T
FLIPPED = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]).T
TRANSPOSED = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]]).T


def turned(degrees: float) -> NDArray[np.float64]:
    a = np.radians(degrees)
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    return np.asarray(turn @ np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]).T)


def field(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """A smooth function of the patient's own coordinates, so that any resampling can be judged."""
    x, y, z = np.moveaxis(points, -1, 0)
    return 100 + 2 * x + 20 * np.sin(y / 9) + 15 * np.cos(z / 11)


def make_volume(directions: NDArray[np.float64], spacing: tuple[float, float, float] = (4.0, 0.8, 0.8)) -> Volume:
    shape = (15, 90, 100)
    affine = np.eye(4)
    affine[:3, :3] = directions * np.array(spacing)
    affine[:3, 3] = np.array(CENTRE) - affine[:3, :3] @ (np.array(shape) / 2)
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1)
    voxels = field(index @ affine[:3, :3].T + affine[:3, 3]).astype(np.float32)
    ones = np.ones(shape[0])
    return Volume(voxels, voxels.astype(np.int16), affine, ones, 0 * ones, ())


STORAGES = {"usual": USUAL, "flipped": FLIPPED, "transposed": TRANSPOSED, "oblique": turned(20.0)}


@pytest.mark.parametrize("storage", sorted(STORAGES))
def test_a_crop_holds_what_is_there(storage: str) -> None:
    crop = cut(make_volume(STORAGES[storage]), CENTRE, EXTENT, GRID)
    index = np.stack(np.meshgrid(*[np.arange(n) for n in GRID], indexing="ij"), -1)
    expected = field(index @ crop.affine[:3, :3].T + crop.affine[:3, 3])
    assert np.abs(crop.voxels - expected).max() < 0.6
    assert crop.centre_lps_mm == pytest.approx(CENTRE)
    assert crop.grid == GRID


@pytest.mark.parametrize("storage", sorted(STORAGES))
def test_axes_run_to_feet_back_and_left(storage: str) -> None:
    volume = make_volume(STORAGES[storage])
    step = cut(volume, CENTRE, EXTENT, GRID).affine[:3, :3]
    assert step[2, 0] < 0
    assert step[1, 1] > 0
    assert step[0, 2] > 0
    assert np.linalg.norm(step, axis=0) == pytest.approx(np.array(EXTENT) / np.array(GRID))
    view = orient(volume)
    assert view.affine[0, 0] > 0
    assert view.affine[2, 1] < 0
    assert view.affine[1, 2] > 0
    back = view.to_patient(view.to_index(CENTRE))
    assert back == pytest.approx(CENTRE)


@pytest.mark.parametrize("storage", sorted(STORAGES))
def test_orienting_moves_no_voxel(storage: str) -> None:
    volume = make_volume(STORAGES[storage])
    view = orient(volume)
    s, r, c = (n // 3 for n in view.voxels.shape)
    assert view.voxels[s, r, c] == pytest.approx(field(np.array(view.to_patient((s, r, c)))), rel=1e-4)


def test_corner_millimetres() -> None:
    crop = cut(make_volume(USUAL), CENTRE, EXTENT, GRID)
    assert crop.to_corner_mm(CENTRE) == pytest.approx((20.0, 20.0, 12.5))
    # Ten millimetres to the feet are ten more along X.
    assert crop.to_corner_mm((CENTRE[0], CENTRE[1], CENTRE[2] - 10)) == pytest.approx((30.0, 20.0, 12.5))


@pytest.mark.parametrize("storage", sorted(STORAGES))
def test_values_come_back_where_they_came_from(storage: str) -> None:
    volume = make_volume(STORAGES[storage])
    crop = cut(volume, CENTRE, EXTENT, GRID)
    returned = bring_back(volume, crop, crop.voxels)
    inside = distance_mm(volume, CENTRE) < 9.0
    assert inside.sum() > 100
    assert np.abs(returned[inside] - volume.voxels[inside]).max() < 1.0
    assert returned[distance_mm(volume, CENTRE) > 45.0].max() == 0.0


def test_beyond_the_edge_the_nearest_voxel_is_repeated() -> None:
    volume = make_volume(USUAL)
    corner = volume.to_patient(np.array([0.0, 0.0, 0.0]))
    crop = cut(volume, (float(corner[0]), float(corner[1]), float(corner[2])), EXTENT, GRID)
    assert np.isfinite(crop.voxels).all()
    assert crop.voxels.min() > 40


def test_distance_is_in_millimetres() -> None:
    volume = make_volume(turned(15.0))
    distance = distance_mm(volume, CENTRE)
    index = (3, 20, 70)
    assert distance[index] == pytest.approx(np.linalg.norm(volume.to_patient(np.array(index, float)) - CENTRE), rel=1e-5)
