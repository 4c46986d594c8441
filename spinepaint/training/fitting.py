"""The training loop that every network shares: steps, checkpoints, exact resume, curves, progress.

A task draws everything random from the step's number, so a run that was killed and resumed gives the
same weights as an unbroken one, and a checkpoint holds weights, optimiser and step, no generator state.
"""

import json
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from safetensors.torch import save_file
from torch import nn

from spinepaint.training import parallel


class Stateful(Protocol):
    """What a checkpoint can hold: a module, an optimiser, an average of weights."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that is needed to go on."""

    def load_state_dict(self, state_dict: Any) -> Any:
        """Go on from `state_dict`."""


class Task(Protocol):
    """One network's training: what to keep, one optimiser step, and a validation.

    A task may also have `pictures() -> dict[str, array (rows, columns) from 0 to 1]`, drawn at each validation.
    """

    def parts(self) -> Mapping[str, Stateful]:
        """Everything that a checkpoint keeps, by name."""

    def step(self, number: int) -> dict[str, float]:
        """One optimiser step; its losses. All randomness comes from `number` and the seed."""

    def validate(self) -> dict[str, float]:
        """Figures on data that is never trained on."""


def generator_for(seed: int, number: int) -> np.random.Generator:
    """The random numbers of one training step: a function of the seed, the step and the process's rank alone."""
    rank = parallel.rank()
    return np.random.default_rng((seed, number, rank) if rank else (seed, number))


def cosine_rate(number: int, steps: int, *, top: float, bottom: float, warm_up: int = 100) -> float:
    """Learning rate of a step: a linear warm-up, then half a cosine from `top` to `bottom`."""
    if number < warm_up:
        return top * (number + 1) / warm_up
    turn = (number - warm_up) / max(steps - warm_up, 1)
    return bottom + 0.5 * (top - bottom) * float(1 + np.cos(np.pi * turn))


def save_checkpoint(task: Task, folder: Path, step: int, minutes: float, patience: "Patience | None" = None) -> Path:
    """Write `checkpoint.pt` atomically: a kill while writing leaves the previous one."""
    path, partial = folder / "checkpoint.pt", folder / "checkpoint.partial"
    state = {name: part.state_dict() for name, part in task.parts().items()}
    waited = {"best": patience.best, "waited": patience.waited} if patience else {}
    torch.save({"step": step, "minutes": minutes, "parts": state, **waited}, partial)
    partial.replace(path)
    return path


def load_checkpoint(task: Task, folder: Path, patience: "Patience | None" = None) -> tuple[int, float]:
    """Load `checkpoint.pt` into the task where there is one; (next step, minutes trained), else (0, 0)."""
    path = folder / "checkpoint.pt"
    if not path.exists():
        return 0, 0.0
    state = torch.load(path, map_location="cpu", weights_only=True)
    for name, part in task.parts().items():
        part.load_state_dict(state["parts"][name])
    if patience and "best" in state:
        patience.best, patience.waited = float(state["best"]), int(state["waited"])
    return int(state["step"]), float(state["minutes"])


@dataclass
class Patience:
    """Early stopping: over once the watched figures' mean has not fallen for `validations` in a row.

    figures: names of validation figures where less is better.
    """

    figures: tuple[str, ...]
    validations: int
    best: float = math.inf
    waited: int = 0

    def over(self, validation: Mapping[str, float]) -> bool:
        """Take a validation in; whether it is time to stop."""
        value = float(np.mean([validation[name] for name in self.figures]))
        self.best, self.waited = (value, 0) if value < self.best else (self.best, self.waited + 1)
        return self.waited >= self.validations


def fit(
    task: Task,
    folder: Path,
    steps: int,
    *,
    checkpoint_minutes: float = 5.0,
    validate_every: int = 500,
    max_minutes: float | None = None,
    patience: Patience | None = None,
) -> dict[str, float]:
    """Run or resume a training to `steps`, or until `max_minutes` of this call are over, or `patience` is.

    Writes `checkpoint.pt`, `log.jsonl` and TensorBoard curves into `folder`, shows a progress bar with the time left, and
    returns the last validation with the steps and minutes trained in all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    start, earlier = load_checkpoint(task, folder, patience)
    began = saved = time.monotonic()
    number = start
    with _journal(folder, start, steps) as journal:

        def minutes() -> float:
            return earlier + (time.monotonic() - began) / 60

        for number in range(start, steps):
            journal.step(number, task.step(number))
            stop = False
            if (number + 1) % validate_every == 0:
                figures = task.validate()
                journal.validation(task, number + 1, minutes(), figures)
                stop = patience is not None and patience.over(figures)
            if time.monotonic() - saved > 60 * checkpoint_minutes and parallel.rank() == 0:
                save_checkpoint(task, folder, number + 1, minutes(), patience)
                saved = time.monotonic()
            if stop or (max_minutes is not None and time.monotonic() - began > 60 * max_minutes):
                break
        done = max(number + 1, start) if steps > start else start
        if parallel.rank() == 0:
            save_checkpoint(task, folder, done, minutes(), patience)
        figures = task.validate()
        journal.validation(task, done, minutes(), figures)
    return {**journal.recent, **figures, "steps": float(done), "minutes": round(minutes(), 1)}


class _Journal:
    """What a person watches: the bar, the log, the curves. Only the first process writes."""

    def __init__(self, folder: Path, bar: Progress, row: TaskID, board: Any) -> None:
        self.folder, self.bar, self.row, self.board = folder, bar, row, board
        self.recent: dict[str, float] = {}

    def step(self, number: int, losses: Mapping[str, float]) -> None:
        self.recent = {name: 0.98 * self.recent.get(name, value) + 0.02 * value for name, value in losses.items()}
        self.bar.update(self.row, completed=number + 1, description=_words(self.recent))
        if self.board is not None and number % 20 == 0:
            for name, value in losses.items():
                self.board.add_scalar(f"train/{name}", value, number)

    def validation(self, task: Task, step: int, minutes: float, figures: Mapping[str, float]) -> None:
        if self.board is None:
            return
        both = {**self.recent, **figures}
        with (self.folder / "log.jsonl").open("a") as lines:
            lines.write(json.dumps({"step": step, "minutes": round(minutes, 2), **both}) + "\n")
        self.bar.console.print(f"step {step}: {_words(both)}")
        for name, value in figures.items():
            self.board.add_scalar(f"validation/{name}", value, step)
        pictures: Mapping[str, NDArray[np.float32]] = task.pictures() if hasattr(task, "pictures") else {}
        for name, picture in pictures.items():
            self.board.add_image(name, picture[None], step)
        self.board.flush()


def _words(figures: Mapping[str, float]) -> str:
    return " ".join(f"{name} {value:.4f}" for name, value in figures.items())


@contextmanager
def _journal(folder: Path, start: int, steps: int) -> Iterator[_Journal]:
    # Imported here: TensorBoard takes seconds, and only a run that starts needs it.
    from torch.utils.tensorboard import SummaryWriter

    first = parallel.rank() == 0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    board = SummaryWriter(str(folder / "board"), purge_step=start) if first else None
    try:
        with Progress(*columns, refresh_per_second=1, disable=not first) as bar:
            yield _Journal(folder, bar, bar.add_task("", total=steps, completed=start), board)
    finally:
        if board is not None:
            board.close()


def write_run(folder: Path, name: str, network: nn.Module, model: Mapping[str, Any], facts: Mapping[str, Any]) -> Path:
    """Write what a bundle takes from a finished run, and how it went: `<name>.safetensors`, `config.json` and `facts.json`.

    Returns the path of the weights.
    """
    weights = folder / f"{name}.safetensors"
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, weights)
    for file, values in (("config.json", model), ("facts.json", facts)):
        (folder / file).write_text(json.dumps(values, indent=2) + "\n")
    return weights
