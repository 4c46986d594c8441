"""A whole evaluation of a tiny bundle, and the pieces that need phantoms."""

import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from typer.testing import CliRunner

from spinepaint.app.cli import app
from spinepaint.imaging.crop import cut
from spinepaint.imaging.severity import severity_class
from spinepaint.imaging.vocabulary import CONDITIONS, Fsu, Pathology
from spinepaint.models.bundle import draw_degree, load_bundle
from spinepaint.models.inpaint import Draw
from spinepaint.models.schedule import add_noise, alpha_bar_table
from spinepaint.training.crops import phantom_volume
from spinepaint.training.evaluation import parts, phantoms, rates
from spinepaint.training.evaluation.cases import HEALTHY, LEVELS, Cases
from spinepaint.training.evaluation.distances import frechet_distance
from spinepaint.training.evaluation.downstream import Labelled, gain
from spinepaint.training.evaluation.material import NEED_REAL, PARTS, Evaluation
from spinepaint.training.evaluation.painting import Order, differential, held_until_due, paint
from spinepaint.training.evaluation.real import middle_slices, towards_herniated, volume_of
from spinepaint.training.evaluation.run import evaluate
from spinepaint.training.evaluation.severity import Grader, LevelGrid
from spinepaint.training.evaluation.tables import ALL, FLOOR, Set, comparison, wins
from spinepaint.training.phantom import Phantom, make_phantom
from tests.training.tiny_bundle import write_tiny_bundle

SMALL: dict[str, Any] = {
    "matrix": 288, "pixel_mm": 0.9, "slices": 11, "spacing_mm": 4.0, "thickness_mm": 3.5, "offset_mm": (0.0, 35.0, 0.0)
}  # fmt: skip


@cache
def _small(seed: int, lesions: tuple[tuple[str, tuple[str, str]], ...]) -> Phantom:
    return make_phantom(seed, dict(lesions), **SMALL)


def small_phantom(seed: int, lesions: dict[str, tuple[str, str]] | None = None) -> Phantom:
    return _small(seed, tuple(sorted((lesions or {}).items())))


def simple_features(patches: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean, spread and the middle's brightness of each slice."""
    middle = patches[:, 15:25, 15:25].mean((1, 2))
    return np.stack([patches.mean((1, 2)), patches.std((1, 2)), middle], axis=-1).astype(np.float64)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(autouse=True)
def _small_phantoms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phantoms, "make_phantom", small_phantom)


def settings(bundle: Path, out: Path, **changes: Any) -> Evaluation:
    chosen: dict[str, Any] = {"methods": ("weighted", "differential:blind"), "limit": 2, **changes}
    return Evaluation(bundle=bundle, out=out, **chosen)


def test_severity_is_read_off_true_lesions_and_off_healthy_levels() -> None:
    right, errors = [], []
    for seed in (1, 2, 5, 6):
        turned = {fsu.value: CONDITIONS[(seed + k) % 4] for k, fsu in enumerate(LEVELS[:4])}
        ill = small_phantom(seed, {fsu: (item[0].value, item[1].value) for fsu, item in turned.items()})
        healthy = small_phantom(seed)
        for fsu in LEVELS[:4]:
            pathology, _ = turned[fsu.value]
            grader = Grader(healthy, fsu)
            mark = phantoms.reference_landmark(ill, grader.grid, fsu)
            degree = grader.degree(ill.voxels, pathology, mark)
            errors.append(abs(degree - ill.degrees[fsu]))
            right.append(severity_class(pathology, degree) == rates.wanted_class(CONDITIONS.index(turned[fsu.value])))
            assert severity_class(pathology, grader.degree(healthy.voxels, pathology, mark)) == 0
    assert np.mean(right) >= 0.9
    assert np.median(errors) < 0.06


def test_the_margin_is_where_the_phantom_says_it_is() -> None:
    healthy = small_phantom(2)
    for fsu in LEVELS:
        margin = LevelGrid.of(healthy, fsu).point()
        assert margin == pytest.approx(healthy.landmarks_lps_mm[fsu], abs=1e-6)
    ill = small_phantom(2, {"L4-L5": ("disc_herniation", "moderate_large")})
    grid = LevelGrid.of(ill, Fsu.L4_L5)
    before = np.array(phantoms.reference_landmark(ill, grid, Fsu.L4_L5))
    lesion = np.array(ill.landmarks_lps_mm["L4-L5"])  # the middle of the bump
    assert np.linalg.norm(lesion - before) == pytest.approx(5.0 * ill.degrees["L4-L5"], abs=1e-3)
    assert (lesion - before) @ grid.back > 0


def test_differential_holds_a_voxel_until_it_is_due() -> None:
    alpha_bar = alpha_bar_table()
    latent, noise, x = (torch.randn(1, 3, 4, 1, 1, generator=torch.Generator().manual_seed(k)) for k in range(3))
    change = torch.tensor([0.0, 0.3, 0.6, 1.0]).reshape(1, 1, 4, 1, 1)
    hold = held_until_due(latent, noise, change, alpha_bar)
    held = add_noise(latent, noise, alpha_bar[500]).float()
    assert torch.equal(hold(x, 500)[:, :, :2], held[:, :, :2])
    assert torch.equal(hold(x, 500)[:, :, 2:], x[:, :, 2:])
    assert torch.equal(hold(x, 0), x)
    assert torch.equal(hold(x, 1000)[:, :, 3], x[:, :, 3])


def test_differential_changes_the_middle_and_depends_on_its_seed(bundle: Path) -> None:
    models = load_bundle(bundle).inpainter
    crop = torch.randn(32, 32, 8, generator=torch.Generator().manual_seed(1)).clamp(-1, 1)
    draws = [Draw(0, 2, (40.0, 40.0, 25.0), sigma_mm=6.0, solver="ddim", steps=20, seed=seed) for seed in (0, 0, 1)]
    first, again, other = (differential(models, crop, draw) for draw in draws)
    assert torch.equal(first.edit, again.edit)
    assert not torch.equal(first.edit, other.edit)
    assert first.network_evaluations == 20
    moved = (first.edit - first.original).abs()
    assert moved[12:20, 12:20, 3:5].mean() > 2 * moved[:4, :4, :1].mean()


def test_painting_keeps_what_lies_outside_and_refuses_unknown_methods(bundle: Path) -> None:
    models = load_bundle(bundle)
    volume = phantom_volume(small_phantom(3))
    landmark = small_phantom(3).landmarks_lps_mm["L3-L4"]
    order = Order(1, Fsu.L3_L4, landmark, "weighted", 4, 2)
    plain, blind = paint(models, volume, order), paint(models, volume, replace(order, variant="weighted:blind"))
    outside = ~plain.pasted.changed
    assert np.array_equal(plain.pasted.voxels[outside], volume.voxels[outside])
    assert not np.array_equal(plain.pasted.voxels, volume.voxels)
    assert not np.array_equal(plain.pasted.voxels, blind.pasted.voxels)
    assert plain.degree == blind.degree == draw_degree(models.config.sampling, 1, 4)
    assert plain.degree is not None
    assert 0.55 <= plain.degree <= 0.8
    with pytest.raises(ValueError, match="unknown method"):
        paint(models, volume, replace(order, variant="magic"))


def test_a_lifted_crop_comes_back_through_a_volume_as_it_was() -> None:
    crop = np.random.default_rng(0).random((32, 32, 8)).astype(np.float32) * 100
    volume = volume_of(crop, (80.0, 80.0, 50.0))
    again = cut(volume, (0.0, 0.0, 0.0), (80.0, 80.0, 50.0), (32, 32, 8))
    assert again.voxels == pytest.approx(crop, abs=0.5)
    assert again.to_corner_mm((0.0, 0.0, 0.0)) == pytest.approx((40.0, 40.0, 25.0))


def test_views_of_a_disc_are_one_subject_and_severities_are_compared_apart() -> None:
    rng = np.random.default_rng(0)

    def made(condition: int, brightness: float, seeds: list[int]) -> Cases:
        rows = rows_of(condition, [0.5] * len(seeds))
        for row, seed in zip(rows, seeds, strict=True):
            row |= {"seed": seed, "fsu": 3, "patch": rng.normal(brightness, 0.1, (40, 40, 10)).astype(np.float32)}
        return Cases.of(rows)

    herniated = made(0, 0.8, [5, 5, 6, 7, 7, 7, 8])  # at least one view of each of four discs
    near, far = made(1, 0.75, [1, 2, 3, 4]), made(0, 0.2, [1, 2, 3, 4])
    sets = {"untouched": far, "weighted": Cases.joined([far, near])}
    rows = {(row["set"], row["severity"]): row for row in towards_herniated(sets, herniated, simple_features)}
    assert set(rows) == {("untouched", ""), ("weighted", "small"), ("weighted", "moderate large")}
    assert all((row["n"], row["n_herniated"], row["herniated_discs"], row["few"]) == (4, 4, 4, True) for row in rows.values())
    assert rows["weighted", "moderate large"]["fid"] < 0.1 * rows["untouched", ""]["fid"]
    assert middle_slices(near)[0, 0, 0, 0] == pytest.approx(near.patch[0, 0, 0, 4:6].astype(np.float32).mean())


def rows_of(condition: int, degrees: list[float]) -> list[dict[str, Any]]:
    blank = np.zeros((40, 40, 10), np.float32)
    return [
        {
            "seed": number, "fsu": number % 5, "condition": condition, "sample": 0, "asked": degree, "measured": degree,
            "noise": 1.0 + 0.4 * degree, "seam": 1.0, "patch": blank, "level": blank, "picture": blank[..., 0],
        }
        for number, degree in enumerate(degrees)
    ]  # fmt: skip


def test_presence_counts_classes_and_monotony_pairs_donors() -> None:
    small, large = rows_of(0, [0.1, 0.3, 0.4, 0.6]), rows_of(1, [0.2, 0.55, 0.7, 0.5])
    cases = Cases.of([*small, *large, *rows_of(HEALTHY, [float("nan")])])
    first, second, moderate, _ = rates.presence(cases)
    assert first["none_lesser_greater"] == [1, 2, 1]
    assert first["asked_class"].value == 0.5
    assert first["any_class"].value == 0.75
    assert second["asked_class"].value == 0.75
    assert moderate["n"] == 0
    assert rates.specificity(cases)[0]["specificity"].value == 1.0
    pairs = rates.monotony(cases)[0]
    assert pairs["n"] == 4
    assert pairs["greater_measures_more"].value == 0.75
    assert pairs["mean_difference"].value == pytest.approx(0.1375)
    assert rates.obedience(cases)["disc_herniation"]["r"] == pytest.approx(1.0)
    assert rates.blending(cases)["noise_within_15_percent"].value == pytest.approx(3 / 8)


def test_the_table_compares_at_equal_n_and_counts_wins() -> None:
    rng = np.random.default_rng(0)
    degrees = [0.5] * 40
    cases = Cases.of(rows_of(0, degrees))

    def made(shift: float, count: int = 40) -> Set:
        return Set(cases.where(np.arange(count)), rng.normal(shift, 1.0, (count, 2, 6)))

    rows = comparison({"near": made(0.2), "far": made(1.5)}, made(0.0), made(0.0, 30))
    whole = {row.method: row for row in rows if row.fsu == ALL}
    assert {row.n for row in whole.values()} == {30}
    assert {row.n for row in rows if row.fsu != ALL} == {6}
    assert whole[FLOOR].fid < whole["near"].fid < whole["far"].fid
    assert whole[FLOOR].kid.low < 0 < whole["far"].kid.low
    assert wins(rows, "near", ["far"])["far"] == {"cells": 5, "fid": 5, "kid": 5}


def test_synthetic_cases_that_show_the_class_help() -> None:
    rng = np.random.default_rng(0)

    def made(count: int) -> Labelled:
        classes = np.arange(count) % 3
        patches = rng.random((count, 24, 24, 4), dtype=np.float32)
        for patch, label, column in zip(patches, classes, rng.integers(2, 18, count), strict=True):
            if label:
                patch[7 * label : 7 * label + 4, column : column + 4] += 0.6
        return Labelled(patches, classes)

    helped = gain(made(30), made(60), made(60), few=1, steps=120, seeds=(0, 1))
    assert helped["gain"].value == pytest.approx(np.mean(np.subtract(helped["auc_with"], helped["auc_without"])))
    assert helped["gain"].value > 0.05, helped
    assert helped["gain"].low < helped["gain"].value < helped["gain"].high


def test_a_whole_evaluation_and_its_resumption(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = settings(bundle, tmp_path, parts=tuple(part for part in PARTS if part not in NEED_REAL))
    figures = evaluate(chosen, simple_features, "three plain figures")
    assert figures == json.loads((tmp_path / "evaluation.json").read_text())
    rows = figures["tables"]["rows"]
    assert {row["method"] for row in rows} == {FLOOR, "untouched", "weighted", "differential:blind"}
    assert {row["fsu"] for row in rows} == {ALL}  # two phantoms are too few for any one level
    assert set(figures["presence"]["methods"]) == {"weighted", "differential:blind"}
    assert sum(figures["presence"]["methods"]["weighted"][0]["none_lesser_greater"]) == 2
    assert figures["memorisation"]["phantoms"]["edited"] == 8
    assert figures["blending"]["weighted"]["n"] == 8
    assert len(figures["downstream"]["auc_with"]) == 5
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 3 * 8
    assert "three plain figures" in page
    assert not re.search(r"<link|<script|href=|src=\"(?!data:)", page)

    def forbidden(*_a: Any, **_k: Any) -> None:
        raise AssertionError("made again")

    for name in ("donor_cases", "reference_cases", "training_cases"):
        monkeypatch.setattr(f"spinepaint.training.evaluation.material.{name}", forbidden)
    again = evaluate(replace(chosen, parts=("tables", "presence")), simple_features, "three plain figures")
    assert {name: again[name] for name in ("tables", "presence")} == {name: figures[name] for name in ("tables", "presence")}


def test_references_hold_every_condition_at_every_level() -> None:
    seen = {(fsu, item) for number in range(8) for fsu, item in phantoms.reference_lesions(number)}
    assert seen == {(fsu, item) for fsu in Fsu for item in CONDITIONS}


def test_patches_for_the_classifier_lie_alike_whatever_the_class(bundle: Path) -> None:
    models = load_bundle(bundle)
    untouched = phantoms.donor_cases(models, 1, phantoms.UNTOUCHED, samples=3, steps=2, seed=0)
    assert len(untouched) == len(CONDITIONS)
    kinds = [CONDITIONS[k][0] for k in untouched.condition]
    stenosis = kinds.index(Pathology.CENTRAL_CANAL_STENOSIS)
    levels = untouched.level.astype(np.float32)
    # Landmarks of the two pathologies are some 8 mm apart, the classifier's centres only a few: all are of one margin.
    assert (
        np.corrcoef(levels[0].ravel(), levels[stenosis].ravel())[0, 1]
        > np.corrcoef(untouched.patch[0].astype(np.float32).ravel(), untouched.patch[stenosis].astype(np.float32).ravel())[0, 1]
    )
    assert parts._labelled(untouched).classes.tolist() == [1, 1, 2, 2]
    assert frechet_distance(*(simple_features(levels).reshape(-1, 3),) * 2) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--methods", "magic"],
        ["--parts", "everything"],
        ["--parts", "real"],
        ["--parts", "reconstruction"],
        ["--phantoms", "1"],
        ["--limit", "0"],
    ],
)
def test_the_command_names_what_it_does_not_know(arguments: list[str], tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["evaluate", "--out", str(tmp_path / "out"), *arguments])
    assert done.exit_code == 2
    assert not (tmp_path / "out").exists()
