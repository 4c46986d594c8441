"""The one manifest that every data set becomes: a line a lesion, with its series, its patient and its split."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from spinepaint.imaging.errors import Refusal
from spinepaint.imaging.vocabulary import Fsu, Pathology, Severity, condition_index

Split = Literal["train", "held_out"]
HELD_OUT_ONE_IN = 8


class LeakageError(ValueError):
    """One patient, or one series, in both splits."""


@dataclass(frozen=True)
class Case:
    """A lesion in a series.

    series: a DICOM folder or a NIfTI or MetaImage file; landmark_lps_mm: patient LPS mm, for a herniation the posterior disc
    margin at its base, for a stenosis the middle of the canal at disc height.
    """

    patient: str
    series: Path
    fsu: Fsu
    pathology: Pathology
    severity: Severity
    landmark_lps_mm: tuple[float, float, float]
    split: Split


def split_of(patient: str, *, one_in: int = HELD_OUT_ONE_IN) -> Split:
    """The split of a patient, by a hash of the identifier: it never changes as a data set grows."""
    number = int.from_bytes(hashlib.sha256(patient.encode()).digest()[:8], "big")
    return "held_out" if number % one_in == 0 else "train"


def refuse_leakage(cases: Iterable[Case]) -> None:
    """Raise LeakageError where a patient, or a series under two patients' names, is in both splits."""
    patients: dict[str, Split] = {}
    series: dict[Path, Split] = {}
    for case in cases:
        if patients.setdefault(case.patient, case.split) != case.split:
            raise LeakageError(f"patient {case.patient!r} is in both splits")
        if series.setdefault(case.series.resolve(), case.split) != case.split:
            raise LeakageError(f"series {case.series.name!r} is in both splits")


def write_manifest(cases: Sequence[Case], path: Path) -> None:
    """Write JSON lines; series below the manifest's folder are written relative to it. Raises LeakageError."""
    refuse_leakage(cases)
    base = path.parent.resolve()
    with path.open("w") as lines:
        for case in cases:
            series = case.series.resolve()
            written = series.relative_to(base) if series.is_relative_to(base) else series
            lines.write(json.dumps({**asdict(case), "series": str(written)}) + "\n")


def read_manifest(path: Path, split: Split | None = None) -> list[Case]:
    """The cases of a manifest, or of one split of it.

    Raises Refusal `bad-manifest` naming the line, and LeakageError over the whole manifest whatever the split.
    """
    cases = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            cases.append(_case(json.loads(line), path.parent))
        except (KeyError, TypeError, ValueError) as error:
            raise Refusal("bad-manifest", f"Line {number} of {path.name} is not a case.", str(error)) from error
    refuse_leakage(cases)
    return [case for case in cases if split is None or case.split == split]


def _case(raw: dict[str, object], base: Path) -> Case:
    x, y, z = (float(value) for value in raw["landmark_lps_mm"])  # type: ignore[attr-defined]
    split = raw["split"]
    if split not in ("train", "held_out"):
        raise ValueError(f"split {split!r} is neither train nor held_out")
    pathology, severity = Pathology(str(raw["pathology"])), Severity(str(raw["severity"]))
    condition_index(pathology, severity)
    return Case(
        patient=str(raw["patient"]),
        series=base / str(raw["series"]),
        fsu=Fsu(str(raw["fsu"])),
        pathology=pathology,
        severity=severity,
        landmark_lps_mm=(x, y, z),
        split=split,
    )
