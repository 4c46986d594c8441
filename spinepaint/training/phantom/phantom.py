"""One synthetic lumbar examination from one seed: anatomy, lesions, appearance, grid, truth."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from spinepaint.imaging.vocabulary import Fsu, Pathology, Severity
from spinepaint.training.phantom.anatomy import Anatomy, sample_anatomy
from spinepaint.training.phantom.bones import paint_bodies, paint_discs
from spinepaint.training.phantom.canal import (
    canal_surfaces,
    paint_disc_material,
    paint_epidural,
    paint_sac,
)
from spinepaint.training.phantom.contrast import (
    Acquisition,
    acquire,
    coil_field,
    sample_acquisition,
    sample_signals,
)
from spinepaint.training.phantom.geometry import (
    D_BACK_MM,
    D_FRONT_MM,
    Canvas,
    Centreline,
    centreline,
    make_warp,
    straighten,
)
from spinepaint.training.phantom.morphometry import Morphometry, measure
from spinepaint.training.phantom.pathology import Lesion, sample_lesions
from spinepaint.training.phantom.posterior import paint_posterior
from spinepaint.training.phantom.surroundings import Place, surroundings
from spinepaint.training.phantom.tissues import FSU_UPPER, L1, S1

Point = tuple[float, float, float]
SUB_SLICES = 2


@dataclass(frozen=True)
class Phantom:
    """A synthetic sagittal T2 volume with its truth.

    Attributes
    ----------
    voxels: float32 (slice, row, column), whole numbers from 0 to 4095.
    clean: the same before noise, gain and blur, CSF = 1 where the coil's sensitivity is 1.
    affine: 4x4, (slice, row, column, 1) to patient LPS mm, as in `imaging.volume.Volume`.
    labels: uint8, same shape, values of `Tissue`. levels: uint8, place in VERTEBRAE + 1 of a vertebra; a disc has its upper
        vertebra's; 0 elsewhere.
    disc_centres_lps_mm: by FSU, for discs in the field of view.
    landmarks_lps_mm: by FSU, the lesion's landmark; for a healthy disc its posterior margin in the middle.
    candidate_landmarks_lps_mm: by FSU and pathology, a point where that pathology is or could be.
    conditions: by FSU, (pathology, severity), or None where it is healthy.
    degrees: by FSU, the lesion's degree, 0 to 1; only where there is one.
    morphometry: by FSU, the truth in mm.
    """

    seed: int
    voxels: NDArray[np.float32]
    clean: NDArray[np.float32]
    affine: NDArray[np.float64]
    labels: NDArray[np.uint8]
    levels: NDArray[np.uint8]
    disc_centres_lps_mm: dict[str, Point]
    landmarks_lps_mm: dict[str, Point]
    candidate_landmarks_lps_mm: dict[tuple[str, str], Point]
    conditions: dict[str, tuple[Pathology, Severity] | None]
    degrees: dict[str, float]
    morphometry: dict[str, Morphometry]
    acquisition: Acquisition

    @property
    def spacing(self) -> tuple[float, float, float]:
        """mm between voxel centres along (slice, row, column)."""
        s, r, c = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(s), float(r), float(c)


def make_phantom(seed: int, pathologies: Mapping[str, tuple[str, str]] | None = None, **options: Any) -> Phantom:
    """Make the phantom of `seed`, with the given pathologies.

    Parameters
    ----------
    seed: the same seed gives the same anatomy, appearance, grid and noise whatever the pathologies.
    pathologies: FSU name to (pathology, severity), in the vocabulary's words; empty for a healthy spine.
    options: fields of `Acquisition` to set instead of drawing them (pixel_mm, matrix, slices, noise, ...).

    Raises
    ------
    ValueError for an unknown FSU, pathology or severity; TypeError for an unknown option.
    """
    anatomy = sample_anatomy(seed)
    acquisition = replace(sample_acquisition(seed), **options)
    lesions = sample_lesions(seed, anatomy, pathologies)
    line = centreline(anatomy)
    clean, labels, levels, frame = _render(seed, anatomy, acquisition, lesions, line)
    places = _places(anatomy, acquisition, lesions, line, frame)
    named = {name: lesion for lesion in lesions for name, level in FSU_UPPER.items() if level == lesion.level}
    visible = [name for name in FSU_UPPER if name in places]
    return Phantom(
        seed=seed,
        voxels=acquire(acquisition, clean, seed),
        clean=clean,
        affine=frame.affine,
        labels=labels,
        levels=levels,
        disc_centres_lps_mm={name: places[name]["centre"] for name in visible},
        landmarks_lps_mm={
            name: places[name][named[name].pathology if name in named else Pathology.DISC_HERNIATION] for name in visible
        },
        candidate_landmarks_lps_mm={(name, p.value): places[name][p] for name in visible for p in Pathology},
        conditions={name: (named[name].pathology, named[name].severity) if name in named else None for name in visible},
        degrees={name: named[name].degree for name in visible if name in named},
        morphometry={name: measure(anatomy, line, lesions, FSU_UPPER[Fsu(name)]) for name in visible},
        acquisition=acquisition,
    )


@dataclass(frozen=True)
class Frame:
    """Image axes: y, z of each pixel and x of each slice in mm in the spine's frame, and the patient affine."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    z: NDArray[np.float64]
    affine: NDArray[np.float64]
    rotation: NDArray[np.float64]

    def to_patient(self, point: Point) -> Point:
        """Patient LPS mm of a point (x, y, z) of the spine's frame."""
        a, b, c = self.rotation @ np.asarray(point)
        return float(a), float(b), float(c)


def _frame(anatomy: Anatomy, acquisition: Acquisition, line: Centreline) -> Frame:
    """The grid about the middle between L1 and S1; slices run from left to right, along the image's normal."""
    a = acquisition
    middle = float(np.mean(np.interp(anatomy.body_s[[L1, S1]], line.s, line.z)))
    x = np.asarray(a.offset_mm[0] - (np.arange(a.slices) - (a.slices - 1) / 2) * a.spacing_mm, np.float64)
    half = (a.matrix - 1) / 2 * a.pixel_mm
    y0 = float(np.interp(middle, line.z[::-1], line.y[::-1])) - a.offset_mm[1] * a.matrix * a.pixel_mm / 300.0
    y = y0 + np.arange(a.matrix) * a.pixel_mm - half
    z = middle + a.offset_mm[2] + half - np.arange(a.matrix) * a.pixel_mm
    rotation = Rotation.from_euler("xyz", a.oblique_deg, degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, 0] = rotation @ [-a.spacing_mm, 0, 0]
    affine[:3, 1] = rotation @ [0, 0, -a.pixel_mm]
    affine[:3, 2] = rotation @ [0, a.pixel_mm, 0]
    affine[:3, 3] = rotation @ [x[0], y[0], z[0]]
    yy, zz = np.meshgrid(y, z)
    return Frame(x, yy, zz, affine, rotation)


def _render(
    seed: int, anatomy: Anatomy, acquisition: Acquisition, lesions: tuple[Lesion, ...], line: Centreline
) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.uint8], Frame]:
    """Clean signals, labels and levels on the image grid."""
    frame = _frame(anatomy, acquisition, line)
    signals = sample_signals(seed)
    s, d = straighten(line, frame.y, frame.z)
    canvas = _canvas(anatomy, acquisition, frame)
    x_canvas, s_canvas = canvas.x.astype(np.float64), canvas.s.astype(np.float64)
    surfaces = canal_surfaces(anatomy, lesions, x_canvas, s_canvas)
    healthy = canal_surfaces(anatomy, (), x_canvas, s_canvas)
    paint_epidural(canvas, anatomy, surfaces, healthy, signals)
    paint_discs(canvas, anatomy, line, lesions, signals, seed)
    paint_posterior(canvas, anatomy, healthy, signals, seed)
    paint_bodies(canvas, anatomy, line, lesions, signals, seed)
    paint_disc_material(canvas, anatomy, lesions, surfaces, signals)
    paint_sac(canvas, anatomy, lesions, surfaces, healthy, signals, seed)
    warp = make_warp(canvas, s, d)
    signal, cover = canvas.average(SUB_SLICES)
    x = (frame.x[:, None, None] - anatomy.lateral_shift(s.astype(np.float64))[None]).astype(np.float32)
    place = Place(x, s, d, frame.y, frame.z, acquisition.pixel_mm)
    around, around_labels = surroundings(anatomy, line, signals, place, seed)
    clean = warp.linear(signal) + (1 - warp.linear(cover)) * around
    coil = coil_field(acquisition, d.astype(np.float64), frame.z, -d.astype(np.float64))
    middle = slice(SUB_SLICES // 2, None, SUB_SLICES)
    labels = warp.labels(canvas.labels[middle])
    return clean * coil, np.where(labels == 0, around_labels, labels), warp.labels(canvas.levels[middle]), frame


def _canvas(anatomy: Anatomy, acquisition: Acquisition, frame: Frame) -> Canvas:
    step = min(0.6, 0.9 * acquisition.pixel_mm)
    s = np.arange(0.0, anatomy.disc_s[-1] + 8.0, step)
    d = np.arange(D_FRONT_MM, D_BACK_MM, step)
    offsets = ((np.arange(SUB_SLICES) + 0.5) / SUB_SLICES - 0.5) * acquisition.thickness_mm
    x = (frame.x[:, None] - offsets[None]).ravel()
    lateral = x[:, None] - anatomy.lateral_shift(s)[None]
    return Canvas(lateral.astype(np.float32), s.astype(np.float32), d.astype(np.float32))


def _places(
    anatomy: Anatomy,
    acquisition: Acquisition,
    lesions: tuple[Lesion, ...],
    line: Centreline,
    frame: Frame,
) -> dict[str, dict[str, Point]]:
    """Disc centre and the landmark of each pathology, patient LPS, for each FSU in the field of view."""
    out = {}
    for name, level in FSU_UPPER.items():
        s = float(anatomy.disc_s[level])
        lesion = next((item for item in lesions if item.level == level), None)
        shift = float(anatomy.lateral_shift(np.array(s)))
        depth = float(anatomy.plate_depth[level])
        profile = canal_surfaces(anatomy, (), np.zeros((1, 1)), np.array([s]))
        canal = float(0.5 * (profile.front[0, 0] + profile.back[0, 0]))
        protrusion = lesion.protrusion_mm if lesion else 0.0
        spots = {
            "centre": (0.0, -0.5 * depth),
            Pathology.DISC_HERNIATION.value: (
                lesion.x_mm if lesion else 0.0,
                0.5 * protrusion,
            ),
            Pathology.CENTRAL_CANAL_STENOSIS.value: (0.0, canal),
        }
        points = {key: (shift + x, *line.point(s, d)) for key, (x, d) in spots.items()}
        _, y, z = points["centre"]
        if frame.z.min() + 4 < z < frame.z.max() - 4 and frame.y.min() + 20 < y < frame.y.max() - 20:
            out[name] = {key: frame.to_patient(point) for key, point in points.items()}
    return out
