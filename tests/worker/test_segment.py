"""`segment_series`: everything that is written is there, in place and named, and refusals say what to do."""

import json
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import dcmread

from spinepaint.imaging.errors import Refusal
from spinepaint.imaging.orient import orient
from spinepaint.imaging.segment_names import VALUES
from spinepaint.models.localiser import Localisation
from spinepaint.models.segmentation import EnsembleConfig, Segmentation
from spinepaint.training.crops import phantom_volume
from spinepaint.training.phantom import Phantom, make_phantom, write_series
from spinepaint.training.phantom.segmentation import structures
from spinepaint.training.segmenter_spines import structure_labels
from spinepaint.worker import segment as worker
from spinepaint.worker.segment import SegmentSpec, segment_series
from tests.training.tiny_bundle import write_tiny_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle"), segmenter=True)


@pytest.fixture(scope="module")
def t1() -> Phantom:
    return make_phantom(3, weighting="T1", slices=5, matrix=256, pixel_mm=1.0)


@pytest.fixture(scope="module")
def t1_series(t1: Phantom, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("t1")
    write_series(t1, folder, seed=3)
    return folder


@pytest.fixture
def perfect(t1: Phantom, monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks that know the truth of `t1`."""
    truth = orient(phantom_volume(t1).with_voxels(structure_labels(t1).astype(np.float32))).voxels.astype(np.uint8)
    oriented = orient(phantom_volume(t1))
    centres = {fsu: np.array(oriented.to_index(point)) for fsu, point in t1.disc_centres_lps_mm.items()}

    def find(models: object, voxels: np.ndarray, spacing: object, **_: object) -> Segmentation:
        assert voxels.shape == truth.shape
        return Segmentation(truth, np.zeros((3, *truth.shape), np.float32), np.where(truth == 2, 0.2, 0).astype(np.float32))

    named = Localisation(centres, {}, {}, dict.fromkeys(centres, 1.0), 9.0, ("a warning",))
    monkeypatch.setattr(worker, "segment", find)
    monkeypatch.setattr(worker, "localise", lambda *_: named)


@pytest.mark.usefixtures("perfect")
def test_what_was_found_is_written_under_its_name(t1: Phantom, t1_series: Path, bundle: Path, tmp_path: Path) -> None:
    heard: list[float] = []
    out = tmp_path / "out"
    report = segment_series(t1_series, out, bundle=bundle, progress=lambda _stage, share: heard.append(share))
    files = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert files == {
        "labels/segmentation.dcm", "labels/uncertainty.dcm", "segmentation.nii.gz", "uncertainty.nii.gz", "overlay.png",
        "segmentation.json",
    }  # fmt: skip
    assert json.loads((out / "segmentation.json").read_text()) == report
    assert heard == sorted(heard) and "a warning" in report["warnings"] and report["ensemble"]["steps"] == 3
    source = dcmread(next(t1_series.iterdir()), stop_before_pixels=True)
    for name in ("segmentation", "uncertainty"):
        made = dcmread(out / "labels" / f"{name}.dcm", stop_before_pixels=True)
        assert made.StudyInstanceUID == source.StudyInstanceUID and made.PatientID == source.PatientID
        assert made.FrameOfReferenceUID == source.FrameOfReferenceUID and "SyntheticData" not in made
    named = hd.seg.segread(out / "labels" / "segmentation.dcm")
    assert {segment.SegmentLabel for segment in named.SegmentSequence} == set(report["structures"])
    image = sitk.ReadImage(str(out / "segmentation.nii.gz"))
    labels = sitk.GetArrayFromImage(image)
    truth, flipped = structures(t1), image.GetDirection()[2] * t1.affine[0, 0] < 0
    for name in (*t1.disc_centres_lps_mm, "L1", "L2", "L3", "L4", "L5", "canal"):
        found, true = labels == VALUES[name], truth[name][1]
        # The reader orders the slices along the normal, the phantom from left to right.
        assert 2 * (found & (true[::-1] if flipped else true)).sum() / (found.sum() + true.sum()) > 0.97, name
    assert report["structures"]["L4-L5"]["mean_uncertainty"] == pytest.approx(0.2, abs=1e-4)
    assert report["structures"]["L4"]["volume_ml"] > 5


def test_real_networks_run_through(t1_series: Path, bundle: Path, tmp_path: Path) -> None:
    report = segment_series(t1_series, tmp_path / "out", SegmentSpec(samples=2), bundle=bundle)
    assert report["ensemble"]["samples"] == 2 and report["structures"]
    assert set(report["timings_s"]) == {"read", "segment", "name", "write"}
    assert SegmentSpec(diffusion=False).ensemble(EnsembleConfig()) is None


def test_nothing_found_leaves_nothing(
    t1: Phantom, t1_series: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = np.zeros(t1.voxels.shape, np.float32)
    found = Segmentation(nothing.astype(np.uint8), nothing[None].repeat(3, axis=0), nothing)
    monkeypatch.setattr(worker, "segment", lambda *_, **__: found)
    with pytest.raises(Refusal, match="No vertebra") as refused:
        segment_series(t1_series, tmp_path / "out", bundle=bundle)
    assert refused.value.type == "nothing-found" and not (tmp_path / "out").exists()


def test_a_bundle_without_a_segmenter_is_refused(t1_series: Path, tmp_path: Path) -> None:
    without = write_tiny_bundle(tmp_path / "without")
    with pytest.raises(Refusal, match="has no segmenter") as refused:
        segment_series(t1_series, tmp_path / "out", bundle=without)
    assert refused.value.type == "segmenter-not-in-bundle" and "--bundle" in refused.value.detail
    with pytest.raises(Refusal, match="cannot be used"):
        segment_series(t1_series, tmp_path / "out", bundle=tmp_path / "none")
    assert not (tmp_path / "out").exists()


def test_numbers_below_one_are_refused(t1_series: Path, bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="cannot be drawn"):
        segment_series(t1_series, tmp_path / "out", SegmentSpec(samples=0), bundle=bundle)
