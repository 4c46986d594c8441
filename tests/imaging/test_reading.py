"""What a sound series becomes: a Volume with the right values in the right place, however it was sent."""

import random
import shutil
import zipfile
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from spinepaint.imaging.errors import Refusal
from spinepaint.imaging.reading import check, read_series
from tests.imaging.enhanced_factory import make_enhanced
from tests.imaging.series_factory import make_anatomy, make_series, quantise

SYNTAXES = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    RLELossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEG2000Lossless,
)


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: str(uid.name)[:40])
@pytest.mark.parametrize(
    ("dtype", "bits_stored", "signed"),
    [("uint8", 8, False), ("uint16", 12, False), ("uint16", 16, False), ("int16", 12, True), ("int16", 16, True)],
)
def test_every_transfer_syntax_and_depth_gives_the_same_stored_values(
    tmp_path: Path, syntax: str, dtype: str, bits_stored: int, signed: bool
) -> None:
    make_series(tmp_path, slices=5, rows=40, columns=64, dtype=dtype, bits_stored=bits_stored, transfer_syntax=syntax)
    series = read_series(tmp_path)
    expected = quantise(make_anatomy((5, 40, 64)), dtype=dtype, bits_stored=bits_stored, signed=signed)
    assert series.volume.stored.dtype == expected.dtype
    np.testing.assert_array_equal(series.volume.stored, expected)
    np.testing.assert_array_equal(series.volume.voxels, expected.astype(np.float32))
    assert all("PixelData" not in ds for ds in series.volume.datasets)
    assert series.warnings == ()


def test_slices_are_ordered_along_the_normal_and_not_by_instance_number(tmp_path: Path) -> None:
    paths = make_series(tmp_path)
    volume = read_series(random.Random(1).sample(paths, len(paths))).volume
    assert [ds.SOPInstanceUID for ds in volume.datasets] == [dcmread(path).SOPInstanceUID for path in paths]
    assert [int(ds.InstanceNumber) for ds in volume.datasets] == list(range(9, 0, -1))
    normal = np.cross(volume.affine[:3, 2], volume.affine[:3, 1])
    assert float(normal @ volume.affine[:3, 0]) > 0


@pytest.mark.parametrize("oblique_deg", [0.0, 17.0, 29.5, -20.0])
def test_the_affine_agrees_with_each_instance_and_with_simpleitk(tmp_path: Path, oblique_deg: float) -> None:
    paths = make_series(tmp_path, oblique_deg=oblique_deg, spacing_mm=(4.4, 0.9, 0.7))
    volume = read_series(tmp_path).volume
    assert volume.spacing == pytest.approx((4.4, 0.9, 0.7))
    for index, ds in enumerate(volume.datasets):
        np.testing.assert_allclose(volume.to_patient(np.array([index, 0, 0])), ds.ImagePositionPatient, atol=1e-6)
    image: Any = SimpleITK.ReadImage([str(path) for path in paths])
    direction = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    np.testing.assert_allclose(volume.affine[:3, :3], direction[:, ::-1], atol=1e-5)
    np.testing.assert_allclose(volume.affine[:3, 3], np.array(image.GetOrigin()), atol=1e-5)


def test_each_slice_has_its_own_rescale(tmp_path: Path) -> None:
    slopes, intercepts = [0.5 + 0.25 * k for k in range(6)], [-3.0 * k for k in range(6)]
    make_series(tmp_path, slices=6, slope=slopes, intercept=intercepts)
    volume = read_series(tmp_path).volume
    np.testing.assert_allclose(volume.slope, slopes)
    np.testing.assert_allclose(volume.intercept, intercepts)
    for k in range(6):
        np.testing.assert_allclose(volume.voxels[k], volume.stored[k] * slopes[k] + intercepts[k], rtol=1e-6)


def test_the_digest_depends_on_values_and_uids_alone(tmp_path: Path) -> None:
    paths = make_series(tmp_path / "a", slices=5)
    make_series(tmp_path / "b", slices=5, transfer_syntax=JPEGLSLossless)
    (tmp_path / "c").mkdir()
    for number, path in enumerate(reversed(paths)):
        shutil.copy(path, tmp_path / "c" / f"{number}")
    digests = {read_series(tmp_path / name).sha256 for name in "abc"}
    assert len(digests) == 1
    assert len(digests.pop()) == 64

    def raise_one_pixel(ds: Dataset, index: int) -> None:
        if index == 2:
            ds.PixelData = bytes([ds.PixelData[0] ^ 1]) + ds.PixelData[1:]

    make_series(tmp_path / "d", slices=5, mutate=raise_one_pixel)
    assert read_series(tmp_path / "d").sha256 != read_series(tmp_path / "a").sha256


def test_a_folder_a_zip_and_a_list_give_the_same_series(tmp_path: Path) -> None:
    paths = make_series(tmp_path / "deep" / "er", slices=5)
    with zipfile.ZipFile(tmp_path / "study.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in paths:
            archive.write(path, f"deep/{path.name}")
    digests = {
        read_series(source).sha256
        for source in (tmp_path / "deep", tmp_path / "study.zip", [tmp_path / "study.zip"], paths)
    }  # fmt: skip
    assert len(digests) == 1
    for source in (tmp_path / "deep", tmp_path / "study.zip"):
        copied = deepcopy(read_series(source).volume.datasets[0])  # pydicom warns where it still hangs on a closed file
        assert copied.buffer is None
        assert str(copied.filename).endswith(".dcm")  # the name it was handed over under, for refusals


def test_an_enhanced_image_is_ordered_by_position_and_not_by_frame(tmp_path: Path) -> None:
    order = [4, 0, 3, 1, 5, 2]
    slopes = [1.0 + 0.5 * k for k in range(6)]
    path = make_enhanced(tmp_path / "enhanced.dcm", slices=6, frame_order=order, slope=slopes, oblique_deg=10.0)
    volume = read_series(path).volume
    make_series(tmp_path / "classic", slices=6, oblique_deg=10.0)
    classic = read_series(tmp_path / "classic").volume
    assert len(volume.datasets) == 1
    assert volume.frames == tuple(order.index(k) for k in range(6))
    np.testing.assert_array_equal(volume.stored, classic.stored)
    np.testing.assert_allclose(volume.affine, classic.affine, atol=1e-6)
    np.testing.assert_allclose(volume.slope, slopes)


def test_a_mixed_upload_gives_the_sagittal_t2_series_and_says_why_the_rest_was_left(tmp_path: Path) -> None:
    make_series(tmp_path / "t2", seed=0)
    make_series(tmp_path / "ax", seed=1, plane="axial", series_description="t2_tse_tra", slices=3)
    make_series(tmp_path / "t1", seed=2, echo_time_ms=11, repetition_time_ms=600, series_description="t1_tse_sag", slices=3)
    make_series(tmp_path / "loc", seed=3, series_description="localizer", slices=3)
    make_series(tmp_path / "stir", seed=4, series_description="t2_tirm_sag", slices=3)
    for name, content in (
        ("thumb.jpg", b"\xff\xd8\xff\xe0 thumbnail"), ("._IM0001.dcm", b"\0"), (".DS_Store", b"\0"), ("readme.txt", b"hello"),
        ("inner.zip", b"PK\x03\x04"),
    ):  # fmt: skip
        (tmp_path / name).write_bytes(content)
    report = read_series(tmp_path).report.as_dict()
    verdicts = {series["description"]: (series["verdict"], series["reason"]) for series in report["series"]}
    assert verdicts["t2_tse_sag"][0] == "accepted"
    assert verdicts["t2_tse_tra"] == ("ignored", "axial, not sagittal")
    assert verdicts["t1_tse_sag"] == ("ignored", "TE 11 ms is too short for T2")
    assert verdicts["localizer"] == ("ignored", "a localizer")
    assert verdicts["t2_tirm_sag"][0] == "ignored"
    assert "inversion" in verdicts["t2_tirm_sag"][1]
    files = {entry["file"]: entry for entry in report["files"]}
    assert len(report["files"]) == 9 + 4 * 3 + 5
    assert files["thumb.jpg"] == {"file": "thumb.jpg", "verdict": "ignored", "reason": "not DICOM"}
    assert files["._IM0001.dcm"]["reason"] == "a macOS resource file"
    assert files["inner.zip"]["reason"] == "an archive inside the upload, not opened"


def test_check_says_what_the_contract_says(tmp_path: Path) -> None:
    make_series(tmp_path, slices=5)
    report = check(tmp_path).as_dict()
    assert set(report) == {"accepted", "chosen_series_uid", "series", "files", "warnings"}
    assert report["accepted"] is True
    (series,) = report["series"]
    assert set(series) == {"series_uid", "description", "instances", "verdict", "reason"}
    assert series["series_uid"] == report["chosen_series_uid"]
    assert series["instances"] == 5
    assert all(set(entry) == {"file", "verdict", "reason"} and entry["verdict"] == "accepted" for entry in report["files"])


def test_several_candidates_are_listed_and_one_can_be_named(tmp_path: Path) -> None:
    make_series(tmp_path / "a", slices=5, seed=0)
    paths = make_series(tmp_path / "b", slices=5, seed=1)
    uid = str(dcmread(paths[0]).SeriesInstanceUID)
    with pytest.raises(Refusal) as refused:
        read_series(tmp_path)
    assert refused.value.type == "several-series"
    assert uid in refused.value.detail
    assert check(tmp_path).as_dict()["accepted"] is False
    assert read_series(tmp_path, series_uid=uid).series_uid == uid
    with pytest.raises(Refusal) as absent:
        read_series(tmp_path, series_uid="1.2.3")
    assert absent.value.type == "series-not-found"


def test_a_sound_series_is_read_beside_a_broken_one_with_a_warning(tmp_path: Path) -> None:
    make_series(tmp_path / "a", slices=5, seed=0)
    make_series(tmp_path / "b", slices=7, seed=1)[3].unlink()
    series = read_series(tmp_path)
    assert series.volume.stored.shape[0] == 5
    assert any("missing" in warning for warning in series.warnings)


def test_second_copies_of_a_file_are_passed_over(tmp_path: Path) -> None:
    paths = make_series(tmp_path, slices=5)
    (tmp_path / "again").mkdir()
    shutil.copy(paths[0], tmp_path / "again" / "copy.dcm")
    report = read_series(tmp_path).report
    (copy,) = [entry for entry in report.files if entry.verdict == "ignored"]
    assert copy.reason.startswith("a copy of ")


def test_instances_without_preamble_are_read(tmp_path: Path) -> None:
    for path in make_series(tmp_path, slices=5):
        ds = dcmread(path)
        del ds.preamble
        bare = Dataset(ds)
        dcmwrite(path, bare, implicit_vr=True, little_endian=True)
        assert path.read_bytes()[128:132] != b"DICM"
    assert read_series(tmp_path).volume.stored.shape == (5, 96, 96)


def test_what_research_releases_strip_is_taken_with_a_warning(tmp_path: Path) -> None:
    paths = make_series(tmp_path, slices=5)
    for path in paths:
        ds = dcmread(path)
        del ds.EchoTime, ds.RepetitionTime, ds.SOPClassUID
        ds.file_meta = type(ds.file_meta)()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.save_as(path, enforce_file_format=False)
    warnings = read_series(tmp_path).warnings
    assert any("SOP Class is missing" in warning for warning in warnings)
    assert any("description alone" in warning for warning in warnings)


def test_interpolated_slices_are_warned_of(tmp_path: Path) -> None:
    def thicken(ds: Dataset, index: int) -> None:
        ds.SliceThickness = "8.0"

    make_series(tmp_path, slices=5, mutate=thicken)
    assert any("overlap" in warning for warning in read_series(tmp_path).warnings)


def test_no_patient_value_reaches_a_report(tmp_path: Path) -> None:
    paths = make_series(tmp_path, slices=7)
    paths[3].unlink()
    with pytest.raises(Refusal) as refused:
        read_series(tmp_path)
    said = str(refused.value.as_problem()) + str(check(tmp_path).as_dict())
    for secret in ("Invented", "INVENTED", "19700101", "A0001"):
        assert secret not in said
