"""`localise_series`: the chosen localiser, and refusals that say what to do."""

from pathlib import Path

import numpy as np
import pytest

from spinepaint.imaging.errors import Refusal
from spinepaint.imaging.orient import orient
from spinepaint.models.localisers import LOCALISERS, Found
from spinepaint.training.crops import phantom_volume
from spinepaint.training.phantom import Phantom, make_phantom
from spinepaint.training.phantom.dicom import write_series
from spinepaint.worker.localise import localise_series
from tests.training.tiny_bundle import write_tiny_bundle


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return make_phantom(3, slices=5, matrix=256, pixel_mm=1.0)


@pytest.fixture(scope="module")
def series(phantom: Phantom, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("series")
    write_series(phantom, folder, seed=3)
    return folder


class _Oracle:
    confidence = {"L4-L5": 0.87654}  # noqa: RUF012
    warnings = ("it is only a test",)

    def __init__(self, index: np.ndarray) -> None:
        self.centres = {"L4-L5": index}


def test_any_registered_localiser_can_be_chosen(series: Path, phantom: Phantom, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = phantom.disc_centres_lps_mm["L4-L5"]
    index = np.array(orient(phantom_volume(phantom)).to_index(truth))

    def find(voxels: np.ndarray, spacing: tuple[float, float, float]) -> Found:
        assert voxels.shape == phantom.voxels.shape and np.allclose(spacing, phantom.spacing, atol=1e-3)
        return _Oracle(index)

    monkeypatch.setitem(LOCALISERS, "oracle", lambda _bundle: find)
    found = localise_series(series, localiser="oracle")
    assert found["localiser"] == "oracle"
    assert found["confidence"] == {"L4-L5": 0.877}
    assert "it is only a test" in found["warnings"]
    assert np.allclose(found["disc_centres_lps_mm"]["L4-L5"], truth, atol=0.05)


def test_an_unknown_localiser_is_refused(series: Path) -> None:
    with pytest.raises(Refusal, match="magic") as refused:
        localise_series(series, localiser="magic")
    assert "heatmap" in str(refused.value.as_problem())


def test_agents_that_the_bundle_does_not_have_are_refused(series: Path, tmp_path: Path) -> None:
    without = write_tiny_bundle(tmp_path / "without")
    with pytest.raises(Refusal, match="no weights for the localiser 'rl'") as refused:
        localise_series(series, localiser="rl", bundle=without)
    assert "--bundle" in str(refused.value.as_problem())
