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
    Signals,
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
from spinepaint.training.phantom.headers import Protocol, header_draws
from spinepaint.training.phantom.morphometry import Morphometry, measure
from spinepaint.training.phantom.pathology import Lesion, sample_lesions
from spinepaint.training.phantom.posterior import paint_facets, paint_posterior
from spinepaint.training.phantom.relaxation import t1_signals
from spinepaint.training.phantom.schmorl import SchmorlNode, node_centre, paint_nodes, sample_nodes
from spinepaint.training.phantom.surroundings import Place, surroundings
from spinepaint.training.phantom.tissues import FSU_UPPER, L1, S1, Weighting

Point = tuple[float, float, float]
SUB_SLICES = 2
STILL_MM = 5.0  # in front of the spine, so that no lesion is among what breathing moves


@dataclass(frozen=True)
class Phantom:
    """A synthetic sagittal volume, T2 or T1, with its truth.

    Attributes
    ----------
    voxels: float32 (slice, row, column), whole numbers from 0 to 4095.
    clean: the same before noise, gain, motion and blur, where the coil's sensitivity is 1: CSF = 1 in T2, fat = 0.9 in T1.
    affine: 4x4, (slice, row, column, 1) to patient LPS mm, as in `imaging.volume.Volume`.
    labels: uint8, same shape, values of `Tissue` in the middle of each slice's right half.
    levels: uint8, place in VERTEBRAE + 1 of a vertebra; a disc has its upper vertebra's, a Schmorl node that of the vertebra it
        lies in; 0 elsewhere.
    disc_centres_lps_mm: by FSU, for discs in the field of view.
    landmarks_lps_mm: by FSU, the lesion's landmark; for a healthy disc its posterior margin in the middle.
    candidate_landmarks_lps_mm: by FSU and pathology, a point where that pathology is or could be.
    conditions: by FSU, (pathology, severity), or None where it is healthy.
    degrees: by FSU, the lesion's degree, 0 to 1; only where there is one.
    pfirrmann: by FSU, the disc's grade, 1 to 5; a lesion darkens its disc beyond that.
    morphometry: by FSU, the truth in mm.
    lesions: by FSU, how the lesion was made: position, extent, migration, and what disc, flavum and facets add.
    schmorl_nodes: with each, a point within it, patient LPS mm; only those in the field of view.
    protocol: the scanner protocol that `seed` draws; T1 signals are those of its times.
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
    pfirrmann: dict[str, int]
    morphometry: dict[str, Morphometry]
    lesions: dict[str, Lesion]
    schmorl_nodes: tuple[tuple[SchmorlNode, Point], ...]
    acquisition: Acquisition
    protocol: Protocol
    weighting: Weighting

    @property
    def spacing(self) -> tuple[float, float, float]:
        """mm between voxel centres along (slice, row, column)."""
        s, r, c = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(s), float(r), float(c)


def make_phantom(
    seed: int, pathologies: Mapping[str, tuple[str, str]] | None = None, *, weighting: str = "T2", **options: Any
) -> Phantom:
    """Make the phantom of `seed`, with the given pathologies.

    Parameters
    ----------
    seed: the same seed gives the same anatomy, appearance, grid, motion and noise whatever the pathologies.
    pathologies: FSU name to (pathology, severity), in the vocabulary's words; empty for a healthy spine.
    weighting: T2 or T1; of one seed both show the same spine on the same grid, with motion and noise of their own.
    options: fields of `Acquisition` to set instead of drawing them (pixel_mm, matrix, slices, noise, ...).

    Raises
    ------
    ValueError for an unknown FSU, pathology, severity or weighting; TypeError for an unknown option.
    """
    anatomy = sample_anatomy(seed)
    contrast = Weighting(weighting)
    acquisition = replace(sample_acquisition(seed, contrast), **options)
    protocol, _ = header_draws(seed, contrast)
    lesions = sample_lesions(seed, anatomy, pathologies)
    line = centreline(anatomy)
    nodes = sample_nodes(seed, anatomy)
    spine = Spine(anatomy, lesions, nodes, line)
    clean, labels, levels, frame, moving = _render(seed, spine, acquisition, _signals(seed, contrast, protocol))
    places = _places(anatomy, acquisition, lesions, line, frame)
    named = {name: lesion for lesion in lesions for name, level in FSU_UPPER.items() if level == lesion.level}
    visible = [name for name in FSU_UPPER if name in places]
    return Phantom(
        seed=seed,
        voxels=acquire(acquisition, clean, moving, seed, contrast),
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
        pfirrmann={name: int(anatomy.pfirrmann[FSU_UPPER[Fsu(name)]]) for name in visible},
        morphometry={name: measure(anatomy, line, lesions, FSU_UPPER[Fsu(name)]) for name in visible},
        lesions={name: named[name] for name in visible if name in named},
        schmorl_nodes=tuple((node, point) for node in nodes if (point := _node_point(spine, node, frame)) is not None),
        acquisition=acquisition,
        protocol=protocol,
        weighting=contrast,
    )


def _signals(seed: int, weighting: Weighting, protocol: Protocol) -> Signals:
    signals = sample_signals(seed)
    if weighting is Weighting.T2:
        return signals
    tr, te = protocol.repetition_time_ms, protocol.echo_time_ms
    return t1_signals(signals, seed, repetition_time_ms=tr, echo_time_ms=te, field_t=protocol.field_t)


@dataclass(frozen=True)
class Spine:
    """What is drawn."""

    anatomy: Anatomy
    lesions: tuple[Lesion, ...]
    nodes: tuple[SchmorlNode, ...]
    line: Centreline


@dataclass(frozen=True)
class Frame:
    """Image axes: y, z of each pixel and x of each slice in mm in the spine's frame, and the patient affine."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    z: NDArray[np.float64]
    affine: NDArray[np.float64]
    rotation: NDArray[np.float64]

    def holds(self, y: float, z: float) -> bool:
        """Whether a point of the image plane lies well inside the field of view."""
        return bool(self.z.min() + 4 < z < self.z.max() - 4 and self.y.min() + 20 < y < self.y.max() - 20)

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
    seed: int, spine: Spine, acquisition: Acquisition, signals: Signals
) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.uint8], Frame, NDArray[np.float32]]:
    """Clean signals, labels and levels on the image grid; the grid; and (rows, columns) what breathing moves, 0 to 1."""
    anatomy, lesions, line = spine.anatomy, spine.lesions, spine.line
    frame = _frame(anatomy, acquisition, line)
    s, d = straighten(line, frame.y, frame.z)
    canvas = _canvas(anatomy, acquisition, frame)
    x_canvas, s_canvas = canvas.x.astype(np.float64), canvas.s.astype(np.float64)
    surfaces = canal_surfaces(anatomy, lesions, x_canvas, s_canvas)
    healthy = canal_surfaces(anatomy, (), x_canvas, s_canvas)
    paint_epidural(canvas, anatomy, surfaces, healthy, signals)
    paint_discs(canvas, anatomy, line, lesions, signals, seed)
    paint_posterior(canvas, anatomy, healthy, signals, seed)
    paint_facets(canvas, anatomy, lesions, healthy, signals)
    paint_bodies(canvas, anatomy, line, lesions, signals, seed)
    paint_nodes(canvas, anatomy, line, lesions, spine.nodes, signals)
    paint_disc_material(canvas, anatomy, lesions, surfaces, signals)
    paint_sac(canvas, anatomy, lesions, surfaces, healthy, signals, seed)
    warp = make_warp(canvas, s, d)
    signal, cover = canvas.average(SUB_SLICES)
    x = (frame.x[:, None, None] - anatomy.lateral_shift(s.astype(np.float64))[None]).astype(np.float32)
    along = np.arange(anatomy.disc_s[0], anatomy.disc_s[-1], 0.25)
    ahead = -(d + np.interp(s, along, anatomy.depth_at(along)).astype(np.float32))
    place = Place(x, s, d, ahead, frame.y, frame.z, acquisition.pixel_mm)
    around, around_labels = surroundings(anatomy, line, signals, place, seed)
    clean = warp.linear(signal) + (1 - warp.linear(cover)) * around
    coil = coil_field(acquisition, d.astype(np.float64), frame.z, -d.astype(np.float64))
    middle = slice(SUB_SLICES // 2, None, SUB_SLICES)
    labels = warp.labels(canvas.labels[middle])
    np.copyto(labels, around_labels, where=labels == 0)
    moving = np.clip((ahead - np.float32(STILL_MM)) / np.float32(25.0), 0, 1)
    return clean * coil, labels, warp.labels(canvas.levels[middle]), frame, moving


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
        if frame.holds(*points["centre"][1:]):
            out[name] = {key: frame.to_patient(point) for key, point in points.items()}
    return out


def _node_point(spine: Spine, node: SchmorlNode, frame: Frame) -> Point | None:
    """A point within a Schmorl node, patient LPS mm; None where it lies outside the field of view."""
    x, s, d = node_centre(spine.anatomy, spine.line, spine.lesions, node)
    y, z = spine.line.point(s, d)
    shift = float(spine.anatomy.lateral_shift(np.array(s)))
    return frame.to_patient((shift + x, y, z)) if frame.holds(y, z) else None
