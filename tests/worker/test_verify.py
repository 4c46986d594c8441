"""Verification by a segmenter that says the phantom's truth, in the pipeline with the shipped networks."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.verification import degraded, oriented_labels
from spinepaint.imaging.crop import Vector
from spinepaint.imaging.orient import orient
from spinepaint.models.bundle import Bundle
from spinepaint.training.crops import phantom_volume
from spinepaint.training.phantom import Phantom, make_phantom
from spinepaint.worker import pipeline
from spinepaint.worker.bundles import loaded_bundle
from spinepaint.worker.pipeline import run_pipeline
from tests.models.recalling import Recalling, recalling

FSU = "L4-L5"
SPEC = {"fsu": FSU, "solver": "ddim", "steps": 1, "seed": 7}
GRID = {"slices": 15, "matrix": 320}  # the series' own


@pytest.fixture(scope="module")
def twins(phantom: Phantom) -> dict[str, np.ndarray]:
    """Structures of the series' phantom, oriented: healthy, and with each lesion at the level."""
    lesions = {
        "small": ("disc_herniation", "small"),
        "large": ("disc_herniation", "moderate_large"),
        "severe": ("central_canal_stenosis", "severe"),
    }
    labels = {name: oriented_labels(make_phantom(11, {FSU: lesion}, **GRID)) for name, lesion in lesions.items()}
    return labels | {"well": oriented_labels(phantom)}


def run_with(
    labels: list[np.ndarray], source: Path, out: Path, phantom: Phantom, monkeypatch: pytest.MonkeyPatch, **asked: Any
) -> tuple[dict[str, Any], Recalling]:
    """The report of a run whose segmenter says `labels` one after the other, and that segmenter."""
    segmenter = recalling(labels, orient(phantom_volume(phantom)).spacing)
    bundle: Bundle = replace(loaded_bundle(None), segmenter=segmenter)
    monkeypatch.setattr(pipeline, "loaded_bundle", lambda *_: bundle)
    report = run_pipeline(source, SPEC | asked, out)
    network = segmenter.plain
    assert isinstance(network, Recalling)
    return report, network


@pytest.mark.parametrize(
    ("pathology", "severity", "seen"),
    [
        ("disc_herniation", "small", "small"),
        ("disc_herniation", "moderate_large", "large"),
        ("central_canal_stenosis", "severe", "severe"),
    ],
)
def test_what_the_segmentation_shows_is_verified(
    twins: dict[str, np.ndarray],
    series: Path,
    phantom: Phantom,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pathology: str,
    severity: str,
    seen: str,
) -> None:
    shown = [twins["well"], twins[seen]]
    report, network = run_with(shown, series, tmp_path / "out", phantom, monkeypatch, pathology=pathology, severity=severity)
    quality = report["quality"]
    assert network.series == 2  # segmented before and after, once each
    assert (quality["measured_by"], quality["asked"], quality["found"]) == ("segmentation", severity, severity)
    assert quality["verified"] is True and quality["attempts"] == 1
    truth = make_phantom(11, {FSU: (pathology, severity)}, **GRID).morphometry[FSU]
    assert quality["after"]["protrusion_mm"] == pytest.approx(truth.protrusion_mm, abs=1.5)
    assert quality["before"]["canal_ap_mm"] == pytest.approx(phantom.morphometry[FSU].canal_ap_mm, abs=2.0)
    assert FSU not in quality["elsewhere"] and "L2-L3" in quality["elsewhere"]
    assert all(abs(mm) < 0.3 for change in quality["elsewhere"].values() for mm in change.values())


def test_attempts_go_on_until_the_segmentation_shows_it(
    twins: dict[str, np.ndarray], series: Path, phantom: Phantom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = [twins["well"], twins["well"], twins["large"], twins["small"]]
    asked = {"pathology": "disc_herniation", "severity": "small"}
    report, network = run_with(shown, series, tmp_path / "out", phantom, monkeypatch, **asked)
    assert [told["found"] for told in report["quality"]["tries"]] == [None, "moderate_large", "small"]
    assert report["quality"]["kept_attempt"] == 3 and report["quality"]["verified"] is True
    assert network.series == 4


def test_a_blemished_segmentation_verifies_too_and_repeats(
    twins: dict[str, np.ndarray], series: Path, phantom: Phantom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spacing = orient(phantom_volume(phantom)).spacing
    shown = [degraded(twins[name], spacing, np.random.default_rng(2)) for name in ("well", "severe")]
    asked = {"pathology": "central_canal_stenosis", "severity": "severe"}
    first, again = (run_with(shown, series, tmp_path / name, phantom, monkeypatch, **asked)[0] for name in ("first", "again"))
    assert first["quality"] == again["quality"] and first["output"] == again["output"]
    assert first["quality"]["found"] == "severe"


def test_a_level_that_was_not_segmented_is_flagged_after_one_attempt(
    twins: dict[str, np.ndarray], series: Path, phantom: Phantom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = np.zeros_like(twins["well"])
    asked = {"pathology": "disc_herniation", "severity": "small"}
    report, _ = run_with([nothing, nothing], series, tmp_path / "out", phantom, monkeypatch, **asked)
    quality = report["quality"]
    assert quality["before"] is quality["after"] is quality["degree"] is None
    assert (quality["verified"], quality["attempts"], quality["elsewhere"]) == (False, 1, {})
    assert any("could not be measured" in warning for warning in report["warnings"])


@pytest.mark.parametrize("pathology", ["disc_herniation", "central_canal_stenosis"])
def test_the_landmark_lies_in_the_segmented_region(
    twins: dict[str, np.ndarray], series: Path, phantom: Phantom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pathology: str
) -> None:
    severity = "small" if pathology == "disc_herniation" else "severe"
    shown = [twins["well"], twins["small" if severity == "small" else "severe"]]
    report, _ = run_with(shown, series, tmp_path / "out", phantom, monkeypatch, pathology=pathology, severity=severity)
    landmark: Vector = report["landmark_lps_mm"]
    view = orient(phantom_volume(phantom))
    index = np.array(view.to_index(landmark))
    s, r, c = np.rint(index).astype(int)
    near = twins["well"][s, max(r - 2, 0) : r + 3, max(c - 2, 0) : c + 3]
    assert twins["well"][s, r, c] != 1
    assert (near == (2 if pathology == "disc_herniation" else 3)).any()
    truth = np.array(phantom.candidate_landmarks_lps_mm[FSU, pathology])
    assert np.linalg.norm((np.array(landmark) - truth)[1:]) < 3.5
