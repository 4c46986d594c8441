"""Real mid-sagittal T2 slices of the SPIDER data set, their disc boxes and their grades.

SPIDER: van der Graaf et al. 2024, "Lumbar spine segmentation in MR images: a dataset and a public
benchmark", CC BY 4.0. The folder holds `slices/*.png`, `overview.csv` (header values) and
`disc_boxes.json` (boxes of the discs, bottom to top, with the radiologists' grades where they fit).
"""

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

FSU_OF_IVD_LABEL = {1: "L5-S1", 2: "L4-L5", 3: "L3-L4", 4: "L2-L3", 5: "L1-L2"}


@dataclass(frozen=True)
class DiscBox:
    """A disc's box in pixels of its slice: (row, column) centre, (rows, columns) size, and grades by name."""

    ivd_label: int
    centre: tuple[float, float]
    size: tuple[float, float]
    grades: dict[str, int]

    @property
    def fsu(self) -> str | None:
        """The FSU's name, or None above L1-L2."""
        return FSU_OF_IVD_LABEL.get(self.ivd_label)


@dataclass(frozen=True)
class SpiderSlice:
    """A slice: float32 (row, column) grey values 0–255, head up and anterior to the left, and its spacing in mm."""

    name: str
    patient: int
    image: NDArray[np.float32]
    spacing: tuple[float, float]
    discs: tuple[DiscBox, ...]


def _pair(text: str) -> tuple[float, float]:
    # The column holds a Python list such as "[.46875, .46875]", which JSON does not accept.
    row, column = (float(number) for number in text.strip("[]").split(","))
    return row, column


def _spacings(folder: Path) -> dict[str, tuple[float, float]]:
    with (folder / "overview.csv").open(newline="") as rows:
        return {row["new_file_name"]: _pair(row["PixelSpacing"]) for row in csv.DictReader(rows) if row["PixelSpacing"]}


def _boxes(folder: Path) -> dict[str, tuple[DiscBox, ...]]:
    boxes = {}
    for entry in json.loads((folder / "disc_boxes.json").read_text()):
        boxes[entry["series"]] = tuple(
            DiscBox(
                ivd_label=int(box["ivd_label"]),
                centre=(box["y"] + box["h"] / 2, box["x"] + box["w"] / 2),
                size=(box["h"], box["w"]),
                grades={name: int(value) for name, value in (box.get("grades") or {}).items() if str(value).isdigit()},
            )
            for box in entry["boxes_bottom_to_top"]
        )
    return boxes


def read_slices(folder: Path) -> Iterator[SpiderSlice]:
    """Every T2 slice in `folder`, by name, with its disc boxes (empty where none were drawn).

    Raises FileNotFoundError where the folder is not such a folder.
    """
    spacings, boxes = _spacings(folder), _boxes(folder)
    for path in sorted((folder / "slices").glob("*_t2*.png")):
        name = path.stem
        if name in spacings:
            image = np.asarray(Image.open(path).convert("L"), dtype=np.float32)
            patient = int(re.match(r"\d+", name).group())  # type: ignore[union-attr]
            yield SpiderSlice(name, patient, image, spacings[name], boxes.get(name, ()))


def is_held_out(patient: int, *, one_in: int = 8) -> bool:
    """Whether a patient belongs to the validation split: by patient number, so that no patient is in both."""
    return patient % one_in == 0
