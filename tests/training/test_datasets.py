"""Small data sets in the exact layouts of the real ones, made from phantoms whose truth is known."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import dcmread

from spinepaint.imaging.errors import Refusal
from spinepaint.imaging.reading import read_series
from spinepaint.imaging.vocabulary import Fsu, Pathology, Severity
from spinepaint.models.bundle import CropConfig
from spinepaint.training.crops import case_crops
from spinepaint.training.datasets import (
    Case,
    LeakageError,
    open_volume,
    read_manifest,
    rsna_cases,
    spider_cases,
    table_cases,
    write_manifest,
)
from spinepaint.training.datasets.manifest import split_of
from spinepaint.training.phantom import DISC_TISSUES, Phantom, Tissue, make_phantom, write_series
from spinepaint.training.phantom.tissues import L5

LEVEL = "L4-L5"


@pytest.fixture(scope="module")
def stenosed() -> Phantom:
    return make_phantom(31, {LEVEL: ("central_canal_stenosis", "severe")}, slices=9, oblique_deg=(3.0, -4.0, 0.0))


@pytest.fixture(scope="module")
def herniated() -> Phantom:
    return make_phantom(32, {LEVEL: ("disc_herniation", "moderate_large")}, slices=13)


def write_table(path: Path, rows: list[dict[str, object]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="module")
def rsna(tmp_path_factory: pytest.TempPathFactory, stenosed: Phantom) -> Path:
    """RSNA 2024's folder with one study: its sagittal T2 series, and rows about other series that must be left out."""
    folder = tmp_path_factory.mktemp("rsna")
    series = folder / "train_images" / "4003253" / "702807833"
    files = write_series(stenosed, folder / "made", seed=1)
    series.mkdir(parents=True)
    for number, file in enumerate(files, start=1):
        instance = dcmread(file)
        instance.InstanceNumber = number
        instance.save_as(series / f"{number}.dcm")
    shutil.rmtree(folder / "made")
    volume = read_series(series).volume
    s, row, column = volume.to_index(np.array(stenosed.landmarks_lps_mm[LEVEL]))
    numbers = [int(dataset.InstanceNumber) for dataset in volume.datasets]
    levels = [f"l{n}_{'s1' if n == 5 else f'l{n + 1}'}" for n in range(1, 6)]
    grades = {f"spinal_canal_stenosis_{level}": "Normal/Mild" for level in levels} | {"spinal_canal_stenosis_l4_l5": "Severe"}
    write_table(folder / "train.csv", [{"study_id": 4003253, **grades}])
    described = [(702807833, "Sagittal T2/STIR"), (1054713880, "Sagittal T1"), (2448190387, "Axial T2")]
    rows: list[dict[str, object]] = [{"study_id": 4003253, "series_id": s, "series_description": d} for s, d in described]
    write_table(folder / "train_series_descriptions.csv", rows)
    mark = {
        "study_id": 4003253,
        "series_id": 702807833,
        "instance_number": numbers[round(s)],
        "condition": "Spinal Canal Stenosis",
    }
    write_table(
        folder / "train_label_coordinates.csv",
        [
            {**mark, "level": "L4/L5", "x": column, "y": row},
            {**mark, "level": "L3/L4", "x": column, "y": row - 60},
            {**mark, "level": "L4/L5", "x": 1, "y": 2, "condition": "Left Neural Foraminal Narrowing", "series_id": 1054713880},
        ],
    )
    return folder


def test_rsna_gives_the_graded_stenosis_at_its_place_in_the_patient(rsna: Path, stenosed: Phantom) -> None:
    (case,) = rsna_cases(rsna)
    assert (case.patient, case.fsu) == ("4003253", Fsu.L4_L5)
    assert (case.pathology, case.severity) == (Pathology.CENTRAL_CANAL_STENOSIS, Severity.SEVERE)
    off = np.subtract(case.landmark_lps_mm, stenosed.landmarks_lps_mm[LEVEL])
    assert np.linalg.norm(off) <= 0.5 * stenosed.spacing[0] + 0.01  # RSNA marks a slice, so up to half a slice is lost


def test_rsna_crops_are_cut_around_the_landmark(rsna: Path) -> None:
    (case,) = rsna_cases(rsna)
    crops = list(case_crops(case, 2, CropConfig(grid=(64, 64, 16))))
    assert [crop.condition for crop in crops] == [3, 3]
    assert all(np.abs(np.array(crop.landmark_mm) - (40, 40, 25)).max() < 12 for crop in crops)
    assert not np.array_equal(crops[0].voxels, crops[1].voxels)
    assert crops[0].donor is None
    assert np.isnan(crops[0].degree)


@pytest.mark.parametrize("missing", ["train.csv", "train_series_descriptions.csv", "train_images/4003253/702807833"])
def test_a_folder_that_is_not_whole_is_refused_by_name(rsna: Path, tmp_path: Path, missing: str) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(rsna, folder)
    gone = folder / missing
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    with pytest.raises(Refusal, match=missing.removeprefix("train_images/")):
        rsna_cases(folder)


@pytest.fixture(scope="module")
def spider(tmp_path_factory: pytest.TempPathFactory, herniated: Phantom) -> Path:
    """SPIDER's folder with one patient, the masks in SPIDER's labels."""
    folder = tmp_path_factory.mktemp("spider")
    labels, levels = herniated.labels, herniated.levels.astype(int)
    mask = np.zeros(labels.shape, np.uint8)
    upward = L5 + 2 - levels  # 1 for L5, 2 for L4, …
    vertebra = (labels == Tissue.VERTEBRA) & (upward >= 1) & (upward <= 7)
    mask[vertebra] = upward[vertebra]
    mask[np.isin(labels, (Tissue.CSF, Tissue.NEURAL, Tissue.EPIDURAL_FAT))] = 100
    disc = np.isin(labels, DISC_TISSUES) & (upward >= 1) & (upward <= 7)
    mask[disc] = 200 + upward[disc]
    for name, voxels in (("images", herniated.voxels), ("masks", mask)):
        (folder / name).mkdir()
        image = sitk.GetImageFromArray(voxels)
        columns = herniated.affine[:3, 2::-1]
        spacing = np.linalg.norm(columns, axis=0)
        image.SetSpacing(spacing.tolist())
        image.SetDirection((columns / spacing).ravel().tolist())
        image.SetOrigin(herniated.affine[:3, 3].tolist())
        sitk.WriteImage(image, str(folder / name / "17_t2.mha"))
    graded = [{"Patient": 17, "IVD label": n, "Disc herniation": int(n in (2, 4)), "Pfirrman grade": 3} for n in range(1, 6)]
    write_table(folder / "radiological_gradings.csv", graded)
    return folder


def test_spider_gives_the_graded_herniation_measured_on_the_masks(spider: Path, herniated: Phantom) -> None:
    # L2-L3 is graded as herniated too, but its mask shows no protrusion: it is left out.
    (case,) = spider_cases(spider)
    assert (case.patient, case.fsu, case.pathology) == ("spider-17", Fsu.L4_L5, Pathology.DISC_HERNIATION)
    assert case.severity is Severity.MODERATE_LARGE
    off = np.subtract(case.landmark_lps_mm, herniated.landmarks_lps_mm[LEVEL])
    assert np.linalg.norm(off) < 8


def test_a_metaimage_file_opens_where_the_phantom_lies(spider: Path, herniated: Phantom) -> None:
    volume = open_volume(spider / "images" / "17_t2.mha")
    assert np.allclose(volume.affine, herniated.affine)
    assert np.array_equal(volume.voxels, herniated.voxels)


def test_a_missing_mask_is_refused(spider: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(spider, folder)
    (folder / "masks" / "17_t2.mha").unlink()
    with pytest.raises(Refusal, match=r"masks/17_t2\.mha is missing"):
        spider_cases(folder)


ROW = {
    "patient": "a",
    "series": "a.nii.gz",
    "fsu": "L3-L4",
    "pathology": "disc_herniation",
    "severity": "small",
    "x": 1,
    "y": 2,
    "z": 3,
}


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").touch()
    (case,) = table_cases(write_table(tmp_path / "cases.csv", [ROW]))
    assert case == Case(
        "a", tmp_path / "a.nii.gz", Fsu.L3_L4, Pathology.DISC_HERNIATION, Severity.SMALL, (1, 2, 3), split_of("a")
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"severity": "severe"}, "severe"),
        ({"fsu": "L6-S1"}, "L6-S1"),
        ({"x": "left"}, "left"),
        ({"series": "gone.nii"}, "gone.nii"),
        ({"patient": " "}, "needs a patient"),
    ],
)
def test_a_row_that_is_no_case_is_refused_by_number(tmp_path: Path, change: dict[str, object], reason: str) -> None:
    (tmp_path / "a.nii.gz").touch()
    with pytest.raises(Refusal, match="Row 3") as refusal:
        table_cases(write_table(tmp_path / "cases.csv", [ROW, {**ROW, **change}]))
    assert reason in str(refusal.value.detail)


def case(patient: str, series: Path, split: str) -> Case:
    return Case(patient, series, Fsu.L3_L4, Pathology.DISC_HERNIATION, Severity.SMALL, (1.0, 2.0, 3.0), split)  # type: ignore[arg-type]


def test_a_manifest_comes_back_as_it_was_and_moves_with_its_folder(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    cases = [case("a", before / "a.mha", "train"), case("b", before / "b", "held_out")]
    write_manifest(cases, before / "cases.jsonl")
    before.rename(after)
    assert read_manifest(after / "cases.jsonl", "train") == [case("a", after / "a.mha", "train")]
    assert len(read_manifest(after / "cases.jsonl")) == 2


@pytest.mark.parametrize("names", [("a", "a.mha", "a", "b.mha"), ("a", "same.mha", "b", "same.mha")])
def test_leakage_is_refused_when_written_and_when_read(tmp_path: Path, names: tuple[str, str, str, str]) -> None:
    cases = [case(names[0], tmp_path / names[1], "train"), case(names[2], tmp_path / names[3], "held_out")]
    with pytest.raises(LeakageError):
        write_manifest(cases, tmp_path / "cases.jsonl")
    whole = [json.dumps({**vars(c), "series": str(c.series)}) for c in cases]
    (tmp_path / "cases.jsonl").write_text("\n".join(whole))
    with pytest.raises(LeakageError):
        read_manifest(tmp_path / "cases.jsonl", "train")


def test_splits_are_stable_and_hold_out_about_an_eighth() -> None:
    splits = [split_of(f"patient-{n}") for n in range(2000)]
    assert splits == [split_of(f"patient-{n}") for n in range(2000)]
    assert 0.1 < splits.count("held_out") / 2000 < 0.15
