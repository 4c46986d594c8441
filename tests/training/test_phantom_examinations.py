"""What `spinepaint phantom` writes: T1 beside T2, the exact segmentation, the truth; the same by one process or two."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from spinepaint.imaging.reading import check
from spinepaint.training.phantom import Weighting, make_phantom
from spinepaint.training.phantom.examinations import Examination, write_examination, write_examinations
from spinepaint.training.phantom.segmentation import structures

BOTH = (Weighting.T2, Weighting.T1)
LESION = {"L4-L5": ("disc_herniation", "moderate_large")}


def test_a_t1_series_says_so_and_is_refused_as_not_t2(tmp_path: Path) -> None:
    write_examination(Examination(8, LESION, BOTH), tmp_path)
    t2, t1 = (pydicom.dcmread(tmp_path / name / "slice-001.dcm") for name in ("phantom-000008", "phantom-000008-t1"))
    assert "T1" in t1.SeriesDescription.upper() and "T2" in t2.SeriesDescription.upper()
    assert float(t1.EchoTime) < 20 < 70 < float(t2.EchoTime)
    assert float(t1.RepetitionTime) < 800 < 1900 < float(t2.RepetitionTime)
    for name in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientAge", "ManufacturerModelName"):
        assert t1[name].value == t2[name].value
    assert t1.SeriesInstanceUID != t2.SeriesInstanceUID and t1.SeriesNumber != t2.SeriesNumber
    assert t1.SeriesTime > t2.SeriesTime
    protocol = make_phantom(8, LESION, weighting="T1").protocol
    assert float(t1.EchoTime) == pytest.approx(protocol.echo_time_ms)
    assert check(tmp_path / "phantom-000008").accepted
    refused = check(tmp_path / "phantom-000008-t1")
    assert not refused.accepted and "too short for T2" in refused.series[0].reason
    assert check(tmp_path).chosen_series_uid == t2.SeriesInstanceUID


def test_the_segmentation_lies_on_the_series_as_nifti_and_as_seg(tmp_path: Path) -> None:
    found = write_examination(Examination(8, LESION, seg=True), tmp_path)
    phantom = make_phantom(8, LESION)
    tissues, levels, seg = (tmp_path / file for file in found["segmentation"])
    for file, labels in ((tissues, phantom.labels), (levels, phantom.levels)):
        image = sitk.ReadImage(str(file))
        assert np.array_equal(sitk.GetArrayFromImage(image), labels)
        for index in ((0, 0, 0), (3, 200, 100), (11, 17, 301)):
            point = image.TransformContinuousIndexToPhysicalPoint([float(i) for i in reversed(index)])
            assert np.allclose(point, (phantom.affine @ [*index, 1.0])[:3], atol=1e-3)
    dataset = pydicom.dcmread(seg)
    named = structures(phantom)
    assert {"T12", "L1", "L5", "sacrum", "T12-L1", "L4-L5", "L5-S1", "canal"} <= set(named)
    assert [segment.SegmentLabel for segment in dataset.SegmentSequence] == list(named)
    frames, marked = dataset.pixel_array, dict.fromkeys(range(1, len(named) + 1), 0)
    for frame, item in zip(frames, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        marked[item.SegmentIdentificationSequence[0].ReferencedSegmentNumber] += int(frame.sum())
    assert list(marked.values()) == [int(mask.sum()) for _, mask in named.values()]


def test_two_processes_write_what_one_does(tmp_path: Path) -> None:
    items = [Examination(seed, LESION, BOTH) for seed in (1, 2)]
    alone, together = (dict(write_examinations(items, tmp_path / str(n), n)) for n in (1, 2))
    assert alone == together
    files = sorted(path.relative_to(tmp_path / "1") for path in (tmp_path / "1").rglob("*") if path.is_file())
    assert len(files) > 4 * 13
    for file in files:
        assert (tmp_path / "1" / file).read_bytes() == (tmp_path / "2" / file).read_bytes()


def test_the_truth_tells_how_each_lesion_was_made(tmp_path: Path) -> None:
    found = write_examination(Examination(6, {"L2-L3": ("central_canal_stenosis", "severe"), **LESION}), tmp_path)
    assert found["conditions"]["L4-L5"] == ("disc_herniation", "moderate_large")
    assert {"protrusion_mm", "x_mm", "up_mm", "down_mm", "migration_mm"} <= set(found["lesions"]["L4-L5"])
    assert {"sac_ratio", "front_share", "facet_mm"} <= set(found["lesions"]["L2-L3"])
    assert found["morphometry"]["L4-L5"]["canal_share"] >= 1 / 3
    assert found["morphometry"]["L2-L3"]["csf_share"] < 0.3
    assert [node["vertebra"] for node in found["schmorl_nodes"]] == ["T11"]
    assert set(found["pfirrmann"]) == set(found["disc_centres_lps_mm"])
