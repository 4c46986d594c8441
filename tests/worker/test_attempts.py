"""Drawing a sample again where the pathology cannot be measured in it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spinepaint.imaging.measures import LevelMeasures
from spinepaint.imaging.vocabulary import Pathology
from spinepaint.worker import steps
from spinepaint.worker.pipeline import run_pipeline
from spinepaint.worker.steps import Quality

SPEC = {"pathology": "disc_herniation", "fsu": "L4-L5", "severity": "small", "solver": "ddim", "steps": 1, "seed": 5}


def judged(monkeypatch: pytest.MonkeyPatch, verdicts: list[bool | None]) -> None:
    """Let verification say `verdicts` one after another; None for a level that cannot be measured."""
    real, said = steps.verify, iter(verdicts)

    def verify(*arguments: Any) -> Quality:
        quality, verdict = real(*arguments), next(said)
        return replace(quality, verified=bool(verdict), **({"before": None} if verdict is None else {}))

    monkeypatch.setattr(steps, "verify", verify)


@pytest.mark.parametrize(
    ("verdicts", "attempts", "verified"),
    [([True], 1, True), ([False, True], 2, True), ([False, False, False], 3, False), ([None], 1, False)],
)
def test_a_sample_is_drawn_until_it_shows_what_was_asked(
    series: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verdicts: list[bool | None], attempts: int, verified: bool
) -> None:
    judged(monkeypatch, verdicts)
    heard: list[float] = []
    report = run_pipeline(series, SPEC, tmp_path / "out", progress=lambda _stage, share: heard.append(share))
    assert (report["quality"]["attempts"], report["quality"]["verified"]) == (attempts, verified)
    assert report["spec"]["seed"] == 5
    assert any("not verified" in warning for warning in report["warnings"]) is not verified
    assert heard == sorted(heard)


def test_where_no_attempt_shows_it_the_first_is_kept(series: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = []
    for name, verdicts in (("once", [True]), ("never", [False] * 3)):
        with monkeypatch.context() as patched:
            judged(patched, verdicts)
            run_pipeline(series, SPEC, tmp_path / name)
        sample = tmp_path / name / "sample-01"
        pixels.append(sorted(path.read_bytes() for path in (sample / "series").iterdir()))
        assert json.loads((sample / "report.json").read_text())["landmark_lps_mm"]
    assert pixels[0] == pixels[1]


@pytest.mark.parametrize(
    ("pathology", "after", "verified"),
    [
        (Pathology.DISC_HERNIATION, LevelMeasures(12.0, 1.1), True),
        (Pathology.DISC_HERNIATION, LevelMeasures(12.0, 0.6), False),
        (Pathology.DISC_HERNIATION, None, False),
        (Pathology.CENTRAL_CANAL_STENOSIS, LevelMeasures(8.0, 0.0), True),
        (Pathology.CENTRAL_CANAL_STENOSIS, LevelMeasures(11.5, 0.0), False),
    ],
)
def test_a_tremor_of_the_measure_is_no_pathology(pathology: Pathology, after: LevelMeasures | None, verified: bool) -> None:
    assert steps._moved_as_asked(LevelMeasures(12.0, 0.0), after, pathology) is verified


def test_a_landmark_at_another_level_is_painted_but_said(series: Path, tmp_path: Path) -> None:
    centres = run_pipeline(series, SPEC, tmp_path / "right")["disc_centres_lps_mm"]
    x, y, z = centres["L2-L3"]
    report = run_pipeline(series, {**SPEC, "landmark_lps_mm": (x, y + 18, z)}, tmp_path / "wrong")
    (warning,) = [text for text in report["warnings"] if "landmark" in text]
    assert "from L2-L3" in warning
    assert "the labels say L4-L5" in warning


def test_naming_the_only_series_changes_no_uid(series: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judged(monkeypatch, [True, True])
    plain = run_pipeline(series, SPEC, tmp_path / "plain")
    named = run_pipeline(series, {**SPEC, "series_uid": plain["source"]["series_uid"]}, tmp_path / "named")
    assert plain["output"] == named["output"]
