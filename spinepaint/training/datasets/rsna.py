"""RSNA 2024 Lumbar Spine Degenerative Classification, as released on Kaggle.

`train.csv` (a row a study, a column a condition and level), `train_label_coordinates.csv` (pixel coordinates in an
instance), `train_series_descriptions.csv`, and `train_images/<study>/<series>/<instance>.dcm`.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from spinepaint.imaging.errors import Refusal
from spinepaint.imaging.vocabulary import Fsu, Pathology, Severity
from spinepaint.training.datasets.manifest import Case, split_of

_SEVERITIES = {"Moderate": Severity.MODERATE, "Severe": Severity.SEVERE}
_CONDITION = "Spinal Canal Stenosis"
_DESCRIPTION = "Sagittal T2/STIR"


def rsna_cases(folder: Path) -> list[Case]:
    """Every moderate or severe canal stenosis that has coordinates in a sagittal T2 series.

    The data set says "T2/STIR"; whether a series is STIR shows only when it is read. Raises Refusal `bad-dataset` where a
    table or an instance is missing or without geometry.
    """
    grades = {row["study_id"]: row for row in _rows(folder, "train.csv")}
    described = {(row["study_id"], row["series_id"]): row["series_description"] for row in _rows(folder, _DESCRIPTIONS)}
    cases = []
    for row in _rows(folder, "train_label_coordinates.csv"):
        study, series = row["study_id"], row["series_id"]
        if row["condition"] != _CONDITION or described.get((study, series)) != _DESCRIPTION:
            continue
        level = row["level"]  # "L1/L2"
        column = "spinal_canal_stenosis_" + level.lower().replace("/", "_")
        severity = _SEVERITIES.get(grades.get(study, {}).get(column, ""))
        if severity is None:
            continue
        path = folder / "train_images" / study / series
        x, y = float(row["x"]), float(row["y"])
        landmark = _patient_point(path / f"{row['instance_number']}.dcm", column=x, row=y)
        fsu = Fsu(level.replace("/", "-"))
        cases.append(Case(study, path, fsu, Pathology.CENTRAL_CANAL_STENOSIS, severity, landmark, split_of(study)))
    return cases


_DESCRIPTIONS = "train_series_descriptions.csv"


def _rows(folder: Path, name: str) -> Iterator[dict[str, str]]:
    try:
        with (folder / name).open(newline="") as file:
            yield from csv.DictReader(file)
    except OSError as error:
        raise Refusal("bad-dataset", f"{name} is missing.", "The folder is not RSNA 2024's, or not whole.") from error


def _patient_point(path: Path, *, column: float, row: float) -> tuple[float, float, float]:
    """Patient LPS mm of a pixel, by PS3.3 C.7.6.2.1.1."""
    try:
        header = dcmread(path, stop_before_pixels=True)
        origin = np.array(header.ImagePositionPatient, dtype=np.float64)
        along_row, along_column = np.array(header.ImageOrientationPatient, dtype=np.float64).reshape(2, 3)
        between_rows, between_columns = (float(value) for value in header.PixelSpacing)
    except (OSError, InvalidDicomError, AttributeError, TypeError, ValueError) as error:
        place = "/".join(path.parts[-3:])
        raise Refusal("bad-dataset", f"{place} is missing or has no geometry.", type(error).__name__) from error
    x, y, z = origin + column * between_columns * along_row + row * between_rows * along_column
    return float(x), float(y), float(z)
