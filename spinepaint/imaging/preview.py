"""A picture of one edit as a radiologist looks at it: before, after and the signed difference, at the landmark's slice."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from spinepaint.imaging.orient import orient
from spinepaint.imaging.volume import Volume

CROP_MM = 120.0
PANEL_PX = 480
GAP_PX = 8
CAPTION_PX = 34
LEGEND_PX = 34
WHOLE_PX = 320

_BACKGROUND = (12, 12, 14)
_TEXT = (225, 225, 225)
_FRAME = (255, 190, 60)
_BRIGHTER = np.array([255.0, 140.0, 40.0])
_DARKER = np.array([60.0, 150.0, 255.0])
_SCALE_BAR_MM = 20.0
_RIM_PX = 2  # about letters over the image: fat is as bright as they are
_LEAST_RANGE = 0.1  # of the grey window: a smaller difference is not stretched to look like a large one


@dataclass(frozen=True)
class View:
    """A square window onto an oriented slice: its upper left corner and its side in mm, and the pixels across."""

    left_mm: float
    top_mm: float
    side_mm: float
    pixels: int

    def to_pixel(self, x_mm: float, y_mm: float) -> tuple[float, float]:
        """Where a point of the slice lies in the panel."""
        per_mm = self.pixels / self.side_mm
        return (x_mm - self.left_mm) * per_mm, (y_mm - self.top_mm) * per_mm


def write_preview(path: Path, before: Volume, after: Volume, landmark_lps_mm: tuple[float, float, float], *, title: str) -> None:
    """Write a PNG: 12 cm about the landmark before, after and their difference, and the whole slice of each below.

    Head up and anterior left, the same millimetres in both directions, the same grey window before and
    after (the 1st to the 99.5th percentile of the 12 cm before). The difference is orange where the slice
    became brighter, blue where darker, over a faint copy of the slice.

    Parameters
    ----------
    path: the PNG; its folder is made where it does not exist.
    before, after: the same sagittal series, (slice, row, column).
    landmark_lps_mm: centre of the edit, patient LPS in mm; it may lie outside the slices.
    title: drawn above; nothing else but labels and a scale is written into the picture.

    Raises
    ------
    ValueError where the volumes have different shapes.
    """
    if before.voxels.shape != after.voxels.shape:
        raise ValueError(f"shapes differ: before {before.voxels.shape}, after {after.voxels.shape}")
    oriented, painted = orient(before), orient(after)
    index, row, column = oriented.to_index(landmark_lps_mm)
    k = int(np.clip(round(index), 0, oriented.voxels.shape[0] - 1))
    old, new = oriented.voxels[k], painted.voxels[k]
    _, down_mm, across_mm = oriented.spacing
    x, y = (column + 0.5) * across_mm, (row + 0.5) * down_mm
    crop = View(x - CROP_MM / 2, y - CROP_MM / 2, CROP_MM, PANEL_PX)
    height_mm, width_mm = old.shape[0] * down_mm, old.shape[1] * across_mm
    side = max(height_mm, width_mm)
    whole = View((width_mm - side) / 2, (height_mm - side) / 2, side, WHOLE_PX)

    spacing = (down_mm, across_mm)
    low, high = (float(p) for p in np.percentile(sample(old, spacing, crop), (1.0, 99.5)))
    high = max(high, low + 1e-6)
    reach = max(
        float(np.percentile(np.abs(new - old)[old != new], 99.0)) if (old != new).any() else 0.0, _LEAST_RANGE * (high - low)
    )
    rows, floor = [], min(float(old.min()), float(new.min()))
    for view in (crop, whole):
        # One floor for both: beyond the slices there must be no difference.
        a, b = (sample(plane, spacing, view, floor) for plane in (old, new))
        grey = [(np.clip((panel - low) / (high - low), 0.0, 1.0) * 255.0)[..., None].repeat(3, -1) for panel in (a, b)]
        rows.append([_image(panel) for panel in (*grey, tint(grey[0], (b - a) / reach))])
    for panel in rows[0]:
        _mark_level(panel, crop.to_pixel(x, y)[1])
        _mark_scale(panel, crop)
    for panel in rows[1]:
        corners = (*whole.to_pixel(crop.left_mm, crop.top_mm), *whole.to_pixel(x + CROP_MM / 2, y + CROP_MM / 2))
        ImageDraw.Draw(panel).rectangle(corners, outline=_FRAME)
    save_picture(path, _sheet(rows, title, reach / (high - low)))


def sample(
    plane: NDArray[np.float32], spacing_mm: tuple[float, float], view: View, floor: float | None = None
) -> NDArray[np.float64]:
    """`plane` (row, column) seen through `view`, (pixels, pixels), bicubic; `floor` (or its least value) beyond it."""
    floor = float(plane.min()) if floor is None else floor
    step = view.side_mm / view.pixels
    down, across = spacing_mm
    affine = (step / across, 0.0, view.left_mm / across, 0.0, step / down, view.top_mm / down)
    source = Image.fromarray(np.ascontiguousarray(plane, np.float32) - np.float32(floor))
    seen = source.transform((view.pixels, view.pixels), Image.Transform.AFFINE, affine, resample=Image.Resampling.BICUBIC)
    return np.asarray(seen, np.float64) + floor


def tint(grey: NDArray[np.float64], difference: NDArray[np.float64]) -> NDArray[np.float64]:
    """Faint `grey` (row, column, 3), 0 to 255, coloured by `difference` (row, column), -1 darker to 1 brighter."""
    strength = np.clip(np.abs(difference), 0.0, 1.0)[..., None]
    colour = np.where(difference[..., None] > 0, _BRIGHTER, _DARKER)
    mixed: NDArray[np.float64] = 0.3 * grey * (1.0 - strength) + colour * strength
    return mixed


def _image(panel: NDArray[np.float64]) -> Image.Image:
    return Image.fromarray(np.clip(np.rint(panel), 0, 255).astype(np.uint8))


def _mark_level(panel: Image.Image, y: float) -> None:
    """Ticks at both edges at the height of the landmark, so that nothing covers the anatomy."""
    draw = ImageDraw.Draw(panel)
    for x0, x1 in ((0, 14), (panel.width - 15, panel.width - 1)):
        draw.line((x0, y, x1, y), fill=_FRAME, width=2)


def _mark_scale(panel: Image.Image, view: View) -> None:
    """Anterior and posterior, and a bar of 2 cm."""
    draw, font = ImageDraw.Draw(panel), ImageFont.load_default(16)
    draw.text((8, 8), "A", fill=_TEXT, font=font, stroke_width=_RIM_PX, stroke_fill=_BACKGROUND)
    draw.text((panel.width - 8, 8), "P", fill=_TEXT, font=font, anchor="ra", stroke_width=_RIM_PX, stroke_fill=_BACKGROUND)
    length = _SCALE_BAR_MM / view.side_mm * view.pixels
    x, y = 12, panel.height - 12
    draw.line((x, y, x + length, y), fill=_TEXT, width=2)
    draw.text((x + length + 6, y), "2 cm", fill=_TEXT, font=font, anchor="lm", stroke_width=_RIM_PX, stroke_fill=_BACKGROUND)


def _sheet(rows: list[list[Image.Image]], title: str, reach: float) -> Image.Image:
    """The panels on one dark sheet: title, captions, details, whole slices, and what the colours mean."""
    width = 3 * PANEL_PX + 4 * GAP_PX
    whole_top = 2 * CAPTION_PX + PANEL_PX + GAP_PX
    sheet = Image.new("RGB", (width, whole_top + WHOLE_PX + LEGEND_PX), _BACKGROUND)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(18)
    draw.text((GAP_PX, CAPTION_PX / 2), title, fill=_TEXT, font=font, anchor="lm")
    for n, caption in enumerate(("Before", "After (synthetic)", "Difference")):
        left = GAP_PX + n * (PANEL_PX + GAP_PX)
        draw.text((left + PANEL_PX / 2, 1.5 * CAPTION_PX), caption, fill=_TEXT, font=font, anchor="mm")
        sheet.paste(rows[0][n], (left, 2 * CAPTION_PX))
        sheet.paste(rows[1][n], (left + (PANEL_PX - WHOLE_PX) // 2, whole_top))
    _legend(sheet, GAP_PX + 2 * (PANEL_PX + GAP_PX), whole_top + WHOLE_PX, reach)
    return sheet


def _legend(sheet: Image.Image, left: int, top: int, reach: float) -> None:
    """A bar from darker to brighter; its ends are a share of the grey window."""
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    ramp = np.tile(np.linspace(-1.0, 1.0, 160), (10, 1))
    bar = _image(tint(np.zeros((*ramp.shape, 3)), ramp))
    x, y = left + (PANEL_PX - bar.width) // 2, top + LEGEND_PX // 2
    sheet.paste(bar, (x, y - 5))
    draw.text((x - 8, y), f"darker -{reach:.0%}", fill=_TEXT, font=font, anchor="rm")
    draw.text((x + bar.width + 8, y), f"+{reach:.0%} brighter", fill=_TEXT, font=font, anchor="lm")


def save_picture(path: Path, sheet: Image.Image) -> None:
    """Write a PNG, and the folders it needs; a kill while writing leaves no file of that name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        sheet.save(partial, format="PNG", optimize=True)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
