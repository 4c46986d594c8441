"""Curvilinear coordinates of the spine, and the straightened canvas that structures are painted on.

(s, d): `s` runs caudally along the line C(s) of the posterior vertebral walls, `d` is the distance behind
it, both in mm. With T the tangent and kappa = dphi/ds, a point is P = C(s) + d N(s), and dP/ds = T (1 - kappa d):
lordosis (kappa > 0) opens the discs in front by itself.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.spatial import KDTree

from spinepaint.training.phantom.anatomy import Anatomy
from spinepaint.training.phantom.tissues import L3, Tissue

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

D_FRONT_MM, D_BACK_MM = -52.0, 64.0
LINE_MM = 0.5
COARSE = 4


@dataclass(frozen=True)
class Centreline:
    """The line of the posterior vertebral walls in the image plane: y to the back, z upwards, mm."""

    s: F64
    y: F64
    z: F64
    phi: F64
    kappa: F64

    def curvature(self, s: F64) -> F64:
        """kappa at `s`, 1/mm."""
        return np.interp(s, self.s, self.kappa)

    def point(self, s: float, d: float) -> tuple[float, float]:
        """(y, z) of the curvilinear point (s, d)."""
        phi = float(np.interp(s, self.s, self.phi))
        y, z = float(np.interp(s, self.s, self.y)), float(np.interp(s, self.s, self.z))
        return y + d * np.cos(phi), z + d * np.sin(phi)


def centreline(anatomy: Anatomy) -> Centreline:
    """Integrate the sampled angles into a line; its origin is the middle of L3."""
    s = np.arange(-60.0, anatomy.disc_s[-1] + 60.0, LINE_MM)
    pitch = anatomy.body_height + anatomy.disc_height
    kappa = np.interp(s, anatomy.disc_s, np.deg2rad(anatomy.angle_deg) / pitch)
    kernel = np.hanning(41) / np.hanning(41).sum()
    kappa = np.convolve(np.pad(kappa, 20, mode="edge"), kernel, mode="valid")
    phi = np.cumsum(kappa) * LINE_MM
    phi += np.deg2rad(anatomy.mid_tilt_deg) - np.interp(anatomy.body_s[L3], s, phi)
    y, z = np.cumsum(np.sin(phi)) * LINE_MM, -np.cumsum(np.cos(phi)) * LINE_MM
    y -= np.interp(anatomy.body_s[L3], s, y)
    z -= np.interp(anatomy.body_s[L3], s, z)
    return Centreline(s, y, z, phi, kappa)


def straighten(line: Centreline, y: F64, z: F64) -> tuple[F32, F32]:
    """(s, d) of image-plane points (rows, columns): the nearest point of the line, refined along its tangent.

    The nearest point is searched for at every fourth pixel; between them it mostly moves smoothly, and one step brings it home.
    """
    tree = KDTree(np.stack([line.y, line.z], axis=1)[::2])
    coarse = np.stack([y[::COARSE, ::COARSE].ravel(), z[::COARSE, ::COARSE].ravel()], axis=1)
    found = np.asarray(tree.query(coarse)[1]).reshape(y[::COARSE, ::COARSE].shape) * 2.0
    near = np.rint(_upsampled(_upsampled(found, y.shape[0]).T, y.shape[1]).T).astype(np.int64)
    sin, cos = np.sin(line.phi), np.cos(line.phi)
    along, behind, stretch = _against(line, sin, cos, near, y, z)
    near = np.clip(near + np.rint(along / stretch / LINE_MM).astype(np.int64), 0, line.s.size - 1)
    along, behind, stretch = _against(line, sin, cos, near, y, z)
    # far in front of the lordosis the nearest point jumps from one end of the line to the other
    lost = np.abs(along) > stretch
    if lost.any():
        near[lost] = np.asarray(tree.query(np.stack([y[lost], z[lost]], axis=1))[1]) * 2
        along, behind, stretch = _against(line, sin, cos, near, y, z)
    return (line.s[near] + along / stretch).astype(np.float32), behind.astype(np.float32)


def _upsampled(field: F64, n: int) -> F64:
    """`field` (k, m), known at every fourth of `n` rows, linearly between them."""
    place = np.minimum(np.arange(n) / COARSE, field.shape[0] - 1)
    first = np.minimum(place.astype(np.int64), field.shape[0] - 2)
    part = (place - first)[:, None]
    return np.asarray(field[first] * (1 - part) + field[first + 1] * part)


def _against(line: Centreline, sin: F64, cos: F64, near: NDArray[np.int64], y: F64, z: F64) -> tuple[F64, F64, F64]:
    """Distance along and behind the line's tangent at its points `near`, and the stretch 1 - kappa d there."""
    dy, dz = y - line.y[near], z - line.z[near]
    along, behind = dy * sin[near] - dz * cos[near], dy * cos[near] + dz * sin[near]
    return along, behind, np.clip(1 - line.kappa[near] * behind, 0.2, None)


@dataclass(frozen=True)
class Box:
    """A part of the canvas: index ranges, and the coordinates in it shaped to broadcast to (X, S, D)."""

    index: tuple[slice, slice, slice]
    x: F32
    s: F32
    d: F32


class Canvas:
    """Straightened space (sub-slice, s, d): signal premultiplied by coverage, coverage, tissue, level.

    x: (X, S) lateral position in mm relative to the spine's middle (patient left positive).
    """

    def __init__(self, x: F32, s: F32, d: F32) -> None:
        """Make an empty canvas on lateral positions `x` (X, S) and the axes `s` and `d`, evenly spaced, in mm."""
        self.x, self.s, self.d = x, s, d
        self.step = float(s[1] - s[0])
        shape = (x.shape[0], s.size, d.size)
        self.signal = np.zeros(shape, np.float32)
        self.cover = np.zeros(shape, np.float32)
        self.labels = np.zeros(shape, np.uint8)
        self.levels = np.zeros(shape, np.uint8)

    def box(self, s: tuple[float, float], d: tuple[float, float], x: tuple[float, float]) -> Box | None:
        """The part between the given limits in mm, or None where the canvas has nothing of it."""
        i0, i1 = np.searchsorted(self.s, s)
        j0, j1 = np.searchsorted(self.d, d)
        if i0 >= i1 or j0 >= j1:
            return None
        inside = np.any((self.x[:, i0:i1] >= x[0]) & (self.x[:, i0:i1] <= x[1]), axis=1).nonzero()[0]
        if inside.size == 0:
            return None
        index = (slice(inside[0], inside[-1] + 1), slice(i0, i1), slice(j0, j1))
        return Box(
            index,
            self.x[index[0], index[1], None],
            self.s[None, index[1], None],
            self.d[None, None, index[2]],
        )

    def alpha(self, distance: F32, soft_mm: float | None = None) -> F32:
        """Coverage from a signed distance in mm (negative inside), antialiased over one step or `soft_mm`."""
        ramp = np.float32(1.0 / (soft_mm or self.step))
        return np.asarray(np.clip(np.float32(0.5) - distance * ramp, np.float32(0), np.float32(1)), np.float32)

    def paint(
        self,
        box: Box,
        alpha: F32,
        value: F32 | float,
        tissue: Tissue | None,
        level: int | None = None,
    ) -> None:
        """Lay `value` over the box with coverage `alpha`; where it covers half, the label becomes `tissue`."""
        alpha = np.broadcast_to(alpha, self.signal[box.index].shape)
        signal, cover = self.signal[box.index], self.cover[box.index]
        signal += alpha * (np.asarray(value, np.float32) - signal)
        cover += alpha * (np.float32(1) - cover)
        if tissue is not None:
            self.mark(box, alpha >= 0.5, tissue, level)

    def mark(self, box: Box, where: NDArray[np.bool_], tissue: Tissue, level: int | None = None) -> None:
        """Make `tissue` the label of a part of the box, and leave its signal."""
        where = np.broadcast_to(where, self.labels[box.index].shape)
        self.labels[box.index][where] = tissue
        self.levels[box.index][where] = 0 if level is None else level

    def average(self, n_sub: int) -> tuple[F32, F32]:
        """Partial volume: mean of signal and coverage over the sub-slices of each slice."""
        shape = (-1, n_sub, *self.signal.shape[1:])
        return self.signal.reshape(shape).mean(axis=1), self.cover.reshape(shape).mean(axis=1)


@dataclass(frozen=True)
class Warp:
    """Takes straightened planes to the image plane: linear for signals, nearest for labels."""

    inside: NDArray[np.bool_]
    matrix: csr_array
    nearest: NDArray[np.int64]

    def linear(self, planes: F32) -> F32:
        """(N, S, D) to (N, rows, columns); zero outside the canvas."""
        out = np.zeros((planes.shape[0], *self.inside.shape), np.float32)
        flat = np.ascontiguousarray(planes.reshape(planes.shape[0], -1).T)
        out[:, self.inside] = (self.matrix @ flat).T
        return out

    def labels(self, planes: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(N, S, D) to (N, rows, columns), nearest neighbour."""
        out = np.zeros((planes.shape[0], *self.inside.shape), np.uint8)
        out[:, self.inside] = planes.reshape(planes.shape[0], -1)[:, self.nearest]
        return out


def make_warp(canvas: Canvas, s: F32, d: F32) -> Warp:
    """Interpolation weights for pixels whose curvilinear coordinates are `s`, `d` (rows, columns)."""
    i = (s - canvas.s[0]) / canvas.step
    j = (d - canvas.d[0]) / canvas.step
    n_s, n_d = canvas.s.size, canvas.d.size
    inside = (i > 0) & (i < n_s - 1.001) & (j > 0) & (j < n_d - 1.001)
    i, j = i[inside], j[inside]
    i0, j0 = i.astype(np.int64), j.astype(np.int64)
    fi, fj = i - i0, j - j0
    base = i0 * n_d + j0
    columns = np.stack([base, base + 1, base + n_d, base + n_d + 1], axis=1)
    weights = np.stack([(1 - fi) * (1 - fj), (1 - fi) * fj, fi * (1 - fj), fi * fj], axis=1).astype(np.float32)
    pointer = np.arange(0, 4 * base.size + 1, 4)
    matrix = csr_array((weights.ravel(), columns.ravel(), pointer), shape=(base.size, n_s * n_d))
    return Warp(
        inside,
        matrix,
        base + np.rint(fi).astype(np.int64) * n_d + np.rint(fj).astype(np.int64),
    )
