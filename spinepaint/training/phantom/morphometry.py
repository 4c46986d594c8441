"""Measures of one level: from the phantom's exact geometry, and from the intensities of a volume."""

from dataclasses import dataclass

import numpy as np

from spinepaint.training.phantom.anatomy import Anatomy
from spinepaint.training.phantom.bones import end_plates
from spinepaint.training.phantom.canal import canal_surfaces
from spinepaint.training.phantom.geometry import Centreline
from spinepaint.training.phantom.pathology import Lesion

FINE_MM = 0.25


@dataclass(frozen=True)
class Morphometry:
    """Truth at one disc.

    canal_ap_mm: depth of the dural sac (what CSF and roots fill), least over the disc's height, mean over the middle 6 mm.
    csf_area_mm2: axial area of the sac at the disc.
    protrusion_mm: furthest disc material behind the line of the posterior vertebral corners.
    bony_canal_ap_mm: from that line to the flavum, midline, at the disc.
    disc_height_mm: between end plates in the middle of the disc.
    """

    canal_ap_mm: float
    csf_area_mm2: float
    protrusion_mm: float
    bony_canal_ap_mm: float
    disc_height_mm: float


def measure(
    anatomy: Anatomy, line: Centreline, lesions: tuple[Lesion, ...], level: int
) -> Morphometry:
    """Measure the disc under vertebra `level` on a 0.25 mm grid of the exact geometry."""
    half = 0.5 * anatomy.disc_height[level]
    s = anatomy.disc_s[level] + np.arange(-half - 6.0, half + 6.0, FINE_MM)
    x = np.arange(-16.0, 16.01, FINE_MM)
    fields = canal_surfaces(
        anatomy, lesions, np.broadcast_to(x[:, None], (x.size, s.size)), s
    )
    depth = np.clip(fields.back - fields.front, 0.0, None) * (
        np.abs(x)[:, None] <= fields.half_width
    )
    at_disc = np.abs(s - anatomy.disc_s[level]) <= 0.5 * half
    middle = np.abs(x) <= 3.0
    area = depth.sum(axis=0) * FINE_MM
    centre = int(np.argmin(np.abs(s - anatomy.disc_s[level])))
    zero = np.zeros((1, 1, 1), np.float32)
    d = np.full((1, 1, 1), -0.5 * anatomy.body_depth[level], np.float32)
    lower = end_plates(anatomy, line, lesions, level, zero, d)[1]
    upper = end_plates(anatomy, line, lesions, level + 1, zero, d)[0]
    stretch = 1 - float(line.curvature(np.array([anatomy.disc_s[level]]))[0]) * float(
        d[0, 0, 0]
    )
    return Morphometry(
        canal_ap_mm=float(depth[middle][:, at_disc].mean(axis=0).min()),
        csf_area_mm2=float(area[at_disc].min()),
        protrusion_mm=float(max(fields.disc.max(), 0.0)),
        bony_canal_ap_mm=float(fields.rear[x.size // 2, centre]),
        disc_height_mm=float((upper - lower)[0, 0, 0] * stretch),
    )
