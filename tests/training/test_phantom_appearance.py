"""T1, Schmorl nodes, migration, facets, motion: they look as they should, and the truth stays where it is."""

from functools import cache
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import binary_erosion

from spinepaint.training.phantom import Phantom, Tissue, make_phantom
from spinepaint.training.phantom.anatomy import sample_anatomy
from spinepaint.training.phantom.contrast import sample_acquisition, sample_signals
from spinepaint.training.phantom.headers import PROTOCOLS, T1_PROTOCOLS
from spinepaint.training.phantom.pathology import sample_lesions
from spinepaint.training.phantom.relaxation import TISSUES
from spinepaint.training.phantom.schmorl import sample_nodes

GRID: dict[str, Any] = {
    "matrix": 320, "pixel_mm": 0.8, "slices": 15, "spacing_mm": 4.0, "thickness_mm": 3.5, "offset_mm": (0.0, 35.0, 0.0),
}  # fmt: skip
QUIET: dict[str, Any] = {"noise": 0.008, "coil_power": 0.0, "saturation": 0.0}
LARGE, SEVERE = ("disc_herniation", "moderate_large"), ("central_canal_stenosis", "severe")


@cache
def quiet(seed: int, weighting: str, condition: tuple[str, str] | None = None) -> Phantom:
    return make_phantom(seed, {"L3-L4": condition} if condition else None, weighting=weighting, **GRID, **QUIET)


def means(phantom: Phantom) -> dict[Tissue, float]:
    return {Tissue(value): float(phantom.voxels[phantom.labels == value].mean()) for value in np.unique(phantom.labels)}


def at(phantom: Phantom, point: tuple[float, float, float]) -> tuple[int, int, int]:
    i, j, k = np.rint((np.linalg.inv(phantom.affine) @ np.array([*point, 1.0]))[:3]).astype(int)
    return int(i), int(j), int(k)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_t1_has_dark_csf_and_bright_fat_and_t2_bright_csf(seed: int) -> None:
    t1, t2 = means(quiet(seed, "T1")), means(quiet(seed, "T2"))
    assert t1[Tissue.FAT] > t1[Tissue.VERTEBRA] > t1[Tissue.ANNULUS] > t1[Tissue.VESSEL]
    assert t1[Tissue.NEURAL] > t1[Tissue.CSF]
    assert t1[Tissue.CSF] < 0.4 * t1[Tissue.FAT]
    assert t1[Tissue.EPIDURAL_FAT] > 1.5 * t1[Tissue.CSF]
    assert t2[Tissue.CSF] > t2[Tissue.NEURAL] > t2[Tissue.ANNULUS]
    assert t2[Tissue.CSF] > 1.5 * t2[Tissue.VERTEBRA]


def test_t1_and_t2_of_a_seed_show_one_spine_with_noise_and_motion_of_their_own() -> None:
    t1, t2 = quiet(2, "T1"), quiet(2, "T2")
    assert np.array_equal(t1.labels, t2.labels)
    assert np.array_equal(t1.affine, t2.affine)
    assert t1.morphometry == t2.morphometry
    assert t1.landmarks_lps_mm == t2.landmarks_lps_mm
    air = binary_erosion(t2.clean == 0, iterations=12, structure=np.ones((1, 3, 3)))
    assert air.sum() > 1000
    noise = [p.voxels[air] for p in (t1, t2)]
    assert abs(np.corrcoef(noise)[0, 1]) < 0.05
    with pytest.raises(ValueError, match="PD"):
        make_phantom(2, weighting="PD", **GRID)


def test_t2_signals_are_drawn_where_the_spin_echo_equation_puts_them() -> None:
    drawn = [sample_signals(seed) for seed in range(300)]
    for name in ("fat", "neural", "muscle", "flavum", "annulus", "bowel"):
        values = [getattr(signals, name) for signals in drawn]
        expected = [
            TISSUES[name].signal(p.repetition_time_ms, p.echo_time_ms)
            / TISSUES["csf"].signal(p.repetition_time_ms, p.echo_time_ms)
            for p in PROTOCOLS
        ]
        assert min(values) < max(expected)
        assert min(expected) < max(values)
    assert all(t1.model == t2.model and t1.field_t == t2.field_t for t1, t2 in zip(T1_PROTOCOLS, PROTOCOLS, strict=True))


def test_one_spine_in_six_has_schmorl_nodes_and_they_lie_where_the_truth_says() -> None:
    nodes = {seed: sample_nodes(seed, sample_anatomy(seed)) for seed in range(400)}
    having = [seed for seed, found in nodes.items() if found]
    assert 0.10 < len(having) / len(nodes) < 0.20
    seen = 0
    for seed in having[:5]:
        phantom = quiet(seed, "T2")
        for node, point in phantom.schmorl_nodes:
            index = at(phantom, point)
            if not 0 <= index[0] < len(phantom.labels):
                continue
            seen += 1
            assert phantom.labels[index] == Tissue.SCHMORL_NODE
            assert phantom.levels[index] == node.level + 1
        everywhere = np.argwhere(phantom.labels == Tissue.SCHMORL_NODE)
        assert len(everywhere) > 5 or not phantom.schmorl_nodes
    assert seen >= 3


def test_a_lesion_leaves_schmorl_nodes_motion_and_noise_as_they_are() -> None:
    seed = next(seed for seed in range(100) if sample_nodes(seed, sample_anatomy(seed)))
    healthy, ill = quiet(seed, "T2"), quiet(seed, "T2", SEVERE)
    assert [node for node, _ in healthy.schmorl_nodes] == [node for node, _ in ill.schmorl_nodes]
    assert healthy.acquisition == ill.acquisition
    # breathing spreads over all rows: where it ghosts, no lesion may show
    ghosted = {"motion_mm": 0.6, "ghost_mm": 0.35, "ghost_shift": 0.2}
    a, b = (make_phantom(seed, lesion, **GRID, **ghosted) for lesion in (None, {"L3-L4": SEVERE}))
    rows = np.abs(np.arange(320) - at(a, a.disc_centres_lps_mm["L3-L4"])[1]) * 0.8 > 60
    assert np.array_equal(a.voxels[:, rows], b.voxels[:, rows])


def test_motion_blurs_and_ghosts_but_moves_nothing() -> None:
    still = make_phantom(2, **GRID, **QUIET, motion_mm=0.0, ghost_mm=0.0, ringing=0.0)
    for change in ({"motion_mm": 0.7}, {"ghost_mm": 0.35}, {"ringing": 0.12}):
        moved = make_phantom(2, **(GRID | QUIET | {"motion_mm": 0.0, "ghost_mm": 0.0, "ringing": 0.0} | change))
        assert moved.landmarks_lps_mm == still.landmarks_lps_mm
        assert np.array_equal(moved.labels, still.labels)
        assert not np.array_equal(moved.voxels, still.voxels)
        middle = len(still.voxels) // 2
        a, b = (np.fft.fft2(p.voxels[middle]) for p in (still, moved))
        peak = np.unravel_index(np.argmax(np.fft.ifft2(a * b.conj()).real), a.shape)
        assert peak == (0, 0)


def test_one_patient_in_five_is_restless_and_never_more_than_a_pixel() -> None:
    motion = np.array([sample_acquisition(seed).motion_mm for seed in range(500)])
    assert 0.12 < (motion > 0.25).mean() < 0.28
    assert motion.max() < 0.75


def test_gibbs_ringing_swings_to_both_sides_of_an_edge() -> None:
    smooth = make_phantom(2, **GRID, **QUIET, motion_mm=0.0, ghost_mm=0.0, ringing=0.0, blur_px=(0.3, 0.3))
    ringing = make_phantom(2, **(GRID | QUIET), motion_mm=0.0, ghost_mm=0.0, ringing=0.12, blur_px=(0.3, 0.3))
    difference = (ringing.voxels - smooth.voxels)[len(smooth.voxels) // 2]
    spectrum = np.abs(np.fft.rfft(difference, axis=0)).mean(axis=1)
    assert spectrum[-20:].mean() > 3 * spectrum[:40].mean()


def test_a_migrated_herniation_reaches_behind_the_vertebra_and_its_truth_says_how_far() -> None:
    found = {seed: sample_lesions(seed, sample_anatomy(seed), {"L3-L4": LARGE})[0] for seed in range(100)}
    migrating = [seed for seed, lesion in found.items() if lesion.migration_mm]
    assert 10 <= len(migrating) <= 32
    seed = next(seed for seed in migrating if found[seed].migration_mm > 5)
    ill, lesion = quiet(seed, "T2", LARGE), found[seed]
    assert ill.lesions["L3-L4"] == lesion
    lowest = np.argwhere(ill.labels == Tissue.HERNIATION)[:, 1].max() - at(ill, ill.landmarks_lps_mm["L3-L4"])[1]
    assert lowest * 0.8 == pytest.approx(lesion.down_mm + lesion.migration_mm, abs=3.5)
    assert 5.0 <= ill.morphometry["L3-L4"].protrusion_mm <= 9.0


def test_a_stenosis_has_a_disc_a_flavum_and_a_facet_part() -> None:
    healthy, ill = quiet(2, "T2"), quiet(2, "T2", SEVERE)
    lesion = ill.lesions["L3-L4"]
    assert 0 < lesion.front_share < 1 and lesion.facet_mm >= 1.0
    row = at(ill, ill.disc_centres_lps_mm["L3-L4"])[1]
    near = slice(row - 8, row + 9)
    assert ill.morphometry["L3-L4"].protrusion_mm > healthy.morphometry["L3-L4"].protrusion_mm + 0.5
    for tissue in (Tissue.FLAVUM, Tissue.POSTERIOR_ELEMENTS):
        assert (ill.labels[:, near] == tissue).sum() > (healthy.labels[:, near] == tissue).sum()
    assert (ill.labels[:, near] == Tissue.CSF).sum() < (healthy.labels[:, near] == Tissue.CSF).sum()
