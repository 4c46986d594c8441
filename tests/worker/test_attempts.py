"""Drawing a sample again until it shows what was asked, and keeping the best attempt."""

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from spinepaint.app import schemas
from spinepaint.imaging.errors import NotVerified, Refusal
from spinepaint.imaging.severity import middle_of, severity_of
from spinepaint.imaging.vocabulary import Pathology, Severity
from spinepaint.models.autoencoder import SliceAutoencoder
from spinepaint.models.bundle import SamplingConfig
from spinepaint.worker import spec as specs
from spinepaint.worker import steps
from spinepaint.worker.pipeline import run_pipeline
from spinepaint.worker.spec import resolve
from spinepaint.worker.stages import Stages
from spinepaint.worker.verify import Quality

HERNIATION = Pathology.DISC_HERNIATION
SPEC = {"pathology": "disc_herniation", "fsu": "L4-L5", "severity": "small", "solver": "ddim", "steps": 1, "seed": 5}
RIGHT, FAR, NEAR = 0.4, 0.05, 0.55  # degrees: small, none, and just beyond small


def judged(monkeypatch: pytest.MonkeyPatch, degrees: Sequence[float | None]) -> None:
    """Let verification see `degrees` one after another; None for a level that cannot be measured."""
    real, seen = steps.verify, iter(degrees)

    def verify(*arguments: Any) -> Quality:
        quality, degree = real(*arguments), next(seen)
        if degree is None:
            return replace(quality, before=None, after=None, degree=None, found=None)
        off = abs(degree - middle_of(HERNIATION, quality.asked))
        return replace(quality, degree=degree, found=severity_of(HERNIATION, degree), off_middle=off)

    monkeypatch.setattr(steps, "verify", verify)


def pixels(sample: Path) -> list[bytes]:
    return sorted(path.read_bytes() for path in (sample / "series").iterdir())


@pytest.mark.parametrize(
    ("degrees", "attempts", "kept"),
    [
        ([RIGHT], 1, 1),
        ([FAR, RIGHT], 2, 2),
        ([FAR, FAR, FAR], 3, 1),
        ([FAR, NEAR, FAR], 3, 2),
        ([None], 1, 1),
    ],
)
def test_a_sample_is_drawn_until_it_shows_what_was_asked(
    series: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    degrees: list[float | None],
    attempts: int,
    kept: int,
) -> None:
    judged(monkeypatch, degrees)
    heard: list[float] = []
    report = run_pipeline(series, SPEC, tmp_path / "out", progress=lambda _stage, share: heard.append(share))
    quality, verified = report["quality"], RIGHT in degrees
    assert (quality["attempts"], quality["kept_attempt"], quality["verified"]) == (attempts, kept, verified)
    assert [told["degree"] for told in quality["tries"]] == degrees
    assert [told["attempt"] for told in quality["tries"]] == list(range(1, attempts + 1))
    seeds = [told["seed"] for told in quality["tries"]]
    assert seeds[0] == report["spec"]["seed"] == 5 and len(set(seeds)) == attempts
    assert quality["asked"] == "small" and quality["degree"] == degrees[kept - 1]
    assert any("not verified" in warning for warning in report["warnings"]) is not verified
    assert heard == sorted(heard)


def test_the_kept_attempt_is_what_is_written(series: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A first attempt that is kept is what one attempt alone gives; another has pixels and UIDs of its own."""
    out: dict[str, tuple[list[bytes], str]] = {}
    runs: dict[str, tuple[list[float], int]] = {
        "alone": ([RIGHT], 1),
        "first": ([FAR, FAR, FAR], 3),
        "second": ([FAR, RIGHT], 3),
        "again": ([FAR, RIGHT], 2),
    }
    for name, (degrees, attempts) in runs.items():
        with monkeypatch.context() as patched:
            judged(patched, degrees)
            report = run_pipeline(series, {**SPEC, "attempts": attempts}, tmp_path / name)
        assert json.loads((tmp_path / name / "sample-01" / "report.json").read_text()) == json.loads(json.dumps(report))
        out[name] = (pixels(tmp_path / name / "sample-01"), report["output"]["series_uid"])
    assert out["alone"] == out["first"]
    assert out["second"] == out["again"]
    assert out["first"][1] != out["second"][1]


def test_all_attempts_share_landmark_crop_and_its_encoding(series: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[int] = []
    encode = SliceAutoencoder.encode

    def counted(self: SliceAutoencoder, volume: Any) -> Any:
        encoded.append(1)
        return encode(self, volume)

    monkeypatch.setattr(SliceAutoencoder, "encode", counted)
    judged(monkeypatch, [FAR, FAR, FAR])
    stages: list[str] = []
    report = run_pipeline(series, SPEC, tmp_path / "out", progress=lambda stage, _: stages.append(stage))
    assert report["quality"]["attempts"] == 3
    assert len(encoded) == stages.count("landmark") == stages.count("crop") == 1
    assert stages.count("verify") == 3


def test_a_result_that_must_be_verified_is_an_error_otherwise(
    series: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    required = {**SPEC, "require_verified": True, "attempts": 2}
    with monkeypatch.context() as patched:
        judged(patched, [FAR, NEAR])
        with pytest.raises(NotVerified, match="none of 2 shows it") as missed:
            run_pipeline(series, required, tmp_path / "missed")
    assert missed.value.as_problem()["type"].endswith("/not-verified")
    assert isinstance(missed.value, Refusal)  # so a job ends with it at once, and is not tried again
    assert list(tmp_path.iterdir()) == []
    judged(monkeypatch, [FAR, RIGHT])
    assert run_pipeline(series, required, tmp_path / "shown")["quality"]["verified"] is True


def test_stopping_in_a_later_attempt_leaves_nothing(series: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class StopError(Exception):
        pass

    begun: list[float] = []

    def stop(stage: str, share: float) -> None:
        if stage == "sample" and (not begun or share > begun[-1]):
            begun.append(share)
        if stage == "paste" and len(begun) > 2:
            raise StopError

    judged(monkeypatch, [FAR, FAR, FAR])
    with pytest.raises(StopError):
        run_pipeline(series, SPEC, tmp_path / "out", progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_progress_moves_in_every_attempt() -> None:
    heard: list[float] = []
    stages = Stages(lambda _stage, share: heard.append(share), samples=1).of_sample(1)
    for attempt in (1, 2, 3):
        stages.begin_attempt(attempt, 3)
        for stage in ("sample", "paste", "verify"):
            stages.run(stage, lambda: None)
    stages.run("write", lambda: None)
    assert all(a < b for a, b in pairwise(heard))


def test_an_attempt_asks_for_half_of_what_the_last_one_lacked(
    series: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was measured steers what is asked next, up and down, and nothing is asked beyond a degree of 1."""
    middle = middle_of(HERNIATION, Severity.SMALL)
    monkeypatch.setattr(steps, "draw_degree", lambda *_: 0.5)
    seen = {"up": [FAR, FAR, RIGHT], "down": [NEAR, NEAR, RIGHT], "far": [-2.0, RIGHT], "unknown": [None]}
    asked = {}
    for name, degrees in seen.items():
        with monkeypatch.context() as patch:
            judged(patch, degrees)
            report = run_pipeline(series, SPEC, tmp_path / name)
        asked[name] = [told["degree_asked"] for told in report["quality"]["tries"]]
    short, over = 0.5 * (middle - FAR), 0.5 * (middle - NEAR)
    assert asked["up"] == pytest.approx([0.5, 0.5 + short, 0.5 + 2 * short], abs=1e-3)
    assert asked["down"] == pytest.approx([0.5, 0.5 + over, 0.5 + 2 * over], abs=1e-3)
    assert asked["far"] == [0.5, 1.0] and asked["unknown"] == [0.5]


def test_seeds_and_limits_of_attempts() -> None:
    defaults = SamplingConfig()
    spec = resolve(SPEC, defaults)
    assert (spec.attempts, spec.require_verified) == (3, False) == (schemas.ATTEMPTS, False)
    assert specs.MAX_ATTEMPTS == schemas.MAX_ATTEMPTS
    assert spec.for_attempt(1).seed == 5
    assert len({spec.for_attempt(n).seed for n in range(1, 17)} | {spec.for_sample(2).for_attempt(2).seed}) == 17
    for wrong in ({"attempts": 0}, {"attempts": 17}, {"attempts": 2.5}, {"require_verified": "yes"}):
        with pytest.raises(Exception, match=next(iter(wrong))):
            resolve(SPEC | wrong, defaults)


def test_the_api_takes_both_and_leaves_out_what_was_not_chosen() -> None:
    asked = {"pathology": "disc_herniation", "fsu": "L4-L5", "severity": "small"}
    assert not {"attempts", "require_verified"} & set(schemas.InpaintSpec.model_validate(asked).as_spec())
    chosen = {"attempts": 5, "require_verified": True}
    told = schemas.InpaintSpec.model_validate(asked | chosen).as_spec()
    assert {name: told[name] for name in chosen} == chosen
    with pytest.raises(ValueError, match="attempts"):
        schemas.InpaintSpec.model_validate(asked | {"attempts": 17})


def test_a_landmark_at_another_level_is_painted_but_said(series: Path, tmp_path: Path) -> None:
    once = {**SPEC, "attempts": 1}
    centres = run_pipeline(series, once, tmp_path / "right")["disc_centres_lps_mm"]
    x, y, z = centres["L2-L3"]
    report = run_pipeline(series, {**once, "landmark_lps_mm": (x, y + 18, z)}, tmp_path / "wrong")
    (warning,) = [text for text in report["warnings"] if "landmark" in text]
    assert "from L2-L3" in warning
    assert "the labels say L4-L5" in warning
    assert report["quality"]["found"] is None and report["quality"]["measured_by"] == "segmentation"
    assert Severity.SMALL in report["warnings"][-1] and "not verified" in report["warnings"][-1]


def test_naming_the_only_series_changes_no_uid(series: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judged(monkeypatch, [RIGHT, RIGHT])
    plain = run_pipeline(series, SPEC, tmp_path / "plain")
    named = run_pipeline(series, {**SPEC, "series_uid": plain["source"]["series_uid"]}, tmp_path / "named")
    assert plain["output"] == named["output"]
