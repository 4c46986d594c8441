"""The phantom keeps its definitions, its seed and its hands off the rest of the spine."""

from functools import cache
from typing import Any

import numpy as np
import pytest

from spinepaint.imaging.vocabulary import SEVERITIES, Fsu, Pathology
from spinepaint.training.phantom import DISC_TISSUES, FSU_UPPER, VERTEBRAE, Phantom, Tissue, make_phantom

SMALL: dict[str, Any] = {
    "matrix": 256,
    "pixel_mm": 0.98,
    "slices": 13,
    "spacing_mm": 4.4,
    "thickness_mm": 4.0,
    "offset_mm": (0.0, 35.0, 0.0),
}
LEVELS = tuple(f.value for f in Fsu)


@cache
def phantom(seed: int, condition: tuple[str, str] | None = None, fsus: tuple[str, ...] = LEVELS) -> Phantom:
    return make_phantom(seed, dict.fromkeys(fsus, condition) if condition else None, **SMALL)


def test_the_same_seed_gives_the_same_phantom_and_another_seed_another() -> None:
    again = make_phantom(3, **SMALL)
    assert np.array_equal(phantom(3).voxels, again.voxels)
    assert np.array_equal(phantom(3).labels, again.labels)
    assert phantom(3).morphometry == again.morphometry
    assert not np.array_equal(phantom(3).voxels, phantom(4).voxels)


@pytest.mark.parametrize("pathology", list(Pathology))
def test_a_lesion_leaves_everything_beyond_its_level_bit_identical(pathology: Pathology) -> None:
    healthy = phantom(3)
    ill = phantom(3, (pathology, SEVERITIES[pathology][1]), ("L3-L4",))
    centre = np.array(healthy.disc_centres_lps_mm["L3-L4"])
    index = np.moveaxis(np.indices(healthy.voxels.shape), 0, -1)
    points = index @ healthy.affine[:3, :3].T + healthy.affine[:3, 3]
    distance = np.linalg.norm(points - centre, axis=-1)
    blur_mm = 8.0  # the reach of blur and ringing
    for before, after, reach_mm in (
        (healthy.clean, ill.clean, 45.0), (healthy.voxels, ill.voxels, 45.0 + blur_mm), (healthy.labels, ill.labels, 45.0),
    ):  # fmt: skip
        far = distance > reach_mm
        assert np.array_equal(before[far], after[far])
        assert not np.array_equal(before, after)
    assert {name: ill.morphometry[name] for name in LEVELS if name != "L3-L4"} == {
        name: healthy.morphometry[name] for name in LEVELS if name != "L3-L4"
    }


def test_lesions_at_several_levels_are_those_that_each_level_has_alone() -> None:
    both = make_phantom(5, {"L1-L2": ("disc_herniation", "small"), "L5-S1": ("central_canal_stenosis", "severe")}, **SMALL)
    alone = make_phantom(5, {"L5-S1": ("central_canal_stenosis", "severe")}, **SMALL)
    assert both.morphometry["L5-S1"] == alone.morphometry["L5-S1"]
    assert both.landmarks_lps_mm["L5-S1"] == alone.landmarks_lps_mm["L5-S1"]
    assert both.conditions == {
        "L1-L2": ("disc_herniation", "small"), "L2-L3": None, "L3-L4": None, "L4-L5": None,
        "L5-S1": ("central_canal_stenosis", "severe"),
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_ground_truth_separates_the_classes(seed: int) -> None:
    healthy = phantom(seed).morphometry
    small, large = (phantom(seed, ("disc_herniation", grade)).morphometry for grade in ("small", "moderate_large"))
    moderate, severe = (phantom(seed, ("central_canal_stenosis", grade)).morphometry for grade in ("moderate", "severe"))
    for fsu in LEVELS:
        canal = healthy[fsu].bony_canal_ap_mm
        assert healthy[fsu].protrusion_mm < 2.0
        assert 3.0 <= small[fsu].protrusion_mm <= 5.0
        assert small[fsu].protrusion_mm < canal / 3
        assert 5.0 <= large[fsu].protrusion_mm <= 9.0
        assert large[fsu].protrusion_mm >= canal / 3
        assert moderate[fsu].protrusion_mm < 3.0
        assert 0.45 <= moderate[fsu].canal_ap_mm / healthy[fsu].canal_ap_mm <= 0.65
        assert 0.10 <= severe[fsu].canal_ap_mm / healthy[fsu].canal_ap_mm <= 0.35
        assert severe[fsu].csf_area_mm2 < moderate[fsu].csf_area_mm2 < healthy[fsu].csf_area_mm2
        assert severe[fsu].csf_share < 0.27 < moderate[fsu].csf_share < 0.6 < healthy[fsu].csf_share == 1.0
        assert small[fsu].canal_share < 1 / 3 <= large[fsu].canal_share
        assert 4.0 < healthy[fsu].disc_height_mm < 18.0


@pytest.mark.parametrize("seed", range(4))
def test_labels_lie_where_the_points_say(seed: int) -> None:
    subject = phantom(seed, ("disc_herniation", "moderate_large"))
    to_index = np.linalg.inv(subject.affine)
    for fsu, centre in subject.disc_centres_lps_mm.items():
        at = tuple(np.rint((to_index @ np.array([*centre, 1.0]))[:3]).astype(int))
        assert subject.labels[at] in DISC_TISSUES
        assert subject.levels[at] == FSU_UPPER[fsu] + 1
        mark = np.rint((to_index @ np.array([*subject.landmarks_lps_mm[fsu], 1.0]))[:3]).astype(int)
        around = subject.labels[tuple(slice(m - 2, m + 3) for m in mark)]
        assert (around == Tissue.HERNIATION).any()
    canal = subject.candidate_landmarks_lps_mm["L3-L4", "central_canal_stenosis"]
    healthy = phantom(seed)
    assert healthy.labels[tuple(np.rint((to_index @ np.array([*canal, 1.0]))[:3]).astype(int))] in (Tissue.CSF, Tissue.NEURAL)
    assert {VERTEBRAE[level - 1] for level in np.unique(healthy.levels) if level} >= {"L1", "L2", "L3", "L4", "L5", "S1"}


def test_tissues_have_the_contrast_of_t2() -> None:
    subject = make_phantom(7, noise=0.01, coil_power=0.0, saturation=0.0, **SMALL)
    mean = {Tissue(value): float(subject.voxels[subject.labels == value].mean()) for value in np.unique(subject.labels)}
    assert mean[Tissue.CSF] > mean[Tissue.NEURAL] > mean[Tissue.FLAVUM]
    assert mean[Tissue.CSF] > mean[Tissue.VERTEBRA] > mean[Tissue.ANNULUS] > mean[Tissue.BACKGROUND]
    assert mean[Tissue.FAT] > mean[Tissue.MUSCLE] > mean[Tissue.VESSEL]


def test_voxels_are_whole_12_bit_numbers_on_the_grid_asked_for() -> None:
    voxels = phantom(3).voxels
    assert voxels.dtype == np.float32
    assert voxels.shape == (13, 256, 256)
    assert np.array_equal(voxels, np.rint(voxels))
    assert voxels.min() >= 0
    assert voxels.max() <= 4095
    assert phantom(3).spacing == pytest.approx((4.4, 0.98, 0.98))


def test_unknown_words_are_refused() -> None:
    with pytest.raises(ValueError, match="does not go with"):
        make_phantom(1, {"L4-L5": ("disc_herniation", "severe")}, **SMALL)
    with pytest.raises(ValueError, match="T12-L1"):
        make_phantom(1, {"T12-L1": ("disc_herniation", "small")}, **SMALL)
    with pytest.raises(TypeError):
        make_phantom(1, pixel=1.0)
