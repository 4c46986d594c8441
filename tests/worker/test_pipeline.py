"""The main job with the shipped bundle, judged by plain pydicom and not by the pipeline's own code."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from spinepaint.imaging.conformance import findings
from spinepaint.imaging.errors import Refusal
from spinepaint.training.phantom import Phantom
from spinepaint.worker import pipeline
from spinepaint.worker.pipeline import run_pipeline
from tests.imaging.painted import dciodvfy

SPEC = {"pathology": "disc_herniation", "fsu": "L4-L5", "severity": "moderate_large", "steps": 2, "seed": 5}


def by_position(folder: Path) -> list[pydicom.Dataset]:
    datasets = [pydicom.dcmread(path) for path in folder.glob("*.dcm")]
    return sorted(datasets, key=lambda d: [float(v) for v in d.ImagePositionPatient])


@pytest.mark.parametrize("allowed", [True, False])
def test_a_synthetic_source_is_taken_where_the_request_says_so(
    allowed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_series(*_: Any, allow_synthetic: bool, **__: Any) -> Any:
        raise Refusal("seen", f"{allow_synthetic}")

    monkeypatch.setattr(pipeline, "read_series", read_series)
    with pytest.raises(Refusal, match=f"{allowed}"):
        run_pipeline(tmp_path, SPEC | {"allow_synthetic": allowed}, tmp_path / "out")


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "report.json"  # its timings differ
    }


@pytest.fixture(scope="module")
def result(series: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], list[tuple[str, float]]]:
    out = tmp_path_factory.mktemp("result") / "out"
    heard: list[tuple[str, float]] = []
    report = run_pipeline(series, SPEC, out, progress=lambda stage, share: heard.append((stage, share)))
    return out / "sample-01", report, heard


def test_the_folder_is_the_contracts(result: tuple[Path, dict[str, Any], Any], series: Path) -> None:
    folder, report, _ = result
    assert len(list((folder / "series").glob("*.dcm"))) == len(list(series.glob("*.dcm")))
    assert {path.name for path in folder.iterdir()} == {"series", "labels", "preview.png", "report.json"}
    assert {path.name for path in (folder / "labels").iterdir()} == {"edit.dcm", "report.dcm"}
    assert json.loads((folder / "report.json").read_text()) == report
    assert list(folder.parent.iterdir()) == [folder]


def test_outside_the_segmented_edit_every_stored_value_is_the_sources(
    result: tuple[Path, dict[str, Any], Any], series: Path
) -> None:
    folder, report, _ = result
    label = pydicom.dcmread(folder / "labels" / "edit.dcm")
    frames = label.pixel_array.reshape(-1, label.Rows, label.Columns)
    edited = {
        item.PlanePositionSequence[0].ImagePositionPatient[0]: frame
        for item, frame in zip(label.PerFrameFunctionalGroupsSequence, frames, strict=True)
    }
    changed = 0
    for before, after in zip(by_position(series), by_position(folder / "series"), strict=True):
        assert before.ImagePositionPatient == after.ImagePositionPatient
        moved = before.pixel_array != after.pixel_array
        frame = edited.get(after.ImagePositionPatient[0])
        inside = np.zeros_like(moved) if frame is None else frame > 0
        assert not moved[~inside].any()
        changed += int(moved.sum())
    assert changed == report["edit"]["voxels_changed"] > 500
    assert report["edit"]["outside_identical"] is True


def test_geometry_reads_back(result: tuple[Path, dict[str, Any], Any], series: Path) -> None:
    images = []
    for folder in (series, result[0] / "series"):
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
        images.append(reader.Execute())
    for read in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(images[0], read)() == pytest.approx(getattr(images[1], read)())
    volumes = [highdicom.get_volume_from_series(by_position(folder)) for folder in (series, result[0] / "series")]
    assert np.allclose(volumes[0].affine, volumes[1].affine)


def test_dciodvfy_finds_nothing(result: tuple[Path, dict[str, Any], Any]) -> None:
    for path in result[0].rglob("*.dcm"):
        assert dciodvfy(path) == []


def test_our_own_check_finds_nothing(result: tuple[Path, dict[str, Any], Any], series: Path) -> None:
    assert findings(sorted(result[0].rglob("*.dcm")), by_position(series)) == []


def test_a_repeat_is_the_same_to_the_byte_and_another_seed_is_not(
    result: tuple[Path, dict[str, Any], Any], series: Path, tmp_path: Path
) -> None:
    run_pipeline(series, SPEC, tmp_path / "again")
    assert digests(tmp_path / "again" / "sample-01") == digests(result[0])
    other = run_pipeline(series, {**SPEC, "seed": 6}, tmp_path / "other")
    assert other["output"]["series_uid"] != result[1]["output"]["series_uid"]
    assert digests(tmp_path / "other" / "sample-01") != digests(result[0])


def test_the_landmark_lies_at_the_level(result: tuple[Path, dict[str, Any], Any], phantom: Phantom) -> None:
    truth = np.array(phantom.disc_centres_lps_mm["L4-L5"])
    assert np.linalg.norm(np.array(result[1]["disc_centres_lps_mm"]["L4-L5"]) - truth) < 6.0
    assert np.linalg.norm(np.array(result[1]["landmark_lps_mm"]) - truth) < 30.0


def test_progress_rises_through_every_stage(result: tuple[Path, dict[str, Any], list[tuple[str, float]]]) -> None:
    heard = result[2]
    stages = list(dict.fromkeys(stage for stage, _ in heard))
    assert stages == ["read", "localise", "landmark", "crop", "sample", "paste", "verify", "write"]
    shares = [share for _, share in heard]
    assert shares == sorted(shares)
    assert 0.0 <= shares[0] < shares[-1] <= 1.0


def test_samples_differ_and_the_callers_landmark_is_used(series: Path, phantom: Phantom, tmp_path: Path) -> None:
    landmark = [float(v) for v in phantom.landmarks_lps_mm["L2-L3"]]
    spec = {**SPEC, "fsu": "L2-L3", "samples": 2, "landmark_lps_mm": landmark, "steps": 1}
    run_pipeline(series, spec, tmp_path / "out")
    reports = [json.loads((tmp_path / "out" / f"sample-0{n}" / "report.json").read_text()) for n in (1, 2)]
    assert reports[0]["landmark_lps_mm"] == pytest.approx(landmark, abs=0.01)
    assert reports[0]["spec"]["seed"] != reports[1]["spec"]["seed"]
    assert reports[0]["output"]["series_uid"] != reports[1]["output"]["series_uid"]


def test_a_deidentified_result_names_nothing_of_its_source(
    result: tuple[Path, dict[str, Any], Any], series: Path, tmp_path: Path
) -> None:
    source = by_position(series)[0]
    spec = {**SPEC, "deidentify": True, "new_study": True, "series_uid": str(source.SeriesInstanceUID), "steps": 2}
    report = run_pipeline(series, spec, tmp_path / "out")
    told = [str(source[word].value) for word in ("SeriesInstanceUID", "StudyInstanceUID", "PatientID", "PatientName")]
    told += [str(ds.SOPInstanceUID) for ds in by_position(series)] + [result[1]["source"]["sha256"]]
    for path in (tmp_path / "out").rglob("*.*"):
        data = path.read_bytes()
        assert [word for word in told if word.encode() in data] == []
    assert report["source"]["series_uid"] == report["spec"]["series_uid"]
    assert report["spec"]["deidentify"] is report["spec"]["new_study"] is True
    assert report["output"]["study_uid"] != report["source"]["study_uid"]
    for before, after in zip(
        by_position(result[0] / "series"), by_position(tmp_path / "out" / "sample-01" / "series"), strict=True
    ):
        np.testing.assert_array_equal(before.pixel_array, after.pixel_array)  # the same edit
        assert after.PatientIdentityRemoved == "YES"


def test_stopping_in_the_middle_leaves_nothing(series: Path, tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    def stop(stage: str, _share: float) -> None:
        if stage == "paste":
            raise StopError

    with pytest.raises(StopError):
        run_pipeline(series, SPEC, tmp_path / "deep" / "out", progress=stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "slug"),
    [
        ({"severity": "severe"}, "bad-spec"),
        ({"fsu": "T12-L1"}, "bad-spec"),
        ({"steps": 0}, "bad-spec"),
        ({"sigma_mm": 900.0}, "bad-spec"),
        ({"colour": "red"}, "bad-spec"),
        ({"deidentify": "yes"}, "bad-spec"),
        ({"landmark_lps_mm": [900.0, 0.0, 0.0]}, "landmark-outside"),
    ],
)
def test_a_bad_request_is_refused_and_leaves_nothing(series: Path, tmp_path: Path, change: dict[str, Any], slug: str) -> None:
    with pytest.raises(Refusal) as refusal:
        run_pipeline(series, {**SPEC, **change}, tmp_path / "out")
    assert refusal.value.type == slug
    assert list(tmp_path.iterdir()) == []


def test_results_are_never_overwritten(series: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    with pytest.raises(Refusal) as refusal:
        run_pipeline(series, SPEC, tmp_path / "out")
    assert refusal.value.type == "output-exists"
    assert (tmp_path / "out" / "mine.txt").read_text() == "keep"


def test_our_own_output_is_refused_as_input(result: tuple[Path, dict[str, Any], Any], tmp_path: Path) -> None:
    with pytest.raises(Refusal) as refusal:
        run_pipeline(result[0] / "series", SPEC, tmp_path / "out")
    assert "synthetic" in refusal.value.type


def test_a_level_that_is_hardly_to_be_believed_is_painted_only_at_a_landmark(
    series: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Noise gives levels too, with next to no confidence."""
    known = pipeline.steps.localise_discs

    def doubtful(*arguments: Any) -> Any:
        discs = known(*arguments)
        return replace(discs, confidence=dict.fromkeys(discs.confidence, 0.07))

    monkeypatch.setattr(pipeline.steps, "localise_discs", doubtful)
    with pytest.raises(Refusal, match="not found with any confidence") as refused:
        run_pipeline(series, SPEC, tmp_path / "refused")
    assert refused.value.type == "fsu-not-found" and not (tmp_path / "refused").exists()
    monkeypatch.undo()
    landmark = run_pipeline(series, SPEC, tmp_path / "right")["landmark_lps_mm"]
    monkeypatch.setattr(pipeline.steps, "localise_discs", doubtful)
    run_pipeline(series, SPEC | {"landmark_lps_mm": landmark}, tmp_path / "taken")
