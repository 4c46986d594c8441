"""Pasting back: identity outside, no seam, and the donor's own noise kept."""

import numpy as np
import pytest
from scipy import ndimage

from spinepaint.imaging.blending import noise_ratio, seam_ratio
from spinepaint.imaging.crop import cut, distance_mm
from spinepaint.imaging.paste import paste_blend, paste_difference, paste_mask
from spinepaint.imaging.volume import Volume
from tests.imaging.test_crop import CENTRE, EXTENT, GRID, USUAL, make_volume

INNER, OUTER = 6.0, 11.0


@pytest.fixture(scope="module")
def noisy() -> Volume:
    volume = make_volume(USUAL)
    noise = np.random.default_rng(0).normal(0, 4, volume.voxels.shape)
    return volume.with_voxels((volume.voxels + noise).astype(np.float32))


def test_mask_is_one_inside_and_exactly_zero_outside(noisy: Volume) -> None:
    mask = paste_mask(noisy, CENTRE, INNER, OUTER)
    distance = distance_mm(noisy, CENTRE)
    assert (mask[distance <= INNER] == 1).all()
    assert (mask[distance >= OUTER] == 0).all()
    between = (distance > INNER) & (distance < OUTER)
    order = np.argsort(distance[between])
    assert (np.diff(mask[between][order]) <= 1e-6).all()


@pytest.mark.parametrize("way", ["difference", "blend"])
def test_outside_the_mask_every_bit_is_the_source(noisy: Volume, way: str) -> None:
    crop = cut(noisy, CENTRE, EXTENT, GRID)
    mask = paste_mask(noisy, CENTRE, INNER, OUTER)
    values = np.full(GRID, 33.0, np.float32)
    pasted = (paste_difference if way == "difference" else paste_blend)(noisy, crop, values, mask)
    assert np.array_equal(pasted.voxels[~pasted.changed], noisy.voxels[~pasted.changed])
    assert (pasted.voxels[mask == 1] != noisy.voxels[mask == 1]).all()


def test_a_zero_difference_changes_nothing(noisy: Volume) -> None:
    crop = cut(noisy, CENTRE, EXTENT, GRID)
    pasted = paste_difference(noisy, crop, np.zeros(GRID, np.float32), paste_mask(noisy, CENTRE, INNER, OUTER))
    assert np.array_equal(pasted.voxels, noisy.voxels)


def test_the_difference_keeps_the_noise_that_blending_loses(noisy: Volume) -> None:
    # What an autoencoder gives back is smoother than what it got: both ways are handed the same smooth crops.
    crop = cut(noisy, CENTRE, EXTENT, GRID)
    mask = paste_mask(noisy, CENTRE, INNER, OUTER)
    smooth = ndimage.gaussian_filter(crop.voxels, (3, 3, 1)).astype(np.float32)
    edit = smooth + 10
    kept = paste_difference(noisy, crop, edit - smooth, mask)
    lost = paste_blend(noisy, crop, edit, mask)
    assert noise_ratio(noisy.voxels, kept.voxels, mask) == pytest.approx(1.0, abs=0.1)
    assert noise_ratio(noisy.voxels, lost.voxels, mask) < 0.6


def test_seam_ratio_sees_a_hard_edge(noisy: Volume) -> None:
    mask = paste_mask(noisy, CENTRE, 6.0, 18.0)
    soft = (noisy.voxels + 30 * mask).astype(np.float32)
    hard = (noisy.voxels + 30 * (mask > 0)).astype(np.float32)
    assert seam_ratio(noisy.voxels, soft, mask) == pytest.approx(1.0, abs=0.06)
    assert seam_ratio(noisy.voxels, hard, mask) > 1.5
    assert seam_ratio(noisy.voxels, noisy.voxels, mask) == 1.0
