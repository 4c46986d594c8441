"""Finding the canal in a slice, and the pathologies simulated on it."""

from dataclasses import replace

import numpy as np
import pytest

from spinepaint.imaging.vocabulary import Severity
from spinepaint.training.anatomy2d import find_anatomy
from spinepaint.training.canal_path import csf_path, true_spacing
from spinepaint.training.noise_level import noise_level
from spinepaint.training.scene import Image
from spinepaint.training.simulation import herniate, stenose
from tests.training.drawn_slice import ANNULUS, CSF, LEVEL_MM, SAC_MM, SPACING_MM, WALL_MM, draw_slice, drawn_anatomy

DISC_ROW_MM = 29.0 + LEVEL_MM


def bright_run_mm(image: Image, row: int) -> tuple[float, float]:
    """(front, width) in mm of the sac at a row: the run about the brightest pixel above half its height over the annulus."""
    profile = image[row - 1 : row + 2].mean(0)
    first, last = round((WALL_MM - 2) / SPACING_MM), round((WALL_MM + SAC_MM + 1) / SPACING_MM)
    peak = first + int(profile[first:last].argmax())
    below = np.flatnonzero(profile < 0.5 * (ANNULUS + profile[peak]))
    front, back = below[below < peak].max() + 1, below[below > peak].min()
    return float(front - 0.5) * SPACING_MM, float(back - front) * SPACING_MM


def test_anatomy_is_found_where_it_was_drawn() -> None:
    image, boxes = draw_slice()
    a = drawn_anatomy(image, boxes)
    assert a.margin[0] * SPACING_MM == pytest.approx(DISC_ROW_MM, abs=1.0)
    assert a.margin[1] * SPACING_MM == pytest.approx(WALL_MM, abs=0.8)
    assert a.canal_mm == pytest.approx(SAC_MM, abs=1.0)
    assert a.posterior == pytest.approx((0.0, 1.0), abs=0.05)
    assert a.disc_axis == pytest.approx((0.0, 1.0), abs=0.08)
    assert a.disc_half_height_mm == pytest.approx(5.0, abs=0.7)
    assert a.csf == pytest.approx(CSF, rel=0.06)
    assert a.annulus == pytest.approx(ANNULUS, abs=10)


def test_noise_level_is_that_of_white_noise() -> None:
    noisy = 100.0 + np.random.default_rng(1).normal(0.0, 4.0, (200, 200))
    assert noise_level(noisy.astype(np.float32)) == pytest.approx(4.0, rel=0.05)


@pytest.mark.parametrize("sac_grey", [100.0, 60.0, 30.0])
def test_a_slice_without_a_bright_sac_has_no_anatomy(sac_grey: float) -> None:
    image, boxes = draw_slice(sac_grey=sac_grey)
    assert find_anatomy(image, SPACING_MM, boxes[1], csf_path(image, SPACING_MM, boxes)) is None


def test_spacing_is_corrected_only_where_discs_would_be_of_no_human_size() -> None:
    boxes = draw_slice()[1]
    assert true_spacing((0.625, 0.625), boxes) == (0.625, 0.625)
    row, column = true_spacing((0.3, 0.3), boxes)
    assert row == column == pytest.approx(48.0 / boxes[0].size[1])


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("severity", "low", "high"), [(Severity.SMALL, 3.0, 5.0), (Severity.MODERATE_LARGE, 5.0, 9.0)])
def test_herniation_protrudes_as_far_as_its_severity_says(severity: Severity, low: float, high: float, seed: int) -> None:
    image, boxes = draw_slice(seed)
    made = herniate(image, drawn_anatomy(image, boxes), severity, np.random.default_rng(seed))
    assert made is not None
    after, landmark, measures = made
    rows = range(round(landmark[0]) - 4, round(landmark[0]) + 5)
    fronts = [bright_run_mm(after, row)[0] for row in rows]
    protrusion = max(fronts) - landmark[1] * SPACING_MM
    assert low - 0.7 <= protrusion <= high + 0.7
    assert protrusion == pytest.approx(measures.protrusion_mm, abs=0.9)
    share = protrusion / SAC_MM
    assert share < 0.37 if severity is Severity.SMALL else 0.32 < share < 0.85


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("severity", "low", "high"), [(Severity.MODERATE, 0.45, 0.65), (Severity.SEVERE, 0.10, 0.35)])
def test_stenosis_leaves_the_share_of_the_canal_its_severity_says(severity: Severity, low: float, high: float, seed: int) -> None:
    image, boxes = draw_slice(seed)
    after, landmark, measures = stenose(image, drawn_anatomy(image, boxes), severity, np.random.default_rng(seed))
    assert landmark[1] * SPACING_MM == pytest.approx(WALL_MM + SAC_MM / 2, abs=1.0)
    rows = range(round(landmark[0]) - 4, round(landmark[0]) + 5)
    narrowest = min(bright_run_mm(after, row)[1] for row in rows)
    assert low - 0.08 <= narrowest / SAC_MM <= high + 0.08
    assert low - 0.02 <= measures.canal_after_mm / measures.canal_before_mm <= high + 0.02


def test_nothing_changes_far_from_the_landmark() -> None:
    image, boxes = draw_slice()
    anatomy = drawn_anatomy(image, boxes)
    rows, columns = np.meshgrid(*(np.arange(n) for n in image.shape), indexing="ij")
    for severity in Severity:
        make = stenose if severity in (Severity.MODERATE, Severity.SEVERE) else herniate
        made = make(image, anatomy, severity, np.random.default_rng(4))
        assert made is not None
        far = np.hypot(rows - anatomy.margin[0], columns - anatomy.margin[1]) * SPACING_MM > 25.0
        assert np.array_equal(made[0][far], image[far])
        assert not np.array_equal(made[0], image)


def test_the_same_seed_makes_the_same_pixels() -> None:
    image, boxes = draw_slice()
    anatomy = drawn_anatomy(image, boxes)
    one, two, other = (herniate(image, anatomy, Severity.SMALL, np.random.default_rng(s)) for s in (5, 5, 6))
    assert one is not None
    assert two is not None
    assert other is not None
    assert np.array_equal(one[0], two[0])
    assert one[1:] == two[1:]
    assert not np.array_equal(one[0], other[0])


def test_a_canal_without_room_takes_no_herniation() -> None:
    image, boxes = draw_slice()
    anatomy = drawn_anatomy(image, boxes)
    narrow = replace(anatomy, back=anatomy.front + 6.0)
    assert herniate(image, narrow, Severity.MODERATE_LARGE, np.random.default_rng(0)) is None
