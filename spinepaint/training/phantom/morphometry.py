"""Measures of one level: from the phantom's exact geometry, and from the intensities of a volume."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, map_coordinates

from spinepaint.training.phantom.anatomy import Anatomy
from spinepaint.training.phantom.bones import end_plates
from spinepaint.training.phantom.canal import canal_surfaces
from spinepaint.training.phantom.geometry import Centreline
from spinepaint.training.phantom.pathology import Lesion

FINE_MM = 0.25
MIDDLE_MM = 4.0
CANAL_MM = 24.5  # about how far the middle of an adult's canal lies behind that of the disc
BACK_LEVELS = (0.3, 0.4, 0.5, 0.6, 0.7)
DEEPEST_MM = 24.0
FLAVUM_MM = 1.5
# the patch that intensities are measured on: along the spine, and along AP from the disc's centre, in mm
ALONG_MM = np.arange(-20.0, 20.01, 0.5)
BEHIND_MM = np.arange(-4.0, 48.01, FINE_MM)

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Morphometry:
    """Truth at one disc.

    canal_ap_mm: depth of the dural sac (what CSF and roots fill), least over the disc's height, mean over the middle 6 mm.
    disc_to_flavum_mm: depth of all that is bright in T2 there: sac and epidural fat, in the same place and way.
    csf_area_mm2: axial area of the sac at the disc.
    csf_share: that area as a share of its own without the lesion; 1 where there is none.
    protrusion_mm: furthest disc material behind the line of the posterior vertebral corners.
    canal_share: that as a share of the canal's AP diameter without the lesion.
    bony_canal_ap_mm: from that line to the flavum, midline, at the disc.
    disc_height_mm: between end plates in the middle of the disc.
    """

    canal_ap_mm: float
    disc_to_flavum_mm: float
    csf_area_mm2: float
    csf_share: float
    protrusion_mm: float
    canal_share: float
    bony_canal_ap_mm: float
    disc_height_mm: float


def measure(anatomy: Anatomy, line: Centreline, lesions: tuple[Lesion, ...], level: int) -> Morphometry:
    """Measure the disc under vertebra `level` on a 0.25 mm grid of the exact geometry.

    Schmorl nodes do not count for the height.
    """
    lesions = tuple(item for item in lesions if item.level == level)
    half = 0.5 * anatomy.disc_height[level]
    s = anatomy.disc_s[level] + np.arange(-half - 6.0, half + 6.0, FINE_MM)
    x = np.arange(-16.0, 16.01, FINE_MM)
    fields = canal_surfaces(anatomy, lesions, np.broadcast_to(x[:, None], (x.size, s.size)), s)
    depth = np.clip(fields.back - fields.front, 0.0, None) * (np.abs(x)[:, None] <= fields.half_width)
    at_disc = np.abs(s - anatomy.disc_s[level]) <= 0.5 * half
    middle = np.abs(x) <= 3.0
    area = depth.sum(axis=0) * FINE_MM
    centre = int(np.argmin(np.abs(s - anatomy.disc_s[level])))
    zero = np.zeros((1, 1, 1), np.float32)
    d = np.full((1, 1, 1), -0.5 * anatomy.plate_depth[level], np.float32)
    lower = end_plates(anatomy, line, lesions, level, zero, d)[1]
    upper = end_plates(anatomy, line, lesions, level + 1, zero, d)[0]
    stretch = 1 - float(line.curvature(np.array([anatomy.disc_s[level]]))[0]) * float(d[0, 0, 0])
    csf_area, protrusion = float(area[at_disc].min()), float(max(fields.disc.max(), 0.0))
    bony = float(fields.rear[x.size // 2, centre])
    well = measure(anatomy, line, (), level) if lesions else None
    return Morphometry(
        canal_ap_mm=float(depth[middle][:, at_disc].mean(axis=0).min()),
        disc_to_flavum_mm=float((fields.rear - fields.front)[middle][:, at_disc].mean(axis=0).min()),
        csf_area_mm2=csf_area,
        csf_share=csf_area / well.csf_area_mm2 if well else 1.0,
        protrusion_mm=protrusion,
        canal_share=protrusion / (well.bony_canal_ap_mm if well else bony),
        bony_canal_ap_mm=bony,
        disc_height_mm=float((upper - lower)[0, 0, 0] * stretch),
    )


@dataclass(frozen=True)
class IntensityMeasure:
    """What `measure_intensity` finds, mm; nan where no CSF can be found.

    canal_ap_mm: depth of the bright run behind the disc, from its half-maximum to the flavum, mean over the middle slices; 0
        where none is left. It holds the sac and the fat behind it, which no threshold tells apart; its truth is
        `Morphometry.disc_to_flavum_mm`.
    protrusion_mm: how far the dark-to-bright edge at the disc lies behind the course it has along both vertebrae.
    """

    canal_ap_mm: float
    protrusion_mm: float


def measure_intensity(
    voxels: NDArray[np.float32], affine: F64, disc_centre: tuple[float, float, float], landmark: tuple[float, float, float]
) -> IntensityMeasure:
    """Measure one level on a T2 volume, before or after an edit.

    Parameters
    ----------
    voxels: (slice, row, column). affine: 4x4, to patient mm.
    disc_centre, landmark: patient mm; the landmark lies on the posterior disc margin or in the canal at disc height, and
        the line between them, projected into the slices, is taken as the antero-posterior direction.

    The canal's depth is averaged over the slices within 4 mm of the disc's centre; the protrusion is the largest of the
    slices within 6 mm of the landmark. The edge's course along the vertebrae is a parabola through the rows 8 to 20 mm above and
    below the disc, so the spine's own curve is not taken for a protrusion.
    """
    to_index = np.linalg.inv(affine)
    centre = (to_index @ np.array([*disc_centre, 1.0]))[:3]
    mark = (to_index @ np.array([*landmark, 1.0]))[:3]
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    nearest = int(np.clip(round(float(centre[0])), 0, voxels.shape[0] - 1))
    middle = [k for k in range(voxels.shape[0]) if k == nearest or abs(k - centre[0]) * spacing[0] <= MIDDLE_MM]
    near = [k for k in range(voxels.shape[0]) if abs(k - mark[0]) * spacing[0] <= max(6.0, 0.5 * spacing[0])]
    edges = {k: _edges(voxels[k], centre, mark, spacing) for k in sorted({*middle, *near})}
    widths = [w for k in middle if np.isfinite(w := _width(*edges[k]))]
    bumps = [b for k in near if np.isfinite(b := _protrusion(edges[k][0]))]
    return IntensityMeasure(float(np.mean(widths)) if widths else np.nan, float(max(bumps)) if bumps else np.nan)


def _edges(image: NDArray[np.float32], centre: F64, mark: F64, spacing: F64) -> tuple[F64, F64]:
    """Front and back edge of the bright run, mm behind the disc's centre, for each of ALONG_MM (nan where dark)."""
    axis = (mark[1:] - centre[1:]) * spacing[1:]
    axis = axis / np.linalg.norm(axis)
    down = np.array([axis[1], -axis[0]])
    place = BEHIND_MM[None, :, None] * axis + ALONG_MM[:, None, None] * down
    rows, columns = np.moveaxis(centre[1:] + place / spacing[1:], -1, 0)
    patch = gaussian_filter1d(map_coordinates(image, [rows, columns], order=1, mode="nearest"), 2.0, axis=0).astype(np.float64)
    path = _sac_path(patch)
    peak = patch[np.arange(path.size), path]
    bright = float(np.percentile(peak, 75))
    behind = (BEHIND_MM > 8.0) & (BEHIND_MM < CANAL_MM - 3.0)
    dark = float(np.percentile(patch[:, behind], 5))
    found = [_run(row, start, dark, bright - dark) for row, start in zip(patch, path, strict=True)]
    return np.array([f for f, _ in found]), np.array([b for _, b in found])


def _sac_path(patch: F64) -> NDArray[np.int64]:
    """The brightest smooth path down the canal, by dynamic programming: a column of the patch for each row."""
    window = (BEHIND_MM > 14.0) & (BEHIND_MM < 36.0)
    first = int(np.flatnonzero(window)[0])
    gain = gaussian_filter1d(patch, 4.0, axis=1)[:, window]
    # fat behind is often brighter than CSF (the coil lies there): past a level brightness counts no more, but place does
    cap = 0.8 * float(np.median(gain.max(axis=1)))
    gain = np.minimum(gain, cap) - 0.3 * cap * ((BEHIND_MM[window] - CANAL_MM) / 10.0) ** 2
    total, back = gain.copy(), np.zeros(gain.shape, np.int64)
    steps = np.arange(-2, 3)
    for i in range(1, gain.shape[0]):
        padded = np.pad(total[i - 1], 2, constant_values=-np.inf)
        options = np.stack([padded[2 + k : padded.size - 2 + k] for k in steps])
        back[i] = steps[np.argmax(options, axis=0)]
        total[i] += options.max(axis=0)
    path = np.zeros(gain.shape[0], np.int64)
    path[-1] = int(np.argmax(total[-1]))
    for i in range(gain.shape[0] - 1, 0, -1):
        path[i - 1] = path[i] + back[i, path[i]]
    return path + first


def _run(row: F64, start: int, dark: float, contrast: float) -> tuple[float, float]:
    """Front and back of the bright run about the brightest sample within 3 mm of `start`, between samples.

    The front is the half-maximum. Roots lie against the back of the sac, so its back is the first place where the signal stays
    low for `FLAVUM_MM`; how low is raised until one is found, for a flavum that a bright coil or fat beside it lifts.
    """
    lo, hi = max(start - 12, 1), min(start + 13, row.size - 1)
    start = lo + int(np.argmax(row[lo:hi]))
    threshold = dark + 0.5 * contrast
    front = np.flatnonzero(row[:start] < threshold)
    if row[start] <= threshold or front.size == 0:
        return np.nan, np.nan
    i = int(front[-1])
    f = i + (threshold - row[i]) / (row[i + 1] - row[i])
    long = round(FLAVUM_MM / FINE_MM)
    for level in BACK_LEVELS:
        low = dark + level * contrast
        under = np.convolve(row[start:] < low, np.ones(long), mode="valid") > long - 0.5
        back = start + np.flatnonzero(under)
        if back.size and (back[0] - f) * FINE_MM < DEEPEST_MM and row[back[0] - 1] > low:
            j = int(back[0])
            b = j - (low - row[j]) / (row[j - 1] - row[j])
            return BEHIND_MM[0] + f * FINE_MM, BEHIND_MM[0] + b * FINE_MM
    return BEHIND_MM[0] + f * FINE_MM, np.nan


def _width(front: F64, back: F64) -> float:
    """Lower quartile of the width at the disc's height: a row without a run counts 0, one without a back not at all."""
    at_disc = np.abs(ALONG_MM) <= 2.0
    width = np.where(np.isnan(front), 0.0, back - front)[at_disc]
    if np.isfinite(front).mean() < 0.3 or np.isnan(width).mean() > 0.5:
        return float("nan")
    return float(np.nanpercentile(width, 25))


def _protrusion(front: F64) -> float:
    """Furthest displacement of the front edge within 5 mm of the disc from the parabola through the rows beyond 8 mm."""
    away = (np.abs(ALONG_MM) >= 8.0) & np.isfinite(front)
    at_disc = (np.abs(ALONG_MM) <= 5.0) & np.isfinite(front)
    if (away & (ALONG_MM < 0)).sum() < 6 or (away & (ALONG_MM > 0)).sum() < 6 or at_disc.sum() < 3:
        return float("nan")
    course = np.polynomial.Polynomial.fit(ALONG_MM[away], front[away], 2)
    residual = front - course(ALONG_MM)
    keep = away & (np.abs(residual) <= 2.0 * np.median(np.abs(residual[away])) + 0.3)
    course = np.polynomial.Polynomial.fit(ALONG_MM[keep], front[keep], 2)
    return float((front - course(ALONG_MM))[at_disc].max())
