"""The severity that grey values say, against the phantom's condition."""

import numpy as np
import pytest

from bench.verification import Twins, true_discs
from spinepaint.imaging.grading import GreyLevel
from spinepaint.imaging.orient import Oriented, orient
from spinepaint.imaging.severity import severity_of
from spinepaint.imaging.vocabulary import CONDITIONS, Pathology, Severity
from spinepaint.training.crops import phantom_volume
from spinepaint.training.phantom import make_phantom

SEEDS = (961_000, 961_001, 961_002)
FSU = "L3-L4"


def said(pathology: Pathology, severity: Severity, seed: int) -> tuple[Severity | None, Severity | None]:
    """What is found where there is a lesion, and where there is none."""
    case = Twins(make_phantom(seed, {FSU: (pathology, severity)}), make_phantom(seed))
    discs = true_discs(case.well)
    points = discs.centres_lps_mm[FSU], discs.margins_lps_mm[FSU], discs.canals_lps_mm[FSU]
    well, ill = case.views
    level = GreyLevel.of(well, *points, case.ill.landmarks_lps_mm[FSU][0])
    assert level is not None
    found, healthy = (severity_of(pathology, level.degree(view, pathology)) for view in (ill, well))
    return found, healthy


@pytest.mark.parametrize(("pathology", "severity"), CONDITIONS)
def test_most_severities_are_told(pathology: Pathology, severity: Severity) -> None:
    found = [said(pathology, severity, seed) for seed in SEEDS]
    assert sum(severity is ill for ill, _ in found) >= 2
    assert all(well is None for _, well in found)


def test_without_bright_csf_there_is_no_level() -> None:
    phantom = make_phantom(3, slices=9, matrix=192, pixel_mm=1.2)
    view, discs = orient(phantom_volume(phantom)), true_discs(phantom)
    points = discs.centres_lps_mm[FSU], discs.margins_lps_mm[FSU], discs.canals_lps_mm[FSU]
    assert GreyLevel.of(view, *points, points[0][0]) is not None
    assert GreyLevel.of(Oriented(np.zeros_like(view.voxels), view.affine), *points, points[0][0]) is None
    assert GreyLevel.of(Oriented(-view.voxels, view.affine), *points, points[0][0]) is None
