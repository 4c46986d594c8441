"""Disc centres by segmented discs: with a segmenter that says the phantom's truth, and the shipped network's naming."""

import numpy as np
import pytest

from bench.verification import degraded, oriented_labels
from spinepaint.imaging.orient import orient
from spinepaint.models.segment_localiser import localise_by_segments
from spinepaint.training.crops import phantom_volume
from spinepaint.training.phantom import make_phantom
from spinepaint.worker.bundles import loaded_bundle
from tests.models.recalling import recalling


@pytest.mark.parametrize("blemished", [False, True])
def test_centroids_are_the_discs_centres_and_have_their_names(blemished: bool) -> None:
    phantom = make_phantom(11, slices=15, matrix=320)
    view, labels = orient(phantom_volume(phantom)), oriented_labels(phantom)
    if blemished:
        labels = degraded(labels, view.spacing, np.random.default_rng(3))
    found = localise_by_segments(recalling([labels], view.spacing), loaded_bundle(None).localiser, view.voxels, view.spacing)
    assert set(found.centres) == set(found.confidence) == set(phantom.disc_centres_lps_mm)
    away = [
        np.linalg.norm(np.array(view.to_patient(tuple(found.centres[fsu]))) - centre)  # type: ignore[arg-type]
        for fsu, centre in phantom.disc_centres_lps_mm.items()
    ]
    assert np.mean(away) < 3.0 and max(away) < 5.0
    assert all(0.0 < value <= 1.0 for value in found.confidence.values())


def test_nothing_segmented_is_no_disc() -> None:
    phantom = make_phantom(11, slices=5, matrix=192, pixel_mm=1.3)
    view = orient(phantom_volume(phantom))
    nothing = np.zeros(view.voxels.shape, np.uint8)
    found = localise_by_segments(recalling([nothing], view.spacing), loaded_bundle(None).localiser, view.voxels, view.spacing)
    assert found.centres == found.confidence == {} and found.warnings == ("no lumbar disc was found",)
