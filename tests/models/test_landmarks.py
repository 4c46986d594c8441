"""The landmark is on the disc's posterior margin, or in the middle of the sac."""

import numpy as np
import pytest

from spinepaint.models.landmarks import DiscFrame, choose_landmark

SPACING = (4.0, 0.7, 0.7)
MARGIN_MM, SAC_MM = 62.0, 13.0  # where the disc ends and how deep the sac behind it is
DISC_ROW = 80


def _voxels(tilt: float = 0.0, contrast: float = 1.0) -> np.ndarray:
    """Bodies 0.5, a 9 mm high disc (nucleus 0.4, annulus 0.1), sac 1.0, a dark line behind it, then fat 0.8."""
    rows, columns = np.mgrid[:160, :160] * SPACING[1]
    down = rows - DISC_ROW * SPACING[1]
    back = columns - MARGIN_MM + tilt * down
    image = np.full(rows.shape, 0.5)
    image[np.abs(down) < 4.5] = 0.4
    image[(np.abs(down) < 4.5) & (back > -7)] = 0.1
    image[back > 0] = 1.0
    image[back > SAC_MM] = 0.1
    image[back > SAC_MM + 3] = 0.8
    noise = np.random.default_rng(1).normal(0, 0.02, (9, *rows.shape))
    return (0.5 + contrast * (image[None] - 0.5) + contrast * noise).astype(np.float32)


def _points(error_mm: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Disc centre, margin and canal as a localiser would give them, the last two too far back by `error_mm`."""
    at = np.array([4.0, DISC_ROW, 0.0])
    back = (MARGIN_MM - 17, MARGIN_MM + error_mm, MARGIN_MM + 7 + error_mm)
    centre, margin, canal = (at + np.array([0, 0, mm / SPACING[2]]) for mm in back)
    return centre, margin, canal


@pytest.mark.parametrize("error_mm", [-3.0, 0.0, 3.0])
def test_herniation_lies_on_the_posterior_margin(error_mm: float) -> None:
    point = choose_landmark(_voxels(), SPACING, *_points(error_mm), "disc_herniation", np.random.default_rng(0))
    assert point[2] * SPACING[2] == pytest.approx(MARGIN_MM, abs=0.8)
    assert abs(point[1] - DISC_ROW) * SPACING[1] < 4


@pytest.mark.parametrize("error_mm", [-2.0, 0.0, 2.0])
def test_stenosis_lies_in_the_middle_of_the_sac(error_mm: float) -> None:
    point = choose_landmark(_voxels(), SPACING, *_points(error_mm), "central_canal_stenosis", np.random.default_rng(0))
    assert point[0] == 4.0
    middle = MARGIN_MM + SAC_MM / 2
    assert abs(point[2] * SPACING[2] - middle) < max(1.0, 0.8 * abs(error_mm))


def test_herniations_spread_over_the_midline_and_no_further() -> None:
    voxels, points = _voxels(), _points()
    draws = [choose_landmark(voxels, SPACING, *points, "disc_herniation", np.random.default_rng(i)) for i in range(40)]
    offsets = np.array([(p[0] - 4.0) * SPACING[0] for p in draws])
    assert np.abs(offsets).max() <= 5.0
    assert offsets.min() < -2 and offsets.max() > 2


def test_the_same_seed_gives_the_same_point() -> None:
    first, second = (
        choose_landmark(_voxels(), SPACING, *_points(), "disc_herniation", np.random.default_rng(7)) for _ in range(2)
    )
    assert np.array_equal(first, second)


@pytest.mark.parametrize("pathology", ["disc_herniation", "central_canal_stenosis"])
def test_without_edges_the_localisers_point_stands(pathology: str) -> None:
    centre, margin, canal = _points()
    flat = np.full((9, 160, 160), 3.0, np.float32)
    point = choose_landmark(flat, SPACING, centre, margin, canal, pathology, np.random.default_rng(0))
    assert np.allclose(point[1:], (margin if pathology == "disc_herniation" else canal)[1:], atol=0.1)


def test_a_tilted_frame_points_along_the_disc() -> None:
    frame = DiscFrame.of(np.array([4.0, 70, 60]), np.array([4.0, 80, 80]), (4.0, 1.0, 0.5))
    assert np.allclose(frame.backward, [np.sqrt(0.5), np.sqrt(2.0)])
    assert np.allclose(frame.at(-np.hypot(10, 10)), [4.0, 70, 60])


def test_points_at_the_border_stay_inside() -> None:
    voxels = _voxels()[:1]
    centre, margin, canal = _points()
    point = choose_landmark(voxels, SPACING, centre, margin, canal, "disc_herniation", np.random.default_rng(3))
    assert point[0] == 0.0


def test_an_unknown_pathology_is_refused() -> None:
    with pytest.raises(ValueError, match="scoliosis"):
        choose_landmark(_voxels(), SPACING, *_points(), "scoliosis", np.random.default_rng(0))


def _labels(discs_end_mm: float = MARGIN_MM, canal_end_mm: float = MARGIN_MM + SAC_MM + 3) -> np.ndarray:
    """Structures of `_voxels`: a disc 1, or bone above and below it, and the canal behind."""
    rows, columns = np.mgrid[:160, :160] * SPACING[1]
    down = rows - DISC_ROW * SPACING[1]
    labels = np.where(np.abs(down) < 4.5, 2, 1)
    labels[columns >= discs_end_mm] = 3
    labels[(columns > canal_end_mm) | (columns < discs_end_mm - 30)] = 0
    return np.broadcast_to(labels.astype(np.uint8), (9, 160, 160))


def test_the_segmented_margin_is_believed_before_the_grey_values() -> None:
    labels = _labels(discs_end_mm=MARGIN_MM + 3)
    point = choose_landmark(_voxels(), SPACING, *_points(), "disc_herniation", np.random.default_rng(0), labels)
    assert point[2] * SPACING[2] == pytest.approx(MARGIN_MM + 3, abs=0.6)


def test_stenosis_lies_in_the_sacs_part_of_the_segmented_canal() -> None:
    flat = np.full((9, 160, 160), 3.0, np.float32)
    point = choose_landmark(flat, SPACING, *_points(), "central_canal_stenosis", np.random.default_rng(0), _labels())
    assert point[2] * SPACING[2] == pytest.approx(MARGIN_MM + SAC_MM / 2, abs=1.0)


@pytest.mark.parametrize("pathology", ["disc_herniation", "central_canal_stenosis"])
def test_no_landmark_lies_in_bone(pathology: str) -> None:
    labels = _labels().copy()
    labels[labels == 2] = 1  # a fused level: nothing of the disc is seen
    labels[:, :, : round((MARGIN_MM + 4) / SPACING[2])] = 1
    point = choose_landmark(_voxels(), SPACING, *_points(-3.0), pathology, np.random.default_rng(0), labels)
    assert labels[tuple(np.rint(point).astype(int))] != 1
    assert point[2] * SPACING[2] < MARGIN_MM + SAC_MM


def test_without_structures_near_it_the_image_decides() -> None:
    nothing = np.zeros((9, 160, 160), np.uint8)
    for pathology in ("disc_herniation", "central_canal_stenosis"):
        with_labels, without = (
            choose_landmark(_voxels(), SPACING, *_points(), pathology, np.random.default_rng(0), labels)
            for labels in (nothing, None)
        )
        assert np.array_equal(with_labels, without)
