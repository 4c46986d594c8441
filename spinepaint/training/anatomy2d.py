"""Finds the posterior disc margin and the CSF column in a mid-sagittal slice, by profiles.

Everything about one disc is told in a straight frame whose origin is the posterior disc margin: u runs
caudally along the canal, v backward across it, both in mm. The CSF column is two curves, v = front(u) and
v = back(u). A disc whose column is not found with certainty has no anatomy, rather than a doubtful one.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, map_coordinates, median_filter

from spinepaint.training.canal_path import Array, best_curve
from spinepaint.training.noise_level import noise_level
from spinepaint.training.spider import DiscBox

U_MM: Array = np.arange(-44.0, 44.5, 0.5)
_V_MM: Array = np.arange(-24.0, 52.0, 0.25)


@dataclass(frozen=True)
class DiscAnatomy:
    """One disc's posterior margin and canal in an image with square pixels.

    Attributes
    ----------
    margin: (row, column) of the posterior disc margin, in pixels.
    posterior: unit vector (row, column) across the canal, pointing backward.
    spacing_mm: size of a pixel.
    front, back: (177,) v in mm of the CSF column's borders at `U_MM`; certain within 24 mm of the disc.
    disc_axis: unit vector (u, v) along the disc's own AP axis, pointing backward.
    disc_half_height_mm: half the disc's height at its posterior margin.
    csf, annulus, marrow: grey levels of the CSF, of the annulus and of the vertebral bodies.
    noise: standard deviation of the image's own noise.
    """

    margin: tuple[float, float]
    posterior: tuple[float, float]
    spacing_mm: float
    front: Array
    back: Array
    disc_axis: tuple[float, float]
    disc_half_height_mm: float
    csf: float
    annulus: float
    marrow: float
    noise: float

    @property
    def canal_mm(self) -> float:
        """AP width of the CSF column at disc height, in mm."""
        return float(np.interp(0.0, U_MM, self.back) - np.interp(0.0, U_MM, self.front))

    @property
    def canal_centre(self) -> tuple[float, float]:
        """(row, column), in pixels, of the middle of the canal at disc height."""
        v = 0.5 * float(np.interp(0.0, U_MM, self.back) + np.interp(0.0, U_MM, self.front))
        row, column = self.to_pixels(np.zeros(1), np.array([v]))
        return float(row[0]), float(column[0])

    def to_frame(self, rows: Array, columns: Array) -> tuple[Array, Array]:
        """(u, v) in mm of pixel coordinates."""
        dr, dc = (rows - self.margin[0]) * self.spacing_mm, (columns - self.margin[1]) * self.spacing_mm
        r, c = self.posterior
        return dr * c - dc * r, dr * r + dc * c

    def to_pixels(self, u: Array, v: Array) -> tuple[Array, Array]:
        """(rows, columns) in pixels of (u, v) in mm."""
        r, c = self.posterior
        return self.margin[0] + (u * c + v * r) / self.spacing_mm, self.margin[1] + (v * c - u * r) / self.spacing_mm


def _between(x: Array, low: float, high: float) -> NDArray[np.bool_]:
    return (x > low) & (x < high)


def _crossing(profile: Array, start: int, step: int, threshold: float, run: int = 3) -> float | None:
    """Fractional index where `profile` first falls under `threshold` from `start` and stays for `run` samples."""
    i = start
    while 0 <= i + step * run < profile.size:
        ahead = profile[i + step : i + step * (run + 1) : step] if i + step * (run + 1) >= 0 else profile[i + step :: step]
        if profile[i] >= threshold and (ahead < threshold).all():
            following = profile[i + step]
            return i + step * float((profile[i] - threshold) / (profile[i] - following + 1e-9))
        i += step
    return None


def _sample(image: NDArray[np.float32], rows: Array, columns: Array) -> Array:
    return np.asarray(map_coordinates(image, [rows, columns], order=1, mode="nearest"), dtype=np.float64)


def _foot(image: NDArray[np.float32], spacing_mm: float, disc: DiscBox, path: tuple[Array, Array]) -> tuple[Array, Array] | None:
    """(point, unit tangent), (row, column), where the disc's own plane meets the path: the darkest stretch in front of it."""
    points = np.stack(path, 1)
    tangents = np.gradient(gaussian_filter1d(points, 5.0, axis=0), axis=0)
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    along = ((points - np.array(disc.centre)) * tangents).sum(1) * spacing_mm
    near = np.flatnonzero(np.abs(along) < 9.0)
    if near.size < 10 or near[0] < 8 or near[-1] > points.shape[0] - 9:
        return None
    across = np.stack([-tangents[:, 1], tangents[:, 0]], 1)  # backward, for a tangent that points down
    depth = np.arange(-16.0, -5.0, 0.5) / spacing_mm
    ahead = points[near, None, :] + across[near, None, :] * depth[None, :, None]
    darkness = gaussian_filter1d(_sample(image, ahead[..., 0], ahead[..., 1]).mean(1), 2.0)
    spread = float(np.ptp(darkness)) + 1e-6
    i = near[int((darkness / spread + 0.012 * along[near] ** 2).argmin())]
    return points[i], tangents[i]


def _borders(frame: Array, centre: Array) -> tuple[Array, Array, Array]:
    """Borders (v in mm) of the bright column in `frame` (u, v) around `centre` (v in mm), and the CSF's level at each u.

    Each border is the smooth curve of steepest fall from the sac to what lies outside it; roots inside the
    sac are grey, so a border must also have no dark gap between itself and the column's centre.
    """
    middle = np.clip(np.searchsorted(_V_MM, centre), 24, _V_MM.size - 25)
    around = np.take_along_axis(frame, middle[:, None] + np.arange(-12, 13), axis=1)
    ridge = np.percentile(around, 90, axis=1)
    level = gaussian_filter1d(np.asarray(median_filter(ridge, 25, mode="nearest"), dtype=np.float64), 4.0, mode="nearest")
    level = np.maximum(level, 1.0)  # beyond the image's edge
    front, back = centre, centre
    for side, reach in ((-1, np.arange(0.0, 13.0, 0.25)), (1, np.arange(1.0, 19.0, 0.25))):
        v = centre[:, None] + side * reach
        inside = 0.5 * (_outward(frame, v, -0.75 * side) + _outward(frame, v, -1.5 * side)) / level[:, None]
        outside = 0.5 * (_outward(frame, v, 0.5 * side) + _outward(frame, v, 1.0 * side)) / level[:, None]
        gap = np.maximum((0.42 if side < 0 else 0.27) - np.minimum.accumulate(np.minimum(inside, 2.0), axis=1), 0.0)
        fall = np.minimum(np.log((inside + 0.05) / (outside + 0.05)), 1.2)
        if side < 0:
            score = inside - outside + 0.4 * np.minimum(inside, 1.0) - 4.0 * gap - 0.012 * reach
            front = centre + best_curve(score, v - centre[:, None], 1.2)
        else:  # behind grey roots, which lie backward in a supine patient; a sac is some 13 mm deep
            depth = v - front[:, None]  # stiff, so that it does not follow the fat behind the sac
            back = front + best_curve(fall - 5.0 * gap - 0.008 * (depth - 13.0) ** 2, depth, 4.0)
    return gaussian_filter1d(front, 1.5, mode="nearest"), gaussian_filter1d(back, 1.5, mode="nearest"), level


def _outward(frame: Array, v: Array, by: float) -> Array:
    """Grey values of `frame` (u, v) at `v` + `by` mm, one row of `v` for each u."""
    rows = np.repeat(np.arange(U_MM.size, dtype=np.float64)[:, None], v.shape[1], 1)
    return np.asarray(map_coordinates(frame, [rows, (v + by - _V_MM[0]) / 0.25], order=1, mode="nearest"))


def _disc_margin(frame: Array, front: float, level: float) -> tuple[float, float]:
    """(v of the posterior disc margin, grey level of the annulus) from the profile at disc height."""
    profile = frame[np.abs(U_MM) <= 1.5].mean(0)
    body = np.convolve(profile, np.ones(10) / 10, mode="full")[: profile.size]  # mean of the 2.5 mm in front of each v
    here = _between(_V_MM, front - 9.0, front + 1.0)
    annulus = float(body[here].min())
    dark = np.flatnonzero(here & (body < annulus + 0.3 * (level - annulus)))
    return min(float(_V_MM[dark[-1]]) + 0.25, front), annulus


def find_anatomy(image: NDArray[np.float32], spacing_mm: float, disc: DiscBox, path: tuple[Array, Array]) -> DiscAnatomy | None:
    """The anatomy around one disc of a slice with square pixels, or None where it is not certain.

    `path` is `csf_path` of the slice.
    """
    foot = _foot(image, spacing_mm, disc, path)
    if foot is None:
        return None
    origin, tangent = foot
    posterior = (float(-tangent[1]), float(tangent[0]))
    blank = np.zeros(U_MM.size)
    start = (float(origin[0]), float(origin[1]))
    found = DiscAnatomy(start, posterior, spacing_mm, blank, blank, (0.0, 1.0), 5.0, 0.0, 0.0, 0.0, noise_level(image))
    for recentre in (1.0, 1.0, 0.0):  # at last from the middle of the disc's own margin
        frame = _sample(image, *found.to_pixels(*np.meshgrid(U_MM, _V_MM, indexing="ij")))
        u, v = found.to_frame(*path)
        order = np.argsort(u)
        front, back, level = _borders(frame, np.interp(U_MM, u[order], v[order]))
        csf = float(level[U_MM.size // 2])
        if not _has_edges(frame, front, back, csf):
            return None
        margin, annulus = _disc_margin(frame, float(np.interp(0.0, U_MM, front)), csf)
        axis = _disc_axis(image, found, margin)
        along, half_height = _extent(image, found, margin, axis)
        row, column = found.to_pixels(np.array([recentre * along]), np.array([margin]))
        bodies = frame[_between(np.abs(U_MM), 9, 20)][:, _between(_V_MM, margin - 12, margin - 3)]
        found = DiscAnatomy(
            margin=(float(row[0]), float(column[0])),
            posterior=posterior,
            spacing_mm=spacing_mm,
            front=front - margin,
            back=back - margin,
            disc_axis=axis,
            disc_half_height_mm=half_height,
            csf=csf,
            annulus=annulus,
            marrow=float(np.median(bodies)),
            noise=found.noise,
        )
    return found if is_certain(found) else None


def _has_edges(frame: Array, front: Array, back: Array, csf: float) -> bool:
    """Whether the sac's borders near the disc are edges: bright within, darker without, nearly everywhere."""
    near = np.abs(U_MM) <= 12
    rise = (_outward(frame, front[:, None], 1.2) - _outward(frame, front[:, None], -0.8))[near, 0] / csf
    behind = np.minimum(_outward(frame, back[:, None], 0.8), _outward(frame, back[:, None], 1.5))
    fall = (_outward(frame, back[:, None], -1.0) - behind)[near, 0] / csf
    return bool(np.percentile(rise, 15) > 0.2 and np.percentile(fall, 30) > 0.08)


def _disc_axis(image: NDArray[np.float32], found: DiscAnatomy, margin: float) -> tuple[float, float]:
    """Unit vector (u, v) along the disc: the direction whose end plates are darkest against the bodies above and below."""
    depth, best, axis = np.arange(4.0, 26.0, 1.0), -np.inf, (0.0, 1.0)
    across = np.concatenate([np.arange(-5.0, 5.5, 1.0), np.array([-11.0, -9.5, 9.5, 11.0])])
    for angle in np.radians(np.arange(-32.0, 33.0, 4.0)):
        c, s = np.cos(angle), np.sin(angle)
        u = -depth[:, None] * s + across[None, :] * c
        v = margin - depth[:, None] * c - across[None, :] * s
        grey = _sample(image, *found.to_pixels(u, v))
        contrast = float((grey[:, 11:].mean(1) - np.percentile(grey[:, :11], 25, axis=1)).mean())
        if contrast > best:
            best, axis = contrast, (float(s), float(c))
    return axis


def _extent(image: NDArray[np.float32], found: DiscAnatomy, margin: float, axis: tuple[float, float]) -> tuple[float, float]:
    """(middle u, half height) in mm of the disc in front of its posterior margin, by half-maximum against the bodies."""
    depth = np.arange(3.0, 8.0, 1.0)[None, :]
    u, v = np.broadcast_arrays(U_MM[:, None] - depth * axis[0], margin - depth * axis[1])
    profile = gaussian_filter1d(_sample(image, *found.to_pixels(u, v)).mean(1), 1.0)
    middle = U_MM.size // 2
    half = 0.5 * (float(profile[np.abs(U_MM) < 4].min()) + float(np.median(profile[_between(np.abs(U_MM), 9, 20)])))
    start = middle - 8 + int(profile[middle - 8 : middle + 9].argmin())
    up, down = (_crossing(-profile, start, step, -half) for step in (-1, 1))
    if up is None or down is None:
        return 0.0, 5.0
    return float(np.clip(0.25 * (up + down) - 0.5 * middle, -3.5, 3.5)), float(np.clip(0.25 * (down - up), 3.0, 7.0))


def is_certain(a: DiscAnatomy) -> bool:
    """Whether the borders and levels are those of a canal in the mid-sagittal plane."""
    sure = np.abs(U_MM) <= 24
    width = (a.back - a.front)[sure]
    return bool(
        width.min() > 3.0
        and width[24:-24].min() > 6.0  # within 12 mm
        and width.max() < 24.0
        and np.abs(np.diff(a.front[sure])).max() < 0.8
        and np.abs(np.diff(a.back[sure])).max() < 0.9
        and 0.0 <= float(np.interp(0.0, U_MM, a.front)) < 4.5
        and a.csf > 1.5 * a.annulus
        and a.marrow > 1.3 * a.annulus
        and a.csf > 1.15 * a.marrow
    )
