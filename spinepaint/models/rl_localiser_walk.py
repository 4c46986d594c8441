"""How the agents move: steps from coarse to fine, an end by oscillation, and a series read by agents from several starts.

Arrays are (E, A, …): E walks side by side, each with one agent a disc. Positions are voxels of the agents' grid.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from spinepaint.models.naming import GAP_MM
from spinepaint.models.placement import device_of
from spinepaint.models.rl_localiser import MEMORY, MOVES, RlLocaliser, RlLocaliserConfig, full_width_half_maximum
from spinepaint.models.rl_localiser_views import BYTE, Atlas, to_agents_grid

_MOVES = np.array(MOVES, dtype=np.int64)
_EDGE_MM = 5.0  # an agent that ends so near the border looked for a disc beyond it
_TOGETHER_MM = 12.0  # two discs' centres are never so near

# What speaks against a place: the value distributions' mean full width at half maximum (Browning et al.) and mean standard
# deviation, which sees a small second peak too; the greatest value, since at the disc nothing is to be gained; and how far the
# ends of several walks lie apart. The first three are known at every place.
DOUBTS = ("width", "deviation", "value", "spread_mm")
_AT_A_PLACE = 3


@dataclass
class Walks:
    """Where walks stand.

    Attributes
    ----------
    volume: (E,) number in the atlas.
    position: (E, A, 3).
    stage: (E, A), place of the step size in force; of the last one when done.
    moves: (E, A, MEMORY), latest first, -1 where there is none.
    trail: (E, A, MEMORY, 3), places at this stage, latest first.
    trail_value: (E, A, MEMORY), the greatest value there, infinite where there is no place.
    trail_doubts: (E, A, MEMORY, 3), the first three of `DOUBTS` there.
    taken: (E, A), moves at this stage.
    done: (E, A).
    doubts: (E, A, 3), those of the final place; nan until done.
    """

    volume: NDArray[np.int64]
    position: NDArray[np.int64]
    stage: NDArray[np.int64]
    moves: NDArray[np.int64]
    trail: NDArray[np.int64]
    trail_value: NDArray[np.float32]
    trail_doubts: NDArray[np.float32]
    taken: NDArray[np.int64]
    done: NDArray[np.bool_]
    doubts: NDArray[np.float32]

    @classmethod
    def begin(cls, volume: NDArray[np.int64], position: NDArray[np.int64]) -> "Walks":
        """Walks at the coarsest step, of agents at `position` (E, A, 3)."""
        shape = position.shape[:2]
        return cls(
            volume=volume.astype(np.int64),
            position=position.astype(np.int64),
            stage=np.zeros(shape, np.int64),
            moves=np.full((*shape, MEMORY), -1, np.int64),
            trail=np.zeros((*shape, MEMORY, 3), np.int64),
            trail_value=np.full((*shape, MEMORY), np.inf, np.float32),
            trail_doubts=np.zeros((*shape, MEMORY, _AT_A_PLACE), np.float32),
            taken=np.zeros(shape, np.int64),
            done=np.zeros(shape, bool),
            doubts=np.full((*shape, _AT_A_PLACE), np.nan, np.float32),
        )

    def replace(self, which: NDArray[np.bool_], other: "Walks") -> None:
        """Put `other`'s walks in the places where `which` (E,) holds, in order."""
        for item in fields(self):
            getattr(self, item.name)[which] = getattr(other, item.name)


def facts(
    config: RlLocaliserConfig, position: NDArray[np.int64], stage: NDArray[np.int64], moves: NDArray[np.int64]
) -> NDArray[np.float32]:
    """What agents know beside their views, (E, A, facts): who they are, their step size, their moves, the others' places (dm)."""
    walks, agents = stage.shape
    who = np.broadcast_to(np.eye(agents, dtype=np.float32), (walks, agents, agents))
    step = np.eye(len(config.steps), dtype=np.float32)[stage]
    remembered = np.eye(len(MOVES) + 1, dtype=np.float32)[moves][..., :-1].reshape(walks, agents, -1)
    away = (position[:, None] - position[:, :, None]) * (config.spacing_mm / 100)
    others = np.clip(away, -2, 2).astype(np.float32).reshape(walks, agents, -1)
    return np.concatenate([who, step, remembered, others], axis=2)


def advance(
    config: RlLocaliserConfig,
    shapes: NDArray[np.int64],
    walks: Walks,
    action: NDArray[np.int64],
    value: NDArray[np.float32],
    doubts: NDArray[np.float32],
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Move every agent that is not done, in place; the places (E, A, 3) that the moves led to, and which (E, A) led out.

    shapes: (volumes, 3), the atlas's. action: (E, A) places in `MOVES`. value: (E, A) greatest values where the agents
    stand; doubts: (E, A, 3) there. A move out of the image leaves the agent where it is. An agent that comes to a
    place of its last `MEMORY`, or has made `most_moves`, goes to the one of these places whose greatest value is the least
    (Alansary et al. 2019: there nothing is to be gained by moving) and on to the next finer step, or is done.
    """
    steps = np.array(config.steps)[walks.stage][..., None]
    wanted = walks.position + _MOVES[action] * steps
    left = ((wanted < 0) | (wanted >= shapes[walks.volume][:, None])).any(axis=2)
    led = np.where((left | walks.done)[..., None], walks.position, wanted)
    go = ~walks.done
    for name, latest in (("trail", walks.position), ("trail_value", value), ("trail_doubts", doubts), ("moves", action)):
        old = getattr(walks, name)
        shifted = np.concatenate([latest[:, :, None].astype(old.dtype), old[:, :, :-1]], axis=2)
        old[go] = shifted[go]
    walks.taken += go
    walks.position = led.copy()
    seen = ((walks.trail == led[:, :, None]).all(axis=3) & np.isfinite(walks.trail_value)).any(axis=2)
    _settle(config, walks, go & (seen | (walks.taken >= config.most_moves)))
    return led, left & go


def _settle(config: RlLocaliserConfig, walks: Walks, which: NDArray[np.bool_]) -> None:
    """Send oscillating agents to the calmest place of their trail and on to the next stage, or end their walk."""
    best = walks.trail_value.argmin(axis=2)
    e, a = np.nonzero(which)
    calm = best[e, a]
    walks.position[e, a] = walks.trail[e, a, calm]
    final = walks.stage[e, a] == len(config.steps) - 1
    walks.doubts[e, a] = np.where(final[:, None], walks.trail_doubts[e, a, calm], np.nan)
    walks.done[e, a] = final
    walks.stage[e, a] += ~final
    walks.trail_value[e, a] = np.inf
    walks.moves[e, a] = -1
    walks.taken[e, a] = 0


@dataclass(frozen=True)
class Seen:
    """What the network says of places: the expected values (N, 6) of the moves, and the doubts (N, 3)."""

    values: NDArray[np.float32]
    doubts: NDArray[np.float32]


@torch.inference_mode()
def look(network: RlLocaliser, views: NDArray[np.uint8], facts_: NDArray[np.float32], agent: NDArray[np.int64]) -> Seen:
    """Ask the network about N agents: views (N, planes, view, view), facts (N, facts), agents' numbers (N,)."""
    device = device_of(network)
    image = torch.from_numpy(views).to(device).float().div_(BYTE)
    log = network(image, torch.from_numpy(facts_).to(device), torch.from_numpy(agent).to(device))
    probabilities = log.exp()
    values = probabilities @ network.support
    width = full_width_half_maximum(probabilities, float(network.support[1] - network.support[0]))
    deviation = (probabilities @ network.support**2 - values**2).clamp_min(0).sqrt()
    doubts = torch.stack([width.mean(dim=1), deviation.mean(dim=1), values.amax(dim=1)], dim=1)
    return Seen(values.cpu().numpy(), doubts.cpu().numpy())


def see(network: RlLocaliser, atlas: Atlas, walks: Walks) -> Seen:
    """Values (E, A, 6) and doubts (E, A, 3) of all agents where they stand; zeros for those that are done."""
    config = network.config
    e, a = np.nonzero(~walks.done)
    values = np.zeros((*walks.done.shape, len(MOVES)), np.float32)
    doubts = np.zeros((*walks.done.shape, _AT_A_PLACE), np.float32)
    if len(e):
        views = atlas.cut(walks.volume[e], walks.position[e, a], config.view, config.beside)
        known = facts(config, walks.position, walks.stage, walks.moves)[e, a]
        found = look(network, views, known, a.astype(np.int64))
        values[e, a], doubts[e, a] = found.values, found.doubts
    return Seen(values, doubts)


def walk_to_end(network: RlLocaliser, atlas: Atlas, walks: Walks) -> Walks:
    """Move greedily until every agent is done; the same object."""
    while not walks.done.all():
        seen = see(network, atlas, walks)
        advance(network.config, atlas.shapes, walks, seen.values.argmax(axis=2), seen.values.max(axis=2), seen.doubts)
    return walks


def starting_places(shape: NDArray[np.int64], starts: int, agents: int) -> NDArray[np.int64]:
    """(starts, agents, 3): all agents in the middle slice, on a line from over to under the image's middle."""
    rows = np.linspace(0.25, 0.75, starts) if starts > 1 else np.array([0.5])
    share = np.stack([np.full(starts, 0.5), rows, np.full(starts, 0.5)], axis=1)
    places = np.minimum((share * shape).astype(np.int64), np.asarray(shape) - 1)
    return np.repeat(places[:, None], agents, axis=1)


@dataclass(frozen=True)
class Landmarks:
    """Where the agents ended in one volume.

    Attributes
    ----------
    places: (A, 3), fractional, on their grid: the median of the walks' ends, axis by axis.
    doubts: (A, 4), see `DOUBTS`: means over the ends, and the root mean square distance of the ends from their median.
    """

    places: NDArray[np.float64]
    doubts: NDArray[np.float64]


def find(network: RlLocaliser, grid: NDArray[np.uint8]) -> Landmarks:
    """Send agents through a volume of their grid from each start, in each of the configuration's contrasts."""
    config = network.config
    shades = np.arange(256) / 255
    atlas = Atlas([(255 * shades**gamma).round().astype(np.uint8)[grid] for gamma in config.gammas], config.scales)
    places = starting_places(atlas.shapes[0], config.starts, len(config.fsus))
    looks = len(config.gammas)
    volume = np.repeat(np.arange(looks), config.starts)
    walks = walk_to_end(network, atlas, Walks.begin(volume, np.tile(places, (looks, 1, 1))))
    middle = np.median(walks.position, axis=0)
    away = np.linalg.norm(walks.position - middle, axis=2) * config.spacing_mm
    spread = np.sqrt((away**2).mean(axis=0))
    return Landmarks(middle, np.concatenate([walks.doubts.mean(axis=0, dtype=np.float64), spread[:, None]], axis=1))


@dataclass(frozen=True)
class AgentLocalisation:
    """Disc centres in fractional voxel indices (slice, row, column), by FSU name; a level outside the image is absent.

    `widths` are the value distributions' mean full widths at half maximum of every agent, those of absent levels too.
    """

    centres: dict[str, NDArray[np.float64]]
    confidence: dict[str, float]
    widths: dict[str, float]
    warnings: tuple[str, ...]


def localise_by_agents(
    network: RlLocaliser, voxels: NDArray[np.float32], spacing_mm: tuple[float, float, float]
) -> AgentLocalisation:
    """Find the discs of a series by agents.

    voxels: (slice, row, column), sagittal slices in order, rows head to foot, columns front to back; spacing_mm along each.
    A disc is absent where its agent ended at the upper or lower border, where two agents ended at one disc and the other
    was surer, or where the confidence is under the least. Raises ValueError where `voxels` is not three-dimensional.
    """
    if voxels.ndim != 3:
        raise ValueError(f"a series has three axes (slice, row, column), not {voxels.ndim}")
    config = network.config
    grid, factor = to_agents_grid(voxels, spacing_mm, config.spacing_mm)
    found = find(network.eval(), grid)
    sure = confidence(config, found.doubts)
    kept = _believed(config, found.places, sure, grid.shape[1])
    names = [name for name, keep in zip(config.fsus, kept, strict=True) if keep]
    centres = {name: (found.places[config.fsus.index(name)] + 0.5) / factor - 0.5 for name in names}
    missing = [name for name in config.fsus if name not in names]
    warnings: list[str] = []
    if missing:
        warnings.append(f"not found in the field of view: {', '.join(missing)}" if names else "no lumbar disc was found")
    warnings += odd_gaps(config.fsus, centres, spacing_mm)
    return AgentLocalisation(
        centres,
        {name: float(sure[config.fsus.index(name)]) for name in names},
        dict(zip(config.fsus, map(float, found.doubts[:, 0]), strict=True)),
        tuple(warnings),
    )


def odd_gaps(
    fsus: tuple[str, ...], centres: Mapping[str, NDArray[np.float64]], spacing_mm: tuple[float, float, float]
) -> list[str]:
    """A warning for each two levels that are no neighbours by their gap: an agent does not know where the others ended."""
    warnings = []
    for upper, lower in pairwise(fsus):
        if upper in centres and lower in centres:
            gap = float(np.linalg.norm((centres[upper] - centres[lower]) * spacing_mm))
            if not GAP_MM[0] <= gap <= GAP_MM[1]:
                warnings.append(f"{upper} and {lower} lie {gap:.0f} mm apart, so at least one of them is another disc")
    return warnings


def confidence(config: RlLocaliserConfig, doubts: NDArray[np.float64]) -> NDArray[np.float64]:
    """How sure agents are (N,), 0 to 1, from their doubts (N, 4)."""
    logit = config.certainty[0] - doubts @ np.array(config.certainty[1:])
    return np.asarray(1 / (1 + np.exp(-np.clip(logit, -30, 30))))


def _believed(config: RlLocaliserConfig, places: NDArray[np.float64], sure: NDArray[np.float64], rows: int) -> NDArray[np.bool_]:
    edge = _EDGE_MM / config.spacing_mm
    kept = (sure >= config.least_confidence) & (places[:, 1] >= edge) & (places[:, 1] <= rows - 1 - edge)
    for i, j in zip(*np.triu_indices(len(places), 1), strict=True):
        if kept[i] and kept[j] and np.linalg.norm(places[i] - places[j]) * config.spacing_mm < _TOGETHER_MM:
            kept[i if sure[i] < sure[j] else j] = False
    return np.asarray(kept)
