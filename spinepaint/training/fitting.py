"""The training loop that every network shares: steps, checkpoints, exact resume, progress.

A task draws everything random from the step's number, so a run that was killed and resumed gives the
same weights as an unbroken one, and a checkpoint holds weights, optimiser and step, no generator state.
"""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Stateful(Protocol):
    """What a checkpoint can hold: a module, an optimiser, an average of weights."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that is needed to go on."""

    def load_state_dict(self, state_dict: Any) -> Any:
        """Go on from `state_dict`."""


class Task(Protocol):
    """One network's training: what to keep, one optimiser step, and a validation."""

    def parts(self) -> Mapping[str, Stateful]:
        """Everything that a checkpoint keeps, by name."""

    def step(self, number: int) -> dict[str, float]:
        """One optimiser step; its losses. All randomness comes from `number` and the seed."""

    def validate(self) -> dict[str, float]:
        """Figures on data that is never trained on."""


def generator_for(seed: int, number: int) -> np.random.Generator:
    """The random numbers of one training step, a function of the seed and the step alone."""
    return np.random.default_rng((seed, number))


def cosine_rate(number: int, steps: int, *, top: float, bottom: float, warm_up: int = 100) -> float:
    """Learning rate of a step: a linear warm-up, then half a cosine from `top` to `bottom`."""
    if number < warm_up:
        return top * (number + 1) / warm_up
    turn = (number - warm_up) / max(steps - warm_up, 1)
    return bottom + 0.5 * (top - bottom) * float(1 + np.cos(np.pi * turn))


def save_checkpoint(task: Task, folder: Path, step: int, minutes: float) -> Path:
    """Write `checkpoint.pt` atomically: a kill while writing leaves the previous one."""
    path, partial = folder / "checkpoint.pt", folder / "checkpoint.partial"
    state = {name: part.state_dict() for name, part in task.parts().items()}
    torch.save({"step": step, "minutes": minutes, "parts": state}, partial)
    partial.replace(path)
    return path


def load_checkpoint(task: Task, folder: Path) -> tuple[int, float]:
    """Load `checkpoint.pt` into the task where there is one; (next step, minutes trained), else (0, 0)."""
    path = folder / "checkpoint.pt"
    if not path.exists():
        return 0, 0.0
    state = torch.load(path, map_location="cpu", weights_only=True)
    for name, part in task.parts().items():
        part.load_state_dict(state["parts"][name])
    return int(state["step"]), float(state["minutes"])


def fit(
    task: Task,
    folder: Path,
    steps: int,
    *,
    checkpoint_minutes: float = 5.0,
    validate_every: int = 500,
    max_minutes: float | None = None,
) -> dict[str, float]:
    """Run or resume a training to `steps`, or until `max_minutes` of this call are over.

    Writes `checkpoint.pt` and `log.jsonl` into `folder`, shows a progress bar with the time left, and
    returns the last validation with the steps and minutes trained in all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    start, earlier = load_checkpoint(task, folder)
    began = saved = time.monotonic()
    number = start
    recent: dict[str, float] = {}
    with _progress() as (bar, log):
        row = bar.add_task("", total=steps, completed=start)
        for number in range(start, steps):
            losses = task.step(number)
            recent = {name: 0.98 * recent.get(name, value) + 0.02 * value for name, value in losses.items()}
            now = time.monotonic()
            bar.update(row, completed=number + 1, description=_words(recent))
            if (number + 1) % validate_every == 0:
                log(folder, number + 1, earlier + (now - began) / 60, {**recent, **task.validate()})
            if now - saved > 60 * checkpoint_minutes:
                save_checkpoint(task, folder, number + 1, earlier + (now - began) / 60)
                saved = now
            if max_minutes is not None and now - began > 60 * max_minutes:
                break
    minutes = earlier + (time.monotonic() - began) / 60
    done = max(number + 1, start) if steps > start else start
    save_checkpoint(task, folder, done, minutes)
    figures = {**recent, **task.validate(), "steps": float(done), "minutes": round(minutes, 1)}
    log(folder, done, minutes, figures)
    return figures


def _words(figures: Mapping[str, float]) -> str:
    return " ".join(f"{name} {value:.4f}" for name, value in figures.items())


@contextmanager
def _progress() -> Iterator[tuple[Progress, Any]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, refresh_per_second=1) as bar:

        def log(folder: Path, step: int, minutes: float, figures: Mapping[str, float]) -> None:
            with (folder / "log.jsonl").open("a") as lines:
                lines.write(json.dumps({"step": step, "minutes": round(minutes, 2), **figures}) + "\n")
            bar.console.print(f"step {step}: {_words(figures)}")

        yield bar, log
