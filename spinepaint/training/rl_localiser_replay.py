"""What the agents lived through: a ring of moves, small since views are cut again from places whenever they are needed."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from spinepaint.models.rl_localiser import MEMORY
from spinepaint.models.rl_localiser_walk import Walks


@dataclass
class Moves:
    """One move of every agent of E walks: before, what was done and what it brought, after.

    Attributes
    ----------
    volume: (E,). position, after: (E, A, 3). stage, stage_after: (E, A). moves, moves_after: (E, A, MEMORY).
    action: (E, A). reward: (E, A), what the agent came nearer, in steps; -1 for a move out of the image.
    ended: (E, A), whether the walk was over with it.
    counts: (E, A), whether there was a move to learn from: the agent was under way and its disc's place is known.
    """

    volume: NDArray[np.int64]
    position: NDArray[np.int64]
    stage: NDArray[np.int64]
    moves: NDArray[np.int64]
    action: NDArray[np.int64]
    reward: NDArray[np.float32]
    after: NDArray[np.int64]
    stage_after: NDArray[np.int64]
    moves_after: NDArray[np.int64]
    ended: NDArray[np.bool_]
    counts: NDArray[np.bool_]


class Replay:
    """The latest `capacity` moves. Part of the checkpoint, so that a resumed run learns from the same ones."""

    def __init__(self, capacity: int, agents: int) -> None:
        sides = {"volume": (), "position": (agents, 3), "after": (agents, 3)}
        sides |= dict.fromkeys(("moves", "moves_after"), (agents, MEMORY))
        kinds: dict[str, Any] = {"reward": np.float32, "ended": np.bool_, "counts": np.bool_}
        self.rows = {
            item.name: np.zeros((capacity, *sides.get(item.name, (agents,))), kinds.get(item.name, np.int16))
            for item in fields(Moves)
        }
        self.capacity, self.added = capacity, 0

    def __len__(self) -> int:
        return min(self.added, self.capacity)

    def add(self, moves: Moves) -> None:
        """Put moves in, in the place of the oldest where it is full."""
        count = len(moves.volume)
        where = (self.added + np.arange(count)) % self.capacity
        for name, rows in self.rows.items():
            rows[where] = getattr(moves, name)
        self.added += count

    def draw(self, rng: np.random.Generator, count: int) -> Moves:
        """`count` moves, with repetition."""
        where = rng.integers(len(self), size=count)
        taken: dict[str, Any] = {name: rows[where] for name, rows in self.rows.items()}
        return Moves(**{name: rows.astype(np.int64) if rows.dtype == np.int16 else rows for name, rows in taken.items()})

    def state_dict(self) -> dict[str, Any]:
        """Everything, as tensors."""
        return {"added": self.added, **{name: torch.from_numpy(rows[: len(self)].copy()) for name, rows in self.rows.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from `state_dict`, of a replay of the same capacity."""
        self.added = int(state_dict["added"])
        for name, rows in self.rows.items():
            rows[: len(self)] = state_dict[name].numpy()


class Running:
    """The walks under way and how many moves each has made: part of the checkpoint too."""

    def __init__(self, walks: Walks) -> None:
        self.walks = walks
        self.age = np.zeros(len(walks.volume), np.int64)

    def state_dict(self) -> dict[str, Any]:
        """Everything, as tensors."""
        walks = {item.name: torch.from_numpy(getattr(self.walks, item.name).copy()) for item in fields(Walks)}
        return {"age": torch.from_numpy(self.age.copy()), **walks}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.age = state_dict["age"].numpy().copy()
        self.walks = Walks(**{item.name: state_dict[item.name].numpy().copy() for item in fields(Walks)})
