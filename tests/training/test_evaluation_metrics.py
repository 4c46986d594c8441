"""The figures against closed forms, and against libraries where they can be had."""

import numpy as np
import pytest
import torch
from monai.metrics.fid import compute_frechet_distance
from numpy.typing import NDArray

from spinepaint.training.evaluation.distances import frechet_distance, kernel_distance
from spinepaint.training.evaluation.features import slice_features
from spinepaint.training.evaluation.memorisation import memorisation
from spinepaint.training.evaluation.shares import mean_interval, wilson
from spinepaint.training.evaluation.similarity import cross_correlation, diversity, ms_ssim, ssim

F64 = NDArray[np.float64]


def whitened(x: F64) -> F64:
    """The sample with exactly mean 0 and covariance 1."""
    centred = x - x.mean(axis=0)
    return np.asarray(centred @ np.linalg.inv(np.linalg.cholesky(np.cov(centred.T))).T)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def patches(rng: np.random.Generator) -> NDArray[np.float32]:
    return rng.random((4, 40, 40, 3), dtype=np.float32)


def test_fid_of_two_gaussians_is_the_closed_form(rng: np.random.Generator) -> None:
    x, y = (whitened(rng.normal(size=(200, 4))) for _ in range(2))
    scale, shift = np.array([2.0, 1.0, 0.5, 3.0]), np.array([1.0, 0.0, -2.0, 0.5])
    expected = np.square(shift).sum() + np.square(scale - 1).sum()  # commuting covariances
    assert frechet_distance(x, scale * y + shift) == pytest.approx(expected, rel=1e-9)


def test_fid_with_covariances_that_do_not_commute_is_monais(rng: np.random.Generator) -> None:
    x, y = rng.normal(size=(60, 5)) @ rng.normal(size=(5, 5)), rng.normal(size=(80, 5)) @ rng.normal(size=(5, 5))
    moments = [torch.from_numpy(m) for s in (x, y) for m in (s.mean(axis=0), np.cov(s.T))]
    assert frechet_distance(x, y) == pytest.approx(float(compute_frechet_distance(*moments)), rel=1e-6)


def test_fid_of_a_set_with_itself_is_zero_with_fewer_images_than_features(rng: np.random.Generator) -> None:
    x = rng.normal(size=(10, 50))
    assert frechet_distance(x, x) == pytest.approx(0.0, abs=1e-9)


def test_fid_of_equal_distributions_falls_with_n(rng: np.random.Generator) -> None:
    few, many = (frechet_distance(*(rng.normal(size=(n, 64)) for _ in range(2))) for n in (20, 400))
    assert few > 3 * many > 0


def test_one_image_has_no_fid() -> None:
    with pytest.raises(ValueError, match="two images"):
        frechet_distance(np.zeros((1, 3)), np.zeros((5, 3)))


def test_kid_is_zero_on_average_though_slices_of_a_subject_are_alike(rng: np.random.Generator) -> None:
    values = []
    for _ in range(150):
        # slices of a subject share most of what they are, so slices are far fewer than they look
        x, y = (rng.normal(size=(8, 1, 12)) + 0.2 * rng.normal(size=(8, 5, 12)) for _ in range(2))
        values.append(kernel_distance(x, y, subsets=2).value)
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(len(values))
    assert min(values) < 0 < max(values)


def test_kid_is_what_its_definition_says(rng: np.random.Generator) -> None:
    x, y = rng.normal(size=(5, 1, 3)), rng.normal(size=(4, 1, 3)) + 1

    def kernel(a: F64, b: F64) -> float:
        return float((a @ b / 3 + 1) ** 3)

    within = [np.mean([kernel(a[0], b[0]) for i, a in enumerate(s) for j, b in enumerate(s) if i != j]) for s in (x, y)]
    across = np.mean([kernel(a[0], b[0]) for a in x for b in y])
    assert kernel_distance(x, y).value == pytest.approx(float(within[0] + within[1] - 2 * across))


def test_kid_sees_a_shift_and_its_interval_says_so(rng: np.random.Generator) -> None:
    found = kernel_distance(rng.normal(size=(30, 2, 8)), rng.normal(size=(30, 2, 8)) + 1.0)
    assert 0 < found.low < found.value < found.high


def test_three_subjects_have_a_kid_but_no_interval(rng: np.random.Generator) -> None:
    found = kernel_distance(rng.normal(size=(3, 2, 4)), rng.normal(size=(9, 2, 4)))
    assert np.isfinite(found.value)
    assert np.isnan([found.low, found.high]).all()


def test_likeness_of_equals_is_one(patches: NDArray[np.float32]) -> None:
    assert ms_ssim(patches[0], patches[0]) == pytest.approx(1.0, abs=1e-5)
    assert ssim(patches[0], patches[0]) == pytest.approx(1.0, abs=1e-5)
    assert ms_ssim(patches[0], patches[1]) < 0.5


def test_diversity_of_copies_is_one_and_of_one_patch_unknown(patches: NDArray[np.float32]) -> None:
    assert diversity(np.repeat(patches[:1], 3, axis=0)) == pytest.approx(1.0, abs=1e-5)
    assert diversity(patches) < 0.5
    assert np.isnan(diversity(patches[:1]))


def test_correlation_ignores_gain_and_offset(patches: NDArray[np.float32]) -> None:
    found = cross_correlation(patches, 0.3 * patches + 0.1)
    assert np.diag(found) == pytest.approx(1.0, abs=1e-4)
    assert abs(found - np.diag(np.diag(found))).max() < 0.1
    assert cross_correlation(patches[:1], 1 - patches[:1])[0, 0] == pytest.approx(-1.0, abs=1e-4)


def test_wilson_is_the_published_example() -> None:
    # Newcombe 1998, table I: 81 of 263 and 0 of 20.
    found = wilson(81, 263)
    assert (found.low, found.high) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    none = wilson(0, 20)
    assert (none.low, none.high) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert np.isnan(wilson(0, 0).value)
    with pytest.raises(ValueError, match="no share"):
        wilson(3, 2)


def test_students_interval_of_five_values() -> None:
    found = mean_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert found.value == 3.0
    assert found.high - found.value == pytest.approx(2.776445 * np.sqrt(2.5 / 5), rel=1e-5)
    assert np.isnan(mean_interval([1.0]).low)


def test_the_extractor_sees_each_slice_for_itself_and_structure_through_noise(rng: np.random.Generator) -> None:
    stripes = 0.5 + 0.3 * np.sign(np.sin(np.arange(40) * 2 * np.pi / 8))[:, None, None] * np.ones((40, 40, 2))
    turned = stripes.copy()
    turned[..., 1] = stripes[..., 1].T
    noisy = [np.clip(x + 0.03 * rng.normal(size=x.shape), 0, 1) for x in (stripes, stripes, turned)]
    first, again, other = slice_features(np.stack(noisy).astype(np.float32))
    assert first.shape == (2, 1280)
    apart = np.square(np.stack([again, other]) - first).sum(axis=2)  # (pair, slice)
    assert apart[1, 1] > 3 * apart[0, 1]
    assert apart[1, 0] < 2 * apart[0, 0]


def test_a_copied_training_patch_is_flagged_and_a_new_one_is_not(rng: np.random.Generator) -> None:
    training, validation = rng.random((12, 40, 40, 2), dtype=np.float32), rng.random((10, 40, 40, 2), dtype=np.float32)
    new = rng.random((3, 40, 40, 2), dtype=np.float32)
    found = memorisation(np.concatenate([training[5:6] * 0.9, new]), training, validation, percentile=100)
    first = found["flagged"][0]
    assert (first["edited"], first["training"]) == (0, 5)
    assert first["ncc"] == pytest.approx(1.0, abs=1e-3)
    assert len(found["flagged"]) <= 2  # a new patch may by chance just pass the highest of ten
    with pytest.raises(ValueError, match="needs"):
        memorisation(new[:0], training, validation)
