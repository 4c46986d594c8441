"""Finds the lumbar discs in a sagittal T2 series: a small 2D U-Net on every slice, read jointly.

The network sees one slice at `spacing_mm` in plane and gives, at twice that spacing, a heatmap of disc
centres (all levels as one class), of posterior disc margins and of canal centres at disc height, and a
soft level for every place.
The slices' scores peak in the midline, which gives the left-right position; `naming` turns candidates
into named levels. Arrays are (slice, row, column) with the head up and the front of the body at column 0.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from spinepaint.models.candidates import find_candidates, peak_behind
from spinepaint.models.naming import name_levels, spine_chain
from spinepaint.models.placement import device_of

SPOTS = 3  # heatmaps before the levels' channels
# Least, usual and greatest distance of the posterior margin from a disc's centre, and of the canal from the margin.
MARGIN_REACH_MM = np.array([8.0, 17.0, 32.0])
CANAL_REACH_MM = np.array([2.5, 7.0, 15.0])
FSUS = ("L1-L2", "L2-L3", "L3-L4", "L4-L5", "L5-S1")


@dataclass(frozen=True)
class LocaliserConfig:
    """Shape of the network, JSON-able. `levels` run cranial to caudal; the first stands for itself and all above."""

    levels: tuple[str, ...] = ("T11-T12", "T12-L1", *FSUS)
    fsus: tuple[str, ...] = FSUS
    spacing_mm: float = 1.25
    widths: tuple[int, int, int] = (64, 96, 128)
    deep_blocks: int = 3
    score_threshold: float = 0.15
    margin_warning: float = 12.0

    def __post_init__(self) -> None:
        for name in ("levels", "fsus", "widths"):  # JSON gives lists
            object.__setattr__(self, name, tuple(getattr(self, name)))


@dataclass(frozen=True)
class Localisation:
    """Discs in fractional voxel indices (slice, row, column), by FSU name; a level outside the image is absent.

    `centres` are those of the discs, `margins` the posterior disc margins in the midline, `canals` the canal's
    centre at disc height. `naming_margin` says in nats by how much the chosen naming beats the next best shift by a level.
    """

    centres: dict[str, NDArray[np.float64]]
    margins: dict[str, NDArray[np.float64]]
    canals: dict[str, NDArray[np.float64]]
    confidence: dict[str, float]
    naming_margin: float
    warnings: tuple[str, ...] = field(default=())


class _Block(nn.Module):
    """Pre-activation residual block: (B, C, H, W) to the same shape."""

    def __init__(self, width: int, dilation: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.GroupNorm(8, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation),
            nn.GroupNorm(8, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.body(x)
        return y


class DiscLocaliser(nn.Module):
    """(B, 1, H, W) slices at `spacing_mm`, H and W multiples of 16, to (B, 3 + levels, H/2, W/2) logits.

    Channels 0–2: disc centres, posterior disc margins, canal centres; the others: level, a softmax over channels.
    Pixels are folded 4x4 into channels first: full-resolution convolutions would cost most of the time.
    """

    def __init__(self, config: LocaliserConfig) -> None:
        super().__init__()
        self.config = config
        a, b, c = config.widths
        self.stem = nn.Conv2d(2 * 16, a, 3, padding=1)
        self.enter_a, self.leave_a = _Block(a), _Block(a)
        self.down_b, self.enter_b, self.leave_b = nn.Conv2d(a, b, 2, stride=2), _Block(b), _Block(b)
        self.down_c = nn.Conv2d(b, c, 2, stride=2)
        self.deep = nn.Sequential(*(_Block(c, dilation=2**i) for i in range(config.deep_blocks)))
        self.context = nn.Linear(c, c)
        self.up_b, self.up_a = nn.Conv2d(c, b, 1), nn.Conv2d(b, a, 1)
        outputs = SPOTS + len(config.levels)
        self.head = nn.Sequential(nn.GroupNorm(8, a), nn.SiLU(), nn.Conv2d(a, 4 * outputs, 3, padding=1))

    def forward(self, slices: Tensor) -> Tensor:
        """Logits, see the class."""
        x = torch.cat([slices, _evened(slices, self.config.spacing_mm)], dim=1)
        a = self.enter_a(self.stem(functional.pixel_unshuffle(x, 4)))
        b = self.enter_b(self.down_b(a))
        c = self.deep(self.down_c(b))
        c = c + self.context(c.mean(dim=(2, 3)))[:, :, None, None]
        b = self.leave_b(b + _twice(self.up_b(c)))
        a = self.leave_a(a + _twice(self.up_a(b)))
        return functional.pixel_shuffle(self.head(a), 2)


def _twice(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2, mode="nearest")


def _evened(slices: Tensor, spacing_mm: float, radius_mm: float = 20.0) -> Tensor:
    """Local mean 0 and deviation 1: what remains once coil fall-off and the scanner's gain are gone."""
    radius = round(radius_mm / spacing_mm)

    def blur(x: Tensor) -> Tensor:
        return functional.avg_pool2d(x, 2 * radius + 1, stride=1, padding=radius, count_include_pad=False)

    mean = blur(slices)
    deviation = (blur(slices * slices) - mean * mean).clamp_min(0).sqrt()
    return ((slices - mean) / (deviation + 0.05)).clamp(-3, 3)


def normalise(voxels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Grey values of a slice or a series to about 0–1 (0.5th to 99th percentile), clipped to [0, 1.5]."""
    low, high = np.percentile(voxels, (0.5, 99.0))
    scaled: NDArray[np.float32] = np.clip((voxels - low) / max(float(high - low), 1e-6), 0.0, 1.5).astype(np.float32)
    return scaled


def to_grid(slices: Tensor, spacing_mm: tuple[float, float], target_mm: float, multiple: int = 16) -> Tensor:
    """(N, 1, rows, columns) resampled to `target_mm`, zero-padded below and behind to whole multiples."""
    size = [max(1, round(n * s / target_mm)) for n, s in zip(slices.shape[2:], spacing_mm, strict=True)]
    small = functional.interpolate(slices, size=size, mode="bilinear", antialias=True, align_corners=False)
    return functional.pad(small, (0, -size[1] % multiple, 0, -size[0] % multiple))


@torch.inference_mode()
def heatmaps(model: DiscLocaliser, grid: Tensor, batch: int = 4) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scores (3, N, H, W) of discs, margins and canals, and log-probabilities (N, levels, H, W) of levels."""
    device = device_of(model)
    parts = [model(part.to(device)).float().cpu() for part in torch.split(grid, batch)]
    logits = torch.cat(parts)
    spots = torch.sigmoid(logits[:, :SPOTS]).transpose(0, 1)
    return spots.numpy(), torch.log_softmax(logits[:, SPOTS:], dim=1).numpy()


def localise(model: DiscLocaliser, voxels: NDArray[np.float32], spacing_mm: tuple[float, float, float]) -> Localisation:
    """Find and name the discs of a series.

    Parameters
    ----------
    voxels: (slice, row, column), sagittal slices in order, rows head to foot, columns front to back.
    spacing_mm: along (slice, row, column).

    Raises ValueError where `voxels` is not three-dimensional.
    """
    if voxels.ndim != 3:
        raise ValueError(f"a series has three axes (slice, row, column), not {voxels.ndim}")
    config = model.config
    slices = torch.from_numpy(normalise(voxels))[:, None]
    (discs, margins, canals), levels = heatmaps(model.eval(), to_grid(slices, spacing_mm[1:], config.spacing_mm))
    step = 2 * config.spacing_mm
    found = find_candidates(discs, levels, config.score_threshold, step)
    points = np.array([[c.slice * spacing_mm[0], c.row * step, c.column * step] for c in found]).reshape(-1, 3)
    chain = spine_chain(points, np.array([c.score for c in found]))
    evidence = np.array([found[i].levels for i in chain.order]).reshape(-1, len(config.levels))
    naming = name_levels(evidence, chain.ranks, config.levels)
    factor = np.array([round(n * s / config.spacing_mm) / n for n, s in zip(voxels.shape[1:], spacing_mm[1:], strict=True)])

    def to_voxels(place: float, point: NDArray[np.float64]) -> NDArray[np.float64]:
        # Centres of a heatmap cell and of a voxel, both half a cell from their corners.
        return np.array([place, *((np.asarray(point) + 0.5) * 2 / factor - 0.5)])

    centres, posterior, canal, confidence = {}, {}, {}, {}
    backward = _backward(points[list(chain.order), 1:])
    for index, name, direction in zip(chain.order, naming.names, backward, strict=True):
        disc = found[index]
        if name in config.fsus:
            point = np.array([disc.row, disc.column])
            centres[name] = to_voxels(disc.slice, point)
            margin = peak_behind(margins, disc.weights, point, direction, MARGIN_REACH_MM / step)
            axis = (margin - point) / np.linalg.norm(margin - point)
            posterior[name] = to_voxels(disc.slice, margin)
            canal[name] = to_voxels(disc.slice, peak_behind(canals, disc.weights, margin, axis, CANAL_REACH_MM / step))
            confidence[name] = float(np.clip(disc.score * naming.probability, 0.0, 1.0))
    return Localisation(centres, posterior, canal, confidence, naming.margin, place_warnings(config, centres, naming.margin))


def _backward(chain: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit vectors (N, 2) square to the spine, pointing back, at discs (N, 2) of (row, column), caudal first."""
    if len(chain) < 2:
        return np.tile([0.0, 1.0], (len(chain), 1))
    up = np.gradient(chain, axis=0)
    return np.asarray(np.stack([up[:, 1], -up[:, 0]], axis=1) / np.linalg.norm(up, axis=1, keepdims=True))


def place_warnings(config: LocaliserConfig, centres: dict[str, NDArray[np.float64]], margin: float) -> tuple[str, ...]:
    """What a person should know of the levels that were found, named by `margin` nats over the next best naming."""
    if not centres:
        return ("no lumbar disc was found",)
    warnings = []
    if margin < config.margin_warning:
        warnings.append(
            f"level naming uncertain (transitional anatomy?): the next best naming, a level off, is only {margin:.1f} nats behind"
        )
    missing = [name for name in config.fsus if name not in centres]
    if missing:
        warnings.append(f"not found in the field of view: {', '.join(missing)}")
    return tuple(warnings)
