"""The grey-value measures against the phantom's exact truth."""

from functools import cache

import numpy as np
import pytest

from spinepaint.imaging.measures import LevelFrame
from spinepaint.imaging.orient import Oriented, orient
from spinepaint.imaging.volume import Volume
from spinepaint.training.phantom import Phantom, make_phantom

SEEDS = (1, 2, 3, 4, 5, 6)


def view_of(phantom: Phantom) -> Oriented:
    ones = np.ones(len(phantom.voxels))
    return orient(Volume(phantom.voxels, phantom.voxels.astype(np.int16), phantom.affine, ones, 0 * ones, ()))


@cache
def healthy_view(seed: int) -> tuple[Oriented, dict[str, tuple[float, float, float]]]:
    """A healthy phantom as it is measured, and its disc centres in LPS mm."""
    phantom = make_phantom(seed)
    return view_of(phantom), phantom.disc_centres_lps_mm


def changes(pathology: str, severity: str) -> tuple[float, float]:
    """Median change of canal depth and protrusion at L3-L4 over a few phantoms, in mm."""
    rows = []
    for seed in SEEDS:
        (healthy, centres), ill = healthy_view(seed), make_phantom(seed, {"L3-L4": (pathology, severity)})
        x, y, z = np.subtract(centres["L2-L3"], centres["L4-L5"])
        mark = ill.landmarks_lps_mm["L3-L4"]
        frame = LevelFrame.of(healthy, centres["L3-L4"], (float(x), float(y), float(z)), middle_x=mark[0])
        if frame is not None:
            before, after = frame.measure(healthy), frame.measure(view_of(ill))
            rows.append((after.canal_ap_mm - before.canal_ap_mm, after.protrusion_mm - before.protrusion_mm))
    assert len(rows) >= 4
    canal, protrusion = np.median(rows, axis=0)
    return float(canal), float(protrusion)


def test_an_untouched_level_measures_the_same_twice() -> None:
    phantom = make_phantom(3)
    view = view_of(phantom)
    frame = LevelFrame.of(view, phantom.disc_centres_lps_mm["L3-L4"], (0.0, 0.0, 1.0))
    assert frame is not None
    assert frame.measure(view) == frame.measure(view)
    assert 8.0 < frame.measure(view).canal_ap_mm < 22.0


def test_stenosis_narrows_and_more_so_when_severe() -> None:
    moderate, severe = changes("central_canal_stenosis", "moderate")[0], changes("central_canal_stenosis", "severe")[0]
    assert severe < moderate < -3.0


def test_herniation_reaches_back_and_further_when_large() -> None:
    small, large = changes("disc_herniation", "small")[1], changes("disc_herniation", "moderate_large")[1]
    assert large > small > 0.8


@pytest.mark.parametrize("value", [0.0, 100.0])
def test_no_canal_no_frame(value: float) -> None:
    view = Oriented(np.full((9, 60, 60), value, np.float32), np.diag([4.0, 1.0, 1.0, 1.0]))
    assert LevelFrame.of(view, (16.0, 20.0, 30.0), (0.0, 0.0, 1.0)) is None
