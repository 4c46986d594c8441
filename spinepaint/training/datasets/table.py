"""Your own data: a folder of DICOM series or NIfTI files, and a CSV that says what each shows and where."""

import csv
from pathlib import Path

from spinepaint.imaging.errors import Refusal
from spinepaint.imaging.vocabulary import Fsu, Pathology, Severity, condition_index
from spinepaint.training.datasets.manifest import Case, split_of

COLUMNS = ("patient", "series", "fsu", "pathology", "severity", "x", "y", "z")


def table_cases(table: Path) -> list[Case]:
    """The cases of a CSV with the columns `COLUMNS`, and optionally `split` (train or held_out).

    `series` is relative to the table's folder; x, y, z are patient LPS mm (in a viewer that shows RAS, x and y have the other
    sign). Without `split`, a patient's is drawn from its name. Raises Refusal `bad-dataset` naming the row.
    """
    cases = []
    with table.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or [])]
        if missing:
            raise Refusal("bad-dataset", f"{table.name} lacks columns: {', '.join(missing)}.", f"Needed: {', '.join(COLUMNS)}.")
        for number, row in enumerate(reader, start=2):
            try:
                cases.append(_case(row, table.parent))
            except ValueError as error:
                raise Refusal("bad-dataset", f"Row {number} of {table.name} is not a case.", str(error)) from error
    return cases


def _case(row: dict[str, str], base: Path) -> Case:
    pathology, severity = Pathology(row["pathology"]), Severity(row["severity"])
    condition_index(pathology, severity)
    patient = row["patient"].strip()
    if not patient:
        raise ValueError("a case needs a patient, or splits by patient cannot be kept")
    split = row.get("split") or split_of(patient)
    if split not in ("train", "held_out"):
        raise ValueError(f"split {split!r} is neither train nor held_out")
    series = base / row["series"]
    if not series.exists():
        raise ValueError(f"series {row['series']!r} does not exist")
    landmark = (float(row["x"]), float(row["y"]), float(row["z"]))
    return Case(patient, series, Fsu(row["fsu"]), pathology, severity, landmark, split)  # type: ignore[arg-type]
