"""SPIDER as released: `images/<patient>_t2.mha`, `masks/…` of the same name, `radiological_gradings.csv`.

van der Graaf et al. 2024, CC BY 4.0. Masks: vertebrae from 1 (L5) upwards, canal 100, discs from 201 (L5-S1) upwards.
The grades say that a disc is herniated, not how far: that is measured on the masks.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from spinepaint.imaging.errors import Refusal
from spinepaint.imaging.orient import orient
from spinepaint.imaging.vocabulary import Fsu, Pathology, Severity
from spinepaint.imaging.volume import Volume
from spinepaint.training.datasets.manifest import Case, split_of
from spinepaint.training.datasets.volumes import image_affine, read_image
from spinepaint.training.spider import FSU_OF_IVD_LABEL

CANAL, FIRST_DISC = 100, 201
LARGE_MM, LARGE_SHARE = 5.0, 1 / 3  # docs/2-definitions.md
_NOT_WHOLE = "The folder is not SPIDER's, or not whole."
LEAST_MM = 1.0  # less than this behind the walls is no protrusion that a mask can show


@dataclass(frozen=True)
class Protrusion:
    """How far a disc's mask reaches behind the line of the vertebral walls, what canal is left there, and the bump's base."""

    depth_mm: float
    canal_mm: float
    landmark_lps_mm: tuple[float, float, float]

    @property
    def severity(self) -> Severity:
        """By depth and by share of the canal as it was."""
        large = self.depth_mm >= LARGE_MM or self.depth_mm >= LARGE_SHARE * (self.canal_mm + self.depth_mm)
        return Severity.MODERATE_LARGE if large else Severity.SMALL


def spider_cases(folder: Path) -> list[Case]:
    """Every disc graded as herniated whose mask reaches behind the vertebral walls, in the T2 series (not T2 SPACE).

    Raises Refusal `bad-dataset` where the grades, or a mask of a series, are missing.
    """
    grades = _herniated(folder)
    cases = []
    for path in sorted((folder / "images").glob("*_t2.mha")):
        patient = path.name.split("_")[0]
        if not grades.get(patient):
            continue
        mask_path = folder / "masks" / path.name
        if not mask_path.exists():
            raise Refusal("bad-dataset", f"masks/{path.name} is missing.", _NOT_WHOLE)
        mask = _mask(mask_path)
        for label in sorted(grades[patient] & set(FSU_OF_IVD_LABEL)):
            found = measure_protrusion(mask, label)
            if found is not None:
                fsu = Fsu(FSU_OF_IVD_LABEL[label])
                split = split_of(f"spider-{patient}")
                landmark = found.landmark_lps_mm
                case = Case(f"spider-{patient}", path, fsu, Pathology.DISC_HERNIATION, found.severity, landmark, split)
                cases.append(case)
    return cases


def _herniated(folder: Path) -> dict[str, set[int]]:
    try:
        with (folder / "radiological_gradings.csv").open(newline="") as file:
            found: dict[str, set[int]] = {}
            for row in csv.DictReader(file):
                if row["Disc herniation"].strip() == "1":
                    found.setdefault(row["Patient"].strip(), set()).add(int(row["IVD label"]))
            return found
    except OSError as error:
        raise Refusal("bad-dataset", "radiological_gradings.csv is missing.", _NOT_WHOLE) from error


def _mask(path: Path) -> Volume:
    image = read_image(path)
    labels = np.asarray(sitk.GetArrayFromImage(image), dtype=np.float32)
    ones = np.ones(len(labels))
    return Volume(labels, labels.astype(np.int32), image_affine(image), ones, 0 * ones, ())


def measure_protrusion(mask: Volume, ivd_label: int, lateral_mm: float = 10.0) -> Protrusion | None:
    """The furthest protrusion of a disc over the slices within `lateral_mm` of the canal's middle; None where there is none.

    In each sagittal slice the line runs between the posterior walls of the vertebrae above and below, each the rearmost place
    of the mask's half next to the disc.
    """
    view = orient(mask)
    labels = np.rint(view.voxels).astype(np.int16)
    disc, below, above = FIRST_DISC + ivd_label - 1, ivd_label - 1, ivd_label
    columns = np.argwhere(labels == CANAL)
    if not len(columns):
        return None
    middle = float(np.median(columns[:, 0]))
    best: Protrusion | None = None
    for k in range(labels.shape[0]):
        if abs(k - middle) * view.spacing[0] > lateral_mm:
            continue
        found = _in_slice(labels[k], disc, (above, below), view.spacing)
        if found is not None and (best is None or found[0] > best.depth_mm):
            depth, canal, row, column = found
            best = Protrusion(depth, canal, view.to_patient((float(k), row, column)))
    return best if best is not None and best.depth_mm >= LEAST_MM else None


def _in_slice(
    labels: NDArray[np.int16], disc: int, neighbours: tuple[int, int], spacing: tuple[float, float, float]
) -> tuple[float, float, float, float] | None:
    """(depth mm, canal left mm, row and column of the bump's base) in one slice (row, column)."""
    rows, columns = np.nonzero(labels == disc)
    if not len(rows):
        return None
    walls = [_wall(labels == label, float(rows.mean())) for label in neighbours if (labels == label).any()]
    if not walls:
        return None
    # Under L5 lies the sacrum, which SPIDER does not label: the wall above is then carried down.
    (r0, c0), (r1, c1) = walls[0], walls[-1]
    slope = (c1 - c0) / (r1 - r0) if r1 != r0 else 0.0
    behind = (columns - (c0 + slope * (rows - r0))) * spacing[2]
    at = int(np.argmax(behind))
    row, depth = int(rows[at]), float(behind[at])
    canal = float((labels[row] == CANAL).sum()) * spacing[2]
    return depth, canal, float(row), float(columns[at] - depth / spacing[2])


def _wall(vertebra: NDArray[np.bool_], disc_row: float) -> tuple[float, float]:
    """(row, column) of the rearmost place of a vertebra, in the half of it that is nearer the disc."""
    rows, columns = np.nonzero(vertebra)
    near = np.abs(rows - disc_row) <= np.median(np.abs(rows - disc_row))
    at = int(np.argmax(columns[near]))
    return float(rows[near][at]), float(columns[near][at])
