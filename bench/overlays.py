"""What the segmenter finds on real images, to look at: `python -m bench.overlays data/spider_mid_sagittal segmentation.png`.

The mid-sagittal slices of SPIDER's held-out patients (van der Graaf et al. 2024, CC BY 4.0) that have boxes, every one in the
order of their names, none chosen by its looks; or `--series`: the middle slices of the DICOM series in a folder's folders. Above,
the borders of vertebrae (blue), discs (red) and canal (green) by the diffusion ensemble; below, its uncertainty. Prints of each
series whether the canal is one piece on the slice, and how many discs there are.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.ndimage import binary_erosion, label, zoom

from spinepaint.imaging.orient import orient
from spinepaint.imaging.reading import read_series
from spinepaint.imaging.segment_objects import MOST_UNCERTAIN
from spinepaint.models.segmentation import STRUCTURES, Segmentation, Segmenters, segment
from spinepaint.training.localiser_scenes import SCENE_MM, read_scenes
from spinepaint.training.segmenter_run import read_segmenter

PIXELS_PER_MM = 2
WINDOW_MM = (260, 130)  # down, across
_COLOURS = {"vertebrae": (70, 130, 255), "discs": (255, 80, 80), "canal": (60, 255, 110)}
_LEAST_DISC_MM2 = 40.0


@dataclass(frozen=True)
class Shown:
    """A series: its name, voxels (slice, row, column) with the head up and the body's front at column 0, spacing in mm."""

    name: str
    voxels: NDArray[np.float32]
    spacing_mm: tuple[float, float, float]


def spider(folder: Path) -> Iterator[Shown]:
    """Held-out slices, each a series of one."""
    for scene in read_scenes(folder)[1]:
        yield Shown(scene.name, scene.image[None], (4.0, SCENE_MM, SCENE_MM))


def dicom(folder: Path) -> Iterator[Shown]:
    """The series in a folder's folders."""
    for path in sorted(child for child in folder.iterdir() if child.is_dir()):
        view = orient(read_series(path).volume)
        yield Shown(path.name, view.voxels, view.spacing)


def drawn(shown: Shown, found: Segmentation) -> tuple[Image.Image, str]:
    """One series' picture, and what can be counted on it."""
    k = int((found.labels == STRUCTURES.index("canal") + 1).sum(axis=(1, 2)).argmax())
    image, labels = shown.voxels[k], found.labels[k]
    grey = np.clip(image / max(float(np.percentile(image, 99.5)), 1e-6), 0, 1) ** 0.8
    factor = [PIXELS_PER_MM * mm for mm in shown.spacing_mm[1:]]
    large = np.repeat((255 * zoom(grey, factor, order=1))[..., None], 3, axis=2)
    doubt = np.clip(zoom(found.uncertainty[k], factor, order=1) / MOST_UNCERTAIN, 0, 1)[..., None]
    below = 0.6 * large * (1 - doubt) + doubt * np.array([255.0, 220.0, 60.0])
    for place, name in enumerate(STRUCTURES, start=1):
        mask = zoom((labels == place).astype(np.float32), factor, order=1) > 0.5
        large[mask & ~binary_erosion(mask)] = _COLOURS[name]
    spine = np.argwhere(zoom((labels > 0).astype(np.float32), factor, order=0) > 0)
    size = [PIXELS_PER_MM * mm for mm in WINDOW_MM]
    middle = spine.mean(axis=0) if len(spine) else np.array(large.shape[:2]) / 2
    top, left = (int(np.clip(m - s / 2, 0, max(n - s, 0))) for m, s, n in zip(middle, size, large.shape[:2], strict=True))
    sheet = Image.new("RGB", (size[1], 2 * size[0] + 20))
    for number, panel in enumerate((large, below)):
        part = panel[top : top + size[0], left : left + size[1]]
        sheet.paste(Image.fromarray(np.clip(part, 0, 255).astype(np.uint8)), (0, 20 + number * size[0]))
    ImageDraw.Draw(sheet).text((4, 4), shown.name, fill=(255, 255, 255))
    discs, count = label(labels == STRUCTURES.index("discs") + 1)
    areas = np.bincount(discs.ravel(), minlength=count + 1)[1:] * shown.spacing_mm[1] * shown.spacing_mm[2]
    canal = label(labels == STRUCTURES.index("canal") + 1)[0]
    pieces = np.bincount(canal.ravel())[1:]
    main = float(pieces.max() / pieces.sum()) if len(pieces) else 0.0
    return sheet, f"{shown.name:<16} largest piece of the canal {main:6.1%}   discs {int((areas >= _LEAST_DISC_MM2).sum()):>2}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--series", action="store_true", help="the folder holds folders of DICOM files")
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--model", type=Path, default=Path("spinepaint/bundles/lite"), help="a bundle or a run with a segmenter")
    asked = parser.parse_args()
    models: Segmenters = read_segmenter(asked.model)
    pictures = []
    for number, shown in enumerate((dicom if asked.series else spider)(asked.folder)):
        if number == asked.count:
            break
        picture, line = drawn(shown, segment(models, shown.voxels, shown.spacing_mm))
        print(line)
        pictures.append(picture)
    sheet = Image.new("RGB", (sum(p.width + 4 for p in pictures), max(p.height for p in pictures)))
    for number, picture in enumerate(pictures):
        sheet.paste(picture, (number * (picture.width + 4), 0))
    sheet.save(asked.picture)


if __name__ == "__main__":
    main()
