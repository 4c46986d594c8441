"""Discs of SPIDER slices that are known as points."""

import json
from pathlib import Path

import numpy as np
import pytest

from spinepaint.training import spider_points
from spinepaint.training.spider import SpiderSlice, is_held_out
from spinepaint.training.spider_points import pointed_scene, read_pointed_scenes


def test_the_points_run_up_the_spine() -> None:
    """Every slice's discs lie one above the other, L5-S1 lowest, with gaps that are alike."""
    known = json.loads(Path(spider_points.__file__).with_name("spider_disc_points.json").read_text())
    assert len(known) > 100
    for name, points in known.items():
        discs = np.array(points)
        gaps = np.linalg.norm(np.diff(discs[:6], axis=0), axis=1)
        assert (np.diff(discs[:, 0]) < 0).all(), name
        assert len(discs) >= 5 and gaps.max() < 2 * gaps.min(), name


@pytest.mark.parametrize(("gap_px", "rows", "columns"), [(60, 0.6, 0.6), (90, 0.4, 0.6), (40, 0.9, 0.9)])
def test_a_spacing_that_the_gaps_contradict_is_corrected(gap_px: int, rows: float, columns: float) -> None:
    """Gaps of 36 mm once corrected: too large ones come of interpolated rows, too small ones of both axes."""
    points = np.array([[500.0 - gap_px * k, 200.0] for k in range(6)])
    scene = pointed_scene(SpiderSlice("1_t2", 1, np.zeros((600, 400), np.float32), (0.6, 0.6), ()), points)
    assert scene.image.shape == pytest.approx((600 * rows, 400 * columns), abs=1)
    assert np.diff([disc.centre[0] for disc in scene.discs]) == pytest.approx(-36, abs=0.2)
    assert [disc.level for disc in scene.discs] == list(range(6)) and scene.discs[0].margin is None


def test_patients_are_on_one_side_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    discs = tuple([300.0 - 50 * k, 100.0] for k in range(5))
    slices = [SpiderSlice(f"{n}_t2", n, np.ones((400, 200), np.float32), (0.7, 0.7), ()) for n in (7, 8, 9, 10)]
    known = tmp_path / "points.json"
    known.write_text(json.dumps({f"{n}_t2": discs for n in (7, 8, 9)}))
    monkeypatch.setattr(spider_points, "_POINTS", known)
    monkeypatch.setattr(spider_points, "read_slices", lambda _folder: iter(slices))
    training, held_out = read_pointed_scenes(tmp_path)
    assert [scene.name for scene in training] == ["7_t2", "9_t2"] and [scene.name for scene in held_out] == ["8_t2"]
    assert is_held_out(8)
