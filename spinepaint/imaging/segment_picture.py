"""A picture of a segmentation: the slice that shows most of the spine, its structures, and where they are uncertain."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from spinepaint.imaging.orient import orient
from spinepaint.imaging.preview import View, sample, save_picture
from spinepaint.imaging.segment_names import CANAL, OTHER_DISCS, OTHER_VERTEBRAE, SACRUM, VALUES
from spinepaint.imaging.segment_objects import MOST_UNCERTAIN
from spinepaint.imaging.volume import Volume

_PANEL_PX, _GAP_PX, _CAPTION_PX = 560, 8, 34
_VERTEBRA_COLOURS = ((230, 110, 90), (200, 80, 130))  # neighbours differ
_DISC_COLOURS = ((90, 200, 110), (190, 200, 70))
_CANAL_COLOUR = (90, 160, 250)
_BACKGROUND, _TEXT = (16, 16, 16), (235, 235, 235)
_FILL = 0.45


def colour_table() -> NDArray[np.float64]:
    """Colour (256, 3) of each value of a label volume, 0 to 255; black where there is none."""
    table = np.zeros((256, 3))
    for name, value in VALUES.items():
        if name == CANAL:
            table[value] = _CANAL_COLOUR
        elif name == OTHER_DISCS or "-" in name:
            table[value] = _DISC_COLOURS[value % 2]
        elif name in (OTHER_VERTEBRAE, SACRUM) or name.startswith("L"):
            table[value] = _VERTEBRA_COLOURS[value % 2]
    return table


def write_overlay(
    path: Path, volume: Volume, labels: NDArray[np.uint8], uncertainty: NDArray[np.float32], *, title: str = ""
) -> None:
    """Write a PNG of one slice three times: as it is, with the structures over it, and with the uncertainty, yellow at most.

    Head up and anterior left, the same millimetres in both directions. labels (values of `segment_names.VALUES`) and
    uncertainty (nats): (slice, row, column) as `volume` has them.

    Raises ValueError where the shapes differ.
    """
    if not labels.shape == uncertainty.shape == volume.voxels.shape:
        raise ValueError(f"shapes differ: {volume.voxels.shape}, labels {labels.shape}, uncertainty {uncertainty.shape}")
    oriented = orient(volume)
    found = orient(volume.with_voxels(labels.astype(np.float32))).voxels
    doubt = orient(volume.with_voxels(uncertainty)).voxels
    k = int((found > 0).sum(axis=(1, 2)).argmax())
    spacing = oriented.spacing[1:]
    height, width = (n * mm for n, mm in zip(oriented.voxels.shape[1:], spacing, strict=True))
    side = max(height, width)
    view = View((width - side) / 2, (height - side) / 2, side, _PANEL_PX)
    low, high = np.percentile(oriented.voxels[k], (1.0, 99.5))
    seen = np.clip((sample(oriented.voxels[k], spacing, view) - low) / max(float(high - low), 1e-6), 0.0, 1.0)
    grey = 255.0 * seen[..., None].repeat(3, axis=-1)
    structures = grey.copy()
    for value, colour in enumerate(colour_table()):
        if value and (found[k] == value).any():
            cover = np.clip(sample((found[k] == value).astype(np.float32), spacing, view, 0.0), 0.0, 1.0)
            edge = 4 * cover * (1 - cover)
            share = np.maximum(_FILL * cover, edge)[..., None]
            structures = structures * (1 - share) + share * colour
    heat = np.clip(sample(doubt[k], spacing, view, 0.0) / MOST_UNCERTAIN, 0.0, 1.0)[..., None]
    doubtful = 0.6 * grey * (1 - heat) + heat * np.array([255.0, 220.0, 60.0])
    _save(path, [grey, structures, doubtful], title)


def _save(path: Path, panels: list[NDArray[np.float64]], title: str) -> None:
    width = len(panels) * (_PANEL_PX + _GAP_PX) + _GAP_PX
    sheet = Image.new("RGB", (width, _PANEL_PX + 2 * _CAPTION_PX), _BACKGROUND)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(18)
    draw.text((_GAP_PX, _CAPTION_PX / 2), title, fill=_TEXT, font=font, anchor="lm")
    for n, (panel, caption) in enumerate(zip(panels, ("Series", "Structures", "Uncertainty"), strict=True)):
        left = _GAP_PX + n * (_PANEL_PX + _GAP_PX)
        draw.text((left + _PANEL_PX / 2, 1.5 * _CAPTION_PX), caption, fill=_TEXT, font=font, anchor="mm")
        sheet.paste(Image.fromarray(np.clip(np.rint(panel), 0, 255).astype(np.uint8)), (left, 2 * _CAPTION_PX))
    save_picture(path, sheet)
