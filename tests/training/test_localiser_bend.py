"""Bending a slice, and what it does to points and lengths."""

import numpy as np
import pytest

from spinepaint.training.localiser_bend import Bend


@pytest.mark.parametrize("curvature", [-0.004, -1e-6, 0.0, 1e-6, 0.0022, 0.004])
def test_what_is_bent_can_be_undone(curvature: float) -> None:
    bend, rng = Bend((130.0, 90.0), curvature), np.random.default_rng(1)
    for point in rng.uniform((0, 10), (260, 170), (50, 2)):
        row, column = bend.apply(point[:, None])[:, 0]
        assert np.allclose(bend.undo((float(row), float(column))), point, atol=1e-6)


def test_the_line_keeps_its_length_and_turns_evenly() -> None:
    bend = Bend((100.0, 50.0), 0.003)
    line = bend.apply(np.stack([np.arange(0.0, 201.0), np.full(201, 50.0)]))
    steps = np.diff(line, axis=1)
    assert np.allclose(np.linalg.norm(steps, axis=0), 1.0, atol=1e-4)
    angles = np.arctan2(-steps[1], steps[0])
    assert np.allclose(np.diff(angles), 0.003, atol=1e-6)
    assert line[1, 0] < 50 and line[1, -1] < 50, "a positive curvature turns both ends forward"


def test_what_lies_beside_the_line_keeps_its_distance() -> None:
    bend, rows = Bend((100.0, 50.0), 0.003), np.arange(0.0, 201.0, 10)
    line, beside = (bend.apply(np.stack([rows, np.full(rows.size, column)])) for column in (50.0, 80.0))
    assert np.allclose(np.linalg.norm(beside - line, axis=0), 30.0)


def test_no_curvature_changes_nothing() -> None:
    points = np.random.default_rng(0).uniform(0, 200, (2, 40))
    assert np.allclose(Bend((100.0, 50.0), 0.0).apply(points), points, rtol=0, atol=1e-12)
