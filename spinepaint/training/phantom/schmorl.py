"""Schmorl nodes: disc that broke through an end plate into a vertebra. About one spine in six has one to three."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from spinepaint.training.phantom.anatomy import Anatomy
from spinepaint.training.phantom.bones import end_plates
from spinepaint.training.phantom.contrast import Signals
from spinepaint.training.phantom.geometry import Box, Canvas, Centreline
from spinepaint.training.phantom.pathology import Lesion
from spinepaint.training.phantom.tissues import L4, T12, Tissue

F32 = NDArray[np.float32]

SHARE_OF_SPINES = 0.16
PIERCED_MM = 1.3
FIRST, LAST = T12 - 1, L4


@dataclass(frozen=True)
class SchmorlNode:
    """A node of vertebra `level` (a place in VERTEBRAE), in mm.

    x_mm, d_mm: its middle on the end plate; half_width_mm (left-right), half_ap_mm and depth_mm (into the body): its
    semi-axes; content: 0 as dark as annulus, 1 as bright as the disc's nucleus; rim_mm: of dark bone around it; halo: fatty
    marrow around that, 0 for none.
    """

    level: int
    end_plate: Literal["upper", "lower"]
    x_mm: float
    d_mm: float
    half_width_mm: float
    half_ap_mm: float
    depth_mm: float
    content: float
    rim_mm: float
    halo: float


def sample_nodes(seed: int, anatomy: Anatomy) -> tuple[SchmorlNode, ...]:
    """Draw a spine's nodes from a generator of their own; most spines have none. Lesions do not change them."""
    rng = np.random.default_rng([seed, 13])
    if rng.random() >= SHARE_OF_SPINES:
        return ()
    count = min(1 + int(rng.poisson(0.7)), 3)
    levels = rng.choice(np.arange(FIRST, LAST + 1), count, replace=False)
    return tuple(_node(rng, anatomy, int(level)) for level in np.sort(levels))


def _node(rng: np.random.Generator, anatomy: Anatomy, level: int) -> SchmorlNode:
    # the weak place lies over the nucleus, a little behind the end plate's middle
    plate, width = anatomy.plate_depth[level], anatomy.plate_width[level]
    return SchmorlNode(
        level,
        "lower" if rng.random() < 0.6 else "upper",
        x_mm=float(np.clip(rng.normal(0.0, 0.12), -0.25, 0.25) * width),
        d_mm=float(-plate * np.clip(rng.normal(0.45, 0.07), 0.3, 0.62)),
        half_width_mm=float(rng.uniform(3.5, 7.5)),
        half_ap_mm=float(rng.uniform(3.0, 6.0)),
        depth_mm=float(rng.uniform(0.12, 0.28) * anatomy.body_height[level]),
        content=float(rng.uniform(0.2, 1.0)),
        rim_mm=float(rng.uniform(0.6, 1.4)),
        halo=float(rng.uniform(0.3, 0.8) * (rng.random() < 0.4)),
    )


def node_centre(anatomy: Anatomy, line: Centreline, lesions: tuple[Lesion, ...], node: SchmorlNode) -> tuple[float, float, float]:
    """(x, s, d) of a point within the node, half its depth from the end plate."""
    x, d = (np.full((1, 1, 1), value, np.float32) for value in (node.x_mm, node.d_mm))
    upper, lower = end_plates(anatomy, line, lesions, node.level, x, d)
    s = float(lower[0, 0, 0]) - 0.5 * node.depth_mm if node.end_plate == "lower" else float(upper[0, 0, 0]) + 0.5 * node.depth_mm
    return node.x_mm, s, node.d_mm


def paint_nodes(
    canvas: Canvas, anatomy: Anatomy, line: Centreline, lesions: tuple[Lesion, ...], nodes: tuple[SchmorlNode, ...],
    signals: Signals,
) -> None:  # fmt: skip
    """Lay the nodes over the bodies: fatty halo, dark rim, and disc within, open towards the disc."""
    for node in nodes:
        reach, s = 9.0, node_centre(anatomy, line, lesions, node)[1]
        box = canvas.box(
            (s - 1.5 * node.depth_mm - reach, s + 1.5 * node.depth_mm + reach),
            (node.d_mm - node.half_ap_mm - reach, node.d_mm + node.half_ap_mm + reach),
            (node.x_mm - node.half_width_mm - reach, node.x_mm + node.half_width_mm + reach),
        )
        if box is None:
            continue
        inward, distance = _distance(anatomy, line, lesions, node, box)
        in_body = canvas.alpha(-inward)
        if node.halo:
            near = np.clip(1 - (distance - np.float32(node.rim_mm)) / np.float32(5.0), 0, 1) * np.float32(node.halo)
            canvas.paint(box, near * canvas.alpha(1.5 - inward, 1.5), 0.5 * (signals.fat + signals.marrow), None)
        canvas.paint(box, canvas.alpha(distance - np.float32(node.rim_mm), 0.9) * in_body, signals.cortex, None)
        disc = node.level if node.end_plate == "lower" else node.level - 1
        nucleus = signals.nucleus[anatomy.pfirrmann[disc] - 1]
        value = signals.annulus + (nucleus - signals.annulus) * node.content
        inside = np.maximum(distance, -np.float32(PIERCED_MM) - inward)
        canvas.paint(box, canvas.alpha(inside), value, Tissue.SCHMORL_NODE, node.level + 1)


def _distance(anatomy: Anatomy, line: Centreline, lesions: tuple[Lesion, ...], node: SchmorlNode, box: Box) -> tuple[F32, F32]:
    """How far inside the body each point lies, and its signed distance from the node's ellipsoid, to first order, in mm."""
    upper, lower = end_plates(anatomy, line, lesions, node.level, box.x, box.d)
    inward = lower - box.s if node.end_plate == "lower" else box.s - upper
    halves = [np.float32(h) for h in (node.half_width_mm, node.depth_mm, node.half_ap_mm)]
    offsets = (box.x - np.float32(node.x_mm), inward, box.d - np.float32(node.d_mm))
    scaled = [o / h for o, h in zip(offsets, halves, strict=True)]
    r = np.sqrt(scaled[0] ** 2 + scaled[1] ** 2 + scaled[2] ** 2) + np.float32(1e-3)
    slopes = [(u / h) ** 2 for u, h in zip(scaled, halves, strict=True)]
    slope = np.sqrt(slopes[0] + slopes[1] + slopes[2]) / r + np.float32(1e-3)
    return inward.astype(np.float32), ((r - 1) / slope).astype(np.float32)
