"""The image-based measure follows the exact truth closely enough to judge an edit by."""

import time
from functools import cache
from typing import Any

import numpy as np
import pytest

from spinepaint.training.phantom import IntensityMeasure, Phantom, make_phantom, measure_intensity

GRID: dict[str, Any] = {
    "matrix": 320,
    "pixel_mm": 0.8,
    "slices": 13,
    "spacing_mm": 4.0,
    "thickness_mm": 3.5,
    "offset_mm": (0.0, 35.0, 0.0),
}
SEEDS = (0, 1, 2, 6)
# one phantom carries a lesion at every level; which level has which is turned with the seed
LESIONS = (
    ("disc_herniation", "moderate_large"), ("central_canal_stenosis", "severe"), ("disc_herniation", "moderate_large"),
    ("central_canal_stenosis", "severe"),
)  # fmt: skip
FSUS = ("L1-L2", "L2-L3", "L3-L4", "L4-L5")


@cache
def pair(seed: int) -> tuple[Phantom, Phantom]:
    turned = {fsu: LESIONS[(seed + k) % 4] for k, fsu in enumerate(FSUS)}
    return make_phantom(seed, **GRID), make_phantom(seed, turned, **GRID)


def measured(phantom: Phantom, fsu: str, landmark: tuple[float, float, float]) -> IntensityMeasure:
    return measure_intensity(phantom.voxels, phantom.affine, phantom.disc_centres_lps_mm[fsu], landmark)


def test_the_canal_is_measured_within_two_millimetres_in_the_median() -> None:
    errors = []
    for seed in SEEDS:
        for phantom in pair(seed):
            for fsu in FSUS:
                found = measured(phantom, fsu, phantom.candidate_landmarks_lps_mm[fsu, "central_canal_stenosis"])
                errors.append(abs(found.canal_ap_mm - phantom.morphometry[fsu].disc_to_flavum_mm))
    assert np.nanmedian(errors) < 2.0
    assert np.isnan(errors).mean() < 0.1


def test_a_lesion_moves_the_measure_its_way() -> None:
    narrowed, protruded = [], []
    for seed in SEEDS:
        healthy, ill = pair(seed)
        for fsu in FSUS:
            mark = ill.landmarks_lps_mm[fsu]
            before, after = measured(healthy, fsu, mark), measured(ill, fsu, mark)
            condition = ill.conditions[fsu]
            assert condition is not None
            if condition[1] == "severe":
                narrowed.append(after.canal_ap_mm / before.canal_ap_mm)
            else:
                protruded.append(after.protrusion_mm - before.protrusion_mm)
    assert np.nanmedian(narrowed) < 0.5
    assert np.nanmedian(protruded) > 3.0
    assert np.mean(np.array(protruded) > 0.5) > 0.7


def test_no_csf_gives_no_measure() -> None:
    dark = np.zeros((5, 128, 128), np.float32)
    found = measure_intensity(dark, np.diag([4.0, 1.0, 1.0, 1.0]), (8.0, 64.0, 40.0), (8.0, 64.0, 60.0))
    assert np.isnan(found.canal_ap_mm)
    assert np.isnan(found.protrusion_mm)


def test_the_speed_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    start = time.process_time()
    phantom = make_phantom(21)
    with capsys.disabled():
        print(f"\nphantom of {'x'.join(map(str, phantom.voxels.shape))}: {time.process_time() - start:.2f} s of one core")
    assert phantom.voxels.max() > 0
