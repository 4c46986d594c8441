"""Measures from a segmentation against the phantom's exact truth; the bench has more of the same."""

from dataclasses import replace

import numpy as np
import pytest

from bench.verification import (
    Findings,
    Twins,
    as_a_network_might,
    by_structures,
    degraded,
    exactly,
    oriented_labels,
    true_discs,
)
from spinepaint.imaging.morphometry import LevelLines, Morphometry, degree_of
from spinepaint.imaging.morphometry_grid import CANAL, DISCS, VERTEBRAE
from spinepaint.imaging.orient import Oriented, orient
from spinepaint.imaging.severity import BORDERS, middle_of, severity_class, severity_of
from spinepaint.imaging.vocabulary import CONDITIONS, SEVERITIES, Pathology, Severity
from spinepaint.models.segmentation import STRUCTURES
from spinepaint.training.crops import phantom_volume
from spinepaint.training.phantom import make_phantom

HERNIATION, STENOSIS = Pathology.DISC_HERNIATION, Pathology.CENTRAL_CANAL_STENOSIS
LESIONS = (
    {"L1-L2": ("disc_herniation", "small"), "L3-L4": ("disc_herniation", "moderate_large"),
     "L5-S1": ("central_canal_stenosis", "severe")},
    {"L2-L3": ("central_canal_stenosis", "moderate"), "L4-L5": ("disc_herniation", "moderate_large")},
)  # fmt: skip


@pytest.fixture(scope="module")
def cases() -> list[Twins]:
    return [Twins(make_phantom(960_000 + k, lesions), make_phantom(960_000 + k)) for k, lesions in enumerate(LESIONS)]


@pytest.fixture(scope="module")
def exact(cases: list[Twins]) -> Findings:
    return by_structures(cases, exactly)


def lines_of(case: Twins, fsu: str = "L3-L4") -> tuple[Oriented, np.ndarray, LevelLines]:
    discs = true_discs(case.well)
    view, labels = orient(phantom_volume(case.well)), oriented_labels(case.well)
    level = next(level for level in discs.levels if level == fsu)
    lines = LevelLines.of(view, labels, discs.centres_lps_mm[level], discs.up(level))
    assert lines is not None
    return view, labels, lines


def test_exact_labels_give_the_truth(exact: Findings) -> None:
    canal, _, protrusion, height = np.median(np.abs(exact.errors), axis=0)
    assert len(exact.errors) == 20 and not np.isnan(exact.errors).any()
    assert canal < 1.0 and protrusion < 0.5 and height < 0.5
    assert np.abs(exact.errors[:, 2]).max() < 1.5
    assert len(exact.classes) == 5
    assert all(right and healthy for _, right, healthy in exact.classes)


def test_a_networks_labels_still_do(cases: list[Twins]) -> None:
    noisy = by_structures(cases, as_a_network_might)
    canal, _, protrusion, _ = np.nanmedian(np.abs(noisy.errors), axis=0)
    assert np.isnan(noisy.errors).any(axis=1).mean() < 0.1
    assert canal < 1.3 and protrusion < 1.5  # of twenty; the bench has three hundred
    assert sum(right for _, right, _ in noisy.classes) >= 3


def test_degrading_moves_borders_and_keeps_structures(cases: list[Twins]) -> None:
    labels = oriented_labels(cases[0].well)
    view = orient(phantom_volume(cases[0].well))
    worse = degraded(labels, view.spacing, np.random.default_rng(1))
    for value in (VERTEBRAE, DISCS, CANAL):
        a, b = labels == value, worse == value
        assert 0.7 < 2 * (a & b).sum() / (a.sum() + b.sum()) < 0.99


def test_the_values_are_those_of_the_segmenter() -> None:
    assert tuple(STRUCTURES.index(name) + 1 for name in ("vertebrae", "discs", "canal")) == (VERTEBRAE, DISCS, CANAL)


def test_lines_of_the_untouched_series_measure_any_other(cases: list[Twins]) -> None:
    view, labels, lines = lines_of(cases[0])
    untouched = lines.measure(view, labels)
    assert untouched is not None and untouched == lines.measure(view, labels.copy())
    thinner = np.where((labels == CANAL) & (np.indices(labels.shape)[2] % 2 == 0), 0, labels).astype(np.uint8)
    halved = lines.measure(view, thinner)
    assert halved is not None
    assert halved.protrusion_mm == untouched.protrusion_mm
    assert degree_of(STENOSIS, untouched, halved) == pytest.approx(0.53, abs=0.05)
    report = untouched.as_dict()
    assert set(report) == {"canal_ap_mm", "csf_area_mm2", "protrusion_mm", "canal_share", "disc_height_mm"}
    assert report["canal_share"] == round(max(0.0, untouched.protrusion_mm) / lines.canal_mm, 2)


@pytest.mark.parametrize("gone", [VERTEBRAE, DISCS, CANAL])
def test_what_was_not_segmented_cannot_be_measured(cases: list[Twins], gone: int) -> None:
    view, labels, lines = lines_of(cases[0])
    without = np.where(labels == gone, 0, labels).astype(np.uint8)
    discs = true_discs(cases[0].well)
    assert LevelLines.of(view, without, discs.centres_lps_mm["L3-L4"], (0.0, 0.0, 1.0)) is None
    measured = lines.measure(view, without)
    assert (measured is None) == (gone == DISCS)
    if gone == CANAL:
        assert measured is not None and measured.canal_ap_mm == measured.csf_area_mm2 == 0.0


def test_a_disc_elsewhere_is_not_taken_for_this_one(cases: list[Twins]) -> None:
    view, labels, lines = lines_of(cases[0])
    assert lines.measure(view, np.roll(labels, 20, axis=1)) is None


def test_degrees_fall_into_the_classes_of_the_definitions() -> None:
    well = Morphometry(12.0, 150.0, 1.0, 0.06, 8.0)
    for protrusion, severity in ((1.8, None), (3.0, Severity.SMALL), (4.9, Severity.SMALL), (5.1, Severity.MODERATE_LARGE)):
        degree = degree_of(HERNIATION, well, replace(well, protrusion_mm=protrusion))
        assert severity_of(HERNIATION, degree) is severity
    for left, severity in ((1.0, None), (0.65, Severity.MODERATE), (0.45, Severity.MODERATE), (0.35, Severity.SEVERE)):
        degree = degree_of(STENOSIS, well, replace(well, canal_ap_mm=12.0 * left))
        assert severity_of(STENOSIS, degree) is severity


def test_the_middle_of_a_severity_is_within_it() -> None:
    for pathology, severity in CONDITIONS:
        assert severity_of(pathology, middle_of(pathology, severity)) is severity
        assert severity_class(pathology, BORDERS[pathology][0] - 1e-6) == 0
    with pytest.raises(ValueError, match="severe"):
        middle_of(HERNIATION, SEVERITIES[STENOSIS][1])
