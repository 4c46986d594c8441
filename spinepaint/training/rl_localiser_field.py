"""The environment: many walks at once through grounds whose discs are known, led by experts, chance and the network."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from spinepaint.models.rl_localiser import MOVES, RlLocaliser, RlLocaliserConfig
from spinepaint.models.rl_localiser_views import Atlas
from spinepaint.models.rl_localiser_walk import Walks, advance, see
from spinepaint.training.rl_localiser_data import Ground
from spinepaint.training.rl_localiser_replay import Moves, Running

MOST_MOVES = 60  # of a walk, after which another one begins


class Field:
    """Grounds that agents walk in, phantoms first: `phantom_share` of the walks are in phantoms where there are both."""

    def __init__(
        self, config: RlLocaliserConfig, phantoms: Sequence[Ground], real: Sequence[Ground], phantom_share: float
    ) -> None:
        self.config = config
        grounds = [*phantoms, *real]
        self.atlas = Atlas([ground.grid for ground in grounds], config.scales)
        self.targets = np.stack([ground.targets for ground in grounds])
        self.phantoms = len(phantoms)
        self.phantom_share = phantom_share if phantoms and real else float(bool(phantoms))

    def begin(self, rng: np.random.Generator, count: int) -> Walks:
        """New walks, half of them with all agents from one place as when reading a series."""
        agents = len(self.config.fsus)
        phantom, last = rng.random(count) < self.phantom_share, len(self.targets)
        made = rng.integers(max(self.phantoms, 1), size=count)
        real = rng.integers(min(self.phantoms, last - 1), last, size=count)
        volume = np.where(phantom, made, real)
        share = rng.uniform(0.1, 0.9, (count, agents, 3))
        together = rng.random(count) < 0.5
        share[together] = share[together, :1]
        return Walks.begin(volume, (share * self.atlas.shapes[volume][:, None]).astype(np.int64))

    def experts(self, walks: Walks) -> NDArray[np.int64]:
        """(E, A): the move that brings each agent nearest to its disc; any where its place is unknown."""
        away = np.nan_to_num(self.targets[walks.volume] - walks.position)
        axis = np.abs(away).argmax(axis=2)
        forward = np.take_along_axis(away, axis[..., None], axis=2)[..., 0] > 0
        return np.asarray(2 * axis + forward)

    def distance(self, walks: Walks, position: NDArray[np.int64]) -> NDArray[np.float64]:
        """(E, A) voxels from `position` (E, A, 3) to the discs; nan where unknown."""
        return np.asarray(np.linalg.norm(position - self.targets[walks.volume], axis=2))

    def move(
        self, network: RlLocaliser, running: Running, rng: np.random.Generator, expert_share: float, random_share: float
    ) -> Moves:
        """One move of all walks, and new walks in the places of those that are over."""
        walks, config = running.walks, self.config
        seen = see(network, self.atlas, walks)
        chance = rng.random(walks.stage.shape)
        drawn = rng.integers(len(MOVES), size=walks.stage.shape)
        action = np.where(chance < expert_share, self.experts(walks), seen.values.argmax(axis=2))
        action = np.where(chance > 1 - random_share, drawn, action)
        before = (walks.position.copy(), walks.stage.copy(), walks.moves.copy(), walks.done.copy())
        near = self.distance(walks, walks.position)
        led, left = advance(config, self.atlas.shapes, walks, action, seen.values.max(axis=2), seen.doubts)
        gained = (near - self.distance(walks, led)) / np.array(config.steps)[before[1]]
        moves = Moves(
            volume=walks.volume.copy(),
            position=before[0],
            stage=before[1],
            moves=before[2],
            action=action,
            reward=np.where(left, -1.0, np.nan_to_num(gained)).astype(np.float32),
            after=walks.position.copy(),
            stage_after=walks.stage.copy(),
            moves_after=walks.moves.copy(),
            ended=walks.done.copy(),
            counts=~before[3] & np.isfinite(near),
        )
        running.age += 1
        over = (walks.done | ~np.isfinite(near)).all(axis=1) | (running.age >= MOST_MOVES)
        if over.any():
            walks.replace(over, self.begin(rng, int(over.sum())))
            running.age[over] = 0
        return moves
