"""The comparison of localisers counts what its columns say."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from bench.localisers import Case, compare, real_cases, table
from spinepaint.training.phantom import make_phantom
from spinepaint.training.phantom.dicom import write_series

SPACING = (4.0, 1.0, 1.0)
TRUTH = {name: np.array([5.0, 40.0 + 30 * i, 60.0]) for i, name in enumerate(("L3-L4", "L4-L5", "L5-S1"))}


@dataclass(frozen=True)
class _Found:
    centres: dict[str, np.ndarray]
    confidence: dict[str, float]
    warnings: tuple[str, ...] = field(default=())


def _row(centres: dict[str, np.ndarray], confidence: dict[str, float]):  # type: ignore[no-untyped-def]
    case = Case(np.zeros((11, 140, 120), np.float32), SPACING, TRUTH)
    return compare("made", "fake", lambda _voxels, _spacing: _Found(centres, confidence), [case])


def test_a_perfect_localiser() -> None:
    row = _row(TRUTH, dict.fromkeys(TRUTH, 0.9))
    assert (row.discs, row.found, row.mean_mm, row.within_3_mm, row.named) == (3, 1.0, 0.0, 1.0, 1.0)
    assert np.isnan(row.auc)
    assert "-" in table([row]) and "100.0%" in table([row])


def test_errors_are_in_mm_and_missing_discs_are_within_nothing() -> None:
    row = _row({"L3-L4": TRUTH["L3-L4"] + (1, 0, 0), "L4-L5": TRUTH["L4-L5"]}, {"L3-L4": 0.5, "L4-L5": 0.9})
    assert row.found == pytest.approx(2 / 3)
    assert row.mean_mm == pytest.approx(2.0)  # 4 mm from slice to slice
    assert row.within_3_mm == pytest.approx(1 / 3) and row.within_5_mm == pytest.approx(2 / 3)
    assert row.named == pytest.approx(2 / 3)


def test_a_name_one_level_off_is_a_failure_that_confidence_may_tell() -> None:
    row = _row({**TRUTH, "L3-L4": TRUTH["L4-L5"], "L4-L5": TRUTH["L3-L4"]}, {"L3-L4": 0.2, "L4-L5": 0.3, "L5-S1": 0.9})
    assert row.auc == 1.0
    assert row.named == pytest.approx(1 / 3)
    assert row.p95_mm == pytest.approx(30.0)


def test_real_series_come_with_their_truth(tmp_path: Path) -> None:
    phantom = make_phantom(3, slices=5, matrix=256, pixel_mm=1.0)
    write_series(phantom, tmp_path / "one", seed=3)
    truth = {"one": {"disc_centres_lps_mm": {"L4-L5": list(phantom.disc_centres_lps_mm["L4-L5"])}}}
    (tmp_path / "disc_centres.json").write_text(json.dumps(truth))
    (case,) = real_cases(tmp_path)
    place = case.truth["L4-L5"].round().astype(int)
    assert case.voxels.shape == (5, 256, 256)
    assert ((place >= 0) & (place < case.voxels.shape)).all()
