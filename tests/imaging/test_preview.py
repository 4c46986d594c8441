"""The picture shows the right slice, the right way up, to scale, and the difference with its sign."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from spinepaint.imaging.preview import CAPTION_PX, CROP_MM, GAP_PX, PANEL_PX, View, sample, tint, write_preview
from spinepaint.imaging.reading import read_series
from spinepaint.imaging.volume import Volume
from tests.imaging.series_factory import make_series

ORIGIN_MM = (-20.0, -60.0, 70.0)
LANDMARK = (0.0, 2.0, -8.0)


def volume_of(voxels: NDArray[np.float32], *, row_mm: float = 1.0, column_mm: float = 1.0) -> Volume:
    """Sagittal, slices 4 mm to the left, rows to the feet, columns to the back."""
    affine = np.array([[4.0, 0, 0, ORIGIN_MM[0]], [0, 0, column_mm, ORIGIN_MM[1]], [0, -row_mm, 0, ORIGIN_MM[2]], [0, 0, 0, 1]])
    ones = np.ones(len(voxels))
    return Volume(voxels, voxels.astype(np.int16), affine, ones, 0 * ones, ())


def spots(volume: Volume, points: list[tuple[float, float, float]], value: float) -> Volume:
    """`volume` with a spot of 3x3 voxels at each patient point, in its slice alone."""
    voxels = volume.voxels.copy()
    for point in points:
        s, r, c = np.rint(volume.to_index(np.array(point))).astype(int)
        voxels[s, r - 1 : r + 2, c - 1 : c + 2] += value
    return volume.with_voxels(voxels)


def flat(**spacing: float) -> Volume:
    rows, columns = int(140 / spacing.get("row_mm", 1.0)), int(130 / spacing.get("column_mm", 1.0))
    voxels = np.random.default_rng(0).uniform(95.0, 105.0, (11, rows, columns)).astype(np.float32)
    return volume_of(voxels, **spacing)


def panels(path: Path) -> list[NDArray[np.int64]]:
    """The three details: before, after, difference."""
    sheet = np.asarray(Image.open(path).convert("RGB"), np.int64)
    top = 2 * CAPTION_PX
    lefts = [GAP_PX + n * (PANEL_PX + GAP_PX) for n in range(3)]
    return [sheet[top : top + PANEL_PX, left : left + PANEL_PX] for left in lefts]


def place(point: tuple[float, float, float]) -> tuple[int, int]:
    """Row and column in a detail of a patient point of the landmark's slice: posterior to the right, feet down."""
    per_mm = PANEL_PX / CROP_MM
    return round(PANEL_PX / 2 + (LANDMARK[2] - point[2]) * per_mm), round(PANEL_PX / 2 + (point[1] - LANDMARK[1]) * per_mm)


@pytest.mark.parametrize(("row_mm", "column_mm"), [(1.0, 1.0), (0.5, 1.0), (1.0, 0.625)])
def test_a_change_is_drawn_where_it_lies_to_scale_and_with_its_sign(tmp_path: Path, row_mm: float, column_mm: float) -> None:
    before = flat(row_mm=row_mm, column_mm=column_mm)
    up_and_front, down_and_back = (0.0, -28.0, 22.0), (0.0, 32.0, -38.0)
    after = spots(spots(before, [up_and_front], 60.0), [down_and_back], -60.0)
    write_preview(tmp_path / "preview.png", before, after, LANDMARK, title="Synthetic")
    old, new, difference = panels(tmp_path / "preview.png")
    red, _, blue = np.moveaxis(difference, -1, 0)
    brighter, darker = np.argwhere(red - blue > 100), np.argwhere(blue - red > 100)
    np.testing.assert_allclose(np.median(brighter, axis=0)[0], place(up_and_front)[0], atol=4)
    away = brighter[np.abs(brighter[:, 1] - place(up_and_front)[1]) < 30]
    np.testing.assert_allclose(away.mean(0), place(up_and_front), atol=4)
    np.testing.assert_allclose(darker.mean(0), place(down_and_back), atol=4)
    y, x = place(up_and_front)
    assert new[y, x].min() == 255 > old[y, x].min()
    y, x = place(down_and_back)
    assert new[y, x].max() == 0 < old[y, x].max()


def test_only_the_landmark_s_slice_is_drawn(tmp_path: Path) -> None:
    before = flat()
    write_preview(tmp_path / "a.png", before, spots(before, [(4.0, 2.0, -8.0)], 60.0), LANDMARK, title="T")
    write_preview(tmp_path / "b.png", before, before, LANDMARK, title="T")
    for a, b in zip(panels(tmp_path / "a.png"), panels(tmp_path / "b.png"), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("flip", [(slice(None, None, -1), slice(None)), (slice(None), slice(None, None, -1))])
def test_the_same_anatomy_looks_the_same_however_it_is_stored(tmp_path: Path, flip: tuple[slice, slice]) -> None:
    before = flat()
    after = spots(before, [(0.0, -18.0, 12.0)], 60.0)
    stored = []
    for volume in (before, after):
        affine = volume.affine.copy()
        for axis, turn in ((1, flip[0]), (2, flip[1])):
            if turn.step == -1:
                affine[:3, 3] += affine[:3, axis] * (volume.voxels.shape[axis] - 1)
                affine[:3, axis] *= -1
        voxels = np.ascontiguousarray(volume.voxels[:, flip[0], flip[1]])
        stored.append(Volume(voxels, volume.stored, affine, volume.slope, volume.intercept, ()))
    write_preview(tmp_path / "a.png", before, after, LANDMARK, title="T")
    write_preview(tmp_path / "b.png", stored[0], stored[1], LANDMARK, title="T")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_real_series_at_its_edge_is_drawn_and_a_repeat_is_the_same(tmp_path: Path) -> None:
    make_series(tmp_path / "in", slices=5, rows=60, columns=48, oblique_deg=14.0)
    volume = read_series(tmp_path / "in").volume
    for name in ("a.png", "b.png"):
        write_preview(tmp_path / "out" / name, volume, volume.with_voxels(volume.voxels * 1.1), (90.0, 60.0, 80.0), title="Edge")
    assert (tmp_path / "out" / "a.png").read_bytes() == (tmp_path / "out" / "b.png").read_bytes()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "b.png"]
    image = Image.open(tmp_path / "out" / "a.png")
    assert (image.mode, image.info) == ("RGB", {})  # no text of any kind beside the pixels


def test_a_constant_image_can_be_drawn(tmp_path: Path) -> None:
    constant = volume_of(np.full((11, 140, 130), 7.0, np.float32))
    write_preview(tmp_path / "a.png", constant, constant, LANDMARK, title="T")
    _, _, difference = panels(tmp_path / "a.png")
    assert np.abs(difference[100:380, 100:380] - difference[100:380, 100:380, :1]).max() == 0  # nothing coloured


def test_a_small_difference_is_not_stretched_to_look_large(tmp_path: Path) -> None:
    before = flat()
    write_preview(tmp_path / "a.png", before, spots(before, [LANDMARK], 0.05), LANDMARK, title="T")
    red, _, blue = np.moveaxis(panels(tmp_path / "a.png")[2], -1, 0)
    centre = np.s_[PANEL_PX // 2 - 6 : PANEL_PX // 2 + 7, PANEL_PX // 2 - 6 : PANEL_PX // 2 + 7]
    assert (red - blue)[centre].max() < 30


def test_different_shapes_are_refused(tmp_path: Path) -> None:
    before = flat()
    with pytest.raises(ValueError, match="shapes differ"):
        write_preview(tmp_path / "a.png", before, flat(row_mm=0.5), LANDMARK, title="T")
    assert not (tmp_path / "a.png").exists()


def test_sampling_keeps_values_in_place_and_pads_with_the_least() -> None:
    plane = np.arange(12, dtype=np.float32).reshape(3, 4) + 5
    np.testing.assert_allclose(sample(plane, (1.0, 1.0), View(0.0, 0.0, 3.0, 3)), plane[:, :3], atol=1e-4)
    outside = sample(plane, (1.0, 1.0), View(-9.0, -9.0, 3.0, 3))
    np.testing.assert_allclose(outside, 5.0)


def test_the_tint_goes_to_orange_and_to_blue() -> None:
    grey = np.full((1, 3, 3), 200.0)
    darker, same, brighter = tint(grey, np.array([[-1.0, 0.0, 1.0]]))[0]
    assert darker[2] > darker[0]
    assert brighter[0] > brighter[2]
    np.testing.assert_allclose(same, 60.0)
