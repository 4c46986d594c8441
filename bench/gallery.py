"""Twenty-four edits of real slices, to look at: `python -m bench.gallery --real data/spider_mid_sagittal gallery.png`.

Discs of held-out SPIDER patients (van der Graaf et al. 2024, CC BY 4.0) that radiologists graded free of herniation, lifted to
pseudo-volumes and painted by the bundle's own settings; every edit is shown, none chosen by its looks. Landmarks are those found
in the slice, so the localiser's errors are not in these pictures.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from spinepaint.imaging.crop import Vector, cut
from spinepaint.imaging.vocabulary import CONDITIONS, Pathology
from spinepaint.imaging.volume import Volume
from spinepaint.models.bundle import Bundle, draw_degree
from spinepaint.training.evaluation.painting import Order, paint
from spinepaint.training.evaluation.real import RealLevels
from spinepaint.worker.bundles import loaded_bundle

ROWS = 6
WINDOW_MM = (56.0, 56.0, 4.0)
PIXELS = 160
_GAP, _HEAD = 4, 16


def in_the_sac(margin: Vector, condition: int) -> Vector:
    """The landmark of a condition: the disc's margin, or for a stenosis a point in the sac 7 mm behind it."""
    stenosis = CONDITIONS[condition][0] is Pathology.CENTRAL_CANAL_STENOSIS
    return (margin[0], margin[1] + 7.0 * stenosis, margin[2])


def tile(models: Bundle, levels: RealLevels, number: int, condition: int) -> tuple[Image.Image, str]:
    """One disc before and after, side by side, and what it shows."""
    donor = levels.clean_disc(number)
    volume, margin = levels.lifted(donor, 0)
    order = Order(condition, donor.fsu, in_the_sac(margin, condition), "weighted", number, models.config.sampling.steps)
    painted = paint(models, volume, order)
    before = window(volume, margin)
    after = window(volume.with_voxels(painted.pasted.voxels), margin)
    low, high = np.percentile(before, (1, 99.5))
    pair = np.concatenate([before, after], axis=1)
    grey = (255 * np.clip((pair - low) / (high - low), 0, 1)).astype(np.uint8)
    degree = draw_degree(models.config.sampling, condition, number)
    asked = "" if degree is None else f" {degree:.2f}"
    picture = Image.fromarray(grey).resize((2 * PIXELS, PIXELS), Image.Resampling.BICUBIC)
    return picture, f"{donor.fsu.value}  {CONDITIONS[condition][1].value.replace('_', ' ')}{asked}"


def window(volume: Volume, middle: Vector) -> NDArray[np.float32]:
    """The sagittal slice through a point, `WINDOW_MM` of it."""
    voxels = cut(volume, middle, WINDOW_MM, (PIXELS // 2, PIXELS // 2, 1)).voxels
    return np.asarray(voxels[:, :, 0], dtype=np.float32)


def gallery(models: Bundle, folder: Path) -> Image.Image:
    """A column a condition, a row a disc; no disc twice."""
    levels = RealLevels(folder, models.config.crop, held_out=True)
    count = ROWS * len(CONDITIONS)
    numbers = np.linspace(0, levels.clean - 1, count).round().astype(int)
    width, height = 2 * PIXELS + _GAP, PIXELS + _HEAD + _GAP
    sheet = Image.new("L", (len(CONDITIONS) * width, ROWS * height))
    pen = ImageDraw.Draw(sheet)
    for place, number in enumerate(numbers):
        row, condition = divmod(place, len(CONDITIONS))
        picture, words = tile(models, levels, int(number), condition)
        corner = (condition * width, row * height)
        sheet.paste(picture, (corner[0], corner[1] + _HEAD))
        pen.text((corner[0] + 2, corner[1] + 2), words, fill=255)
    return sheet


def main() -> None:
    """Paint and write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out", type=Path, help="the PNG to write")
    parser.add_argument("--real", type=Path, required=True, help="SPIDER's mid-sagittal slices")
    parser.add_argument("--bundle", type=Path, default=None)
    arguments = parser.parse_args()
    gallery(loaded_bundle(arguments.bundle), arguments.real).save(arguments.out, optimize=True)


if __name__ == "__main__":
    main()
