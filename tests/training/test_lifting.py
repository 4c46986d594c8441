"""Pseudo-volumes lifted from a slice, and crops drawn from a folder of slices."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from spinepaint.imaging.vocabulary import CONDITIONS, Pathology, Severity
from spinepaint.training.anatomy2d import DiscAnatomy
from spinepaint.training.lifting import lift, slice_positions_mm
from spinepaint.training.real_crops import RealCrops
from spinepaint.training.scene import Image
from tests.training.drawn_slice import SPACING_MM, draw_slice, drawn_anatomy

GRID, EXTENT_MM = (128, 128, 16), (80.0, 80.0, 50.0)


@pytest.fixture(scope="module")
def donor() -> tuple[Image, DiscAnatomy]:
    image, boxes = draw_slice()
    anatomy = drawn_anatomy(image, boxes)
    top, left = round(anatomy.margin[0]) - 64, round(anatomy.margin[1]) - 76
    crop = np.ascontiguousarray(image[top : top + 128, left : left + 128])
    return crop, replace(anatomy, margin=(anatomy.margin[0] - top, anatomy.margin[1] - left))


@pytest.mark.parametrize(("pathology", "severity"), CONDITIONS)
def test_a_lift_changes_the_middle_slices_at_the_landmark_only(
    donor: tuple[Image, DiscAnatomy], pathology: Pathology, severity: Severity
) -> None:
    made = lift(*donor, pathology, severity, np.random.default_rng(2), GRID, EXTENT_MM)
    assert made is not None
    assert made.voxels.shape == made.before.shape == GRID
    assert made.voxels.dtype == made.before.dtype == np.float32
    changed = np.abs(made.voxels - made.before)
    rows, columns, slices = np.meshgrid(*(np.arange(n) for n in GRID), indexing="ij")
    in_plane = np.hypot(rows - made.landmark_index[0], columns - made.landmark_index[1]) * SPACING_MM
    assert changed[in_plane > 33.0].max() < 1e-3
    k = round(made.landmark_index[2])
    assert changed[:, :, k].max() > 60.0
    assert changed[(np.abs(slice_positions_mm(GRID, EXTENT_MM)[slices]) > 16.0)].max() < 1e-3
    assert abs(slice_positions_mm(GRID, EXTENT_MM)[k]) <= 6.0 + 1.6


def test_slices_near_the_midline_are_to_be_believed_and_lateral_ones_are_not(donor: tuple[Image, DiscAnatomy]) -> None:
    made = lift(*donor, None, None, np.random.default_rng(0), GRID, EXTENT_MM)
    assert made is not None
    z = np.abs(slice_positions_mm(GRID, EXTENT_MM))
    assert (made.slice_weight[z < 5.0] == 1.0).all()
    assert (made.slice_weight[z > 11.5] == 0.0).all()
    assert np.array_equal(made.voxels, made.before)


def test_neighbouring_slices_do_not_share_their_noise(donor: tuple[Image, DiscAnatomy]) -> None:
    image, anatomy = donor
    flat = np.full_like(image, 120.0)
    made = lift(flat, replace(anatomy, noise=5.0), None, None, np.random.default_rng(0), GRID, EXTENT_MM)
    assert made is not None
    one, two = made.voxels[8:120, 8:40, 7].ravel(), made.voxels[8:120, 8:40, 8].ravel()
    assert one.std() > 2.0
    assert abs(float(np.corrcoef(one, two)[0, 1])) < 0.1


def test_a_coarser_grid_averages_the_same_crop(donor: tuple[Image, DiscAnatomy]) -> None:
    fine = lift(*donor, Pathology.DISC_HERNIATION, Severity.SMALL, np.random.default_rng(3), (128, 128, 16), EXTENT_MM)
    coarse = lift(*donor, Pathology.DISC_HERNIATION, Severity.SMALL, np.random.default_rng(3), (128, 64, 16), EXTENT_MM)
    assert fine is not None
    assert coarse is not None
    np.testing.assert_allclose(coarse.voxels, fine.voxels.reshape(128, 64, 2, 16).mean(2), atol=1e-3)
    assert 2 * coarse.landmark_index[1] + 0.5 == pytest.approx(fine.landmark_index[1])
    with pytest.raises(ValueError, match="does not average"):
        lift(*donor, None, None, np.random.default_rng(3), (128, 60, 16), EXTENT_MM)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two patients' slices, one of each split, laid out as SPIDER's."""
    root = tmp_path_factory.mktemp("slices")
    (root / "slices").mkdir()
    entries = []
    with (root / "overview.csv").open("w", newline="") as out:
        table = csv.writer(out)
        table.writerow(["new_file_name", "PixelSpacing"])
        for patient in (3, 8):
            image, boxes = draw_slice(patient)
            Picture.fromarray(image.astype(np.uint8)).save(root / "slices" / f"{patient}_t2.png")
            table.writerow([f"{patient}_t2", f"[{SPACING_MM}, {SPACING_MM}]"])
            drawn = [
                {
                    "ivd_label": b.ivd_label,
                    "y": b.centre[0] - b.size[0] / 2,
                    "x": b.centre[1] - b.size[1] / 2,
                    "h": b.size[0],
                    "w": b.size[1],
                    "grades": {"Disc herniation": "0"},
                }
                for b in boxes
            ]
            entries.append({"series": f"{patient}_t2", "boxes_bottom_to_top": drawn})
    (root / "disc_boxes.json").write_text(json.dumps(entries))
    return root


def test_crops_come_from_their_own_split_and_repeat_with_the_seed(folder: Path) -> None:
    crops, held_out = RealCrops(folder), RealCrops(folder, held_out=True)
    assert {d.patient for d in crops.clean} == {3}
    assert {d.patient for d in held_out.clean} == {8}
    one, two = (crops.sample(np.random.default_rng(9)) for _ in range(2))
    assert np.array_equal(one.voxels, two.voxels)
    assert one.landmark_index == two.landmark_index
    assert one.voxels.shape == GRID
    assert one.patient == 3


def test_the_landmark_of_a_crop_lies_at_the_disc_margin(folder: Path) -> None:
    crops = RealCrops(folder)
    for seed in range(4):
        made = crops.sample(np.random.default_rng(seed), Pathology.DISC_HERNIATION, Severity.MODERATE_LARGE)
        r, c, k = (round(i) for i in made.landmark_index)
        turned = made.before[r - 6 : r + 7, c + 6 : c + 14, k].mean()
        assert turned > 1.4 * made.before[r - 3 : r + 4, c - 8 : c - 3, k].mean()  # sac behind, disc in front
        assert np.abs(made.voxels - made.before)[r - 10 : r + 11, c : c + 14, k].max() > 50.0
