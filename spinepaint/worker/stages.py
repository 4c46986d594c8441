"""How far a job is, and what each stage took."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from spinepaint.traces import span

T = TypeVar("T")

Progress = Callable[[str, float], None]
"""Hears the stage's name and the share of the whole job, from 0 to 1; may raise to stop the job."""

# Share of a sample's time at the start of each of its stages: sampling is nearly all of it.
_STARTS = {"landmark": 0.0, "crop": 0.01, "sample": 0.02, "paste": 0.93, "verify": 0.95, "write": 0.97}
_PREPARATION = 0.05


class Halted(Exception):
    """Another sample of the job has failed."""


class _Whole:
    """What the samples of a job tell together: each one's share done; samples that run side by side take turns to tell."""

    def __init__(self, progress: Progress | None, samples: int) -> None:
        self.progress = progress or (lambda _stage, _fraction: None)
        self.done = [0.0] * samples
        self.furthest = 0.0
        self.halted = False
        self.lock = threading.Lock()

    def tell(self, stage: str, fraction: float | None = None) -> None:
        """Report the stage, and the fraction of the whole: by default what the samples have done."""
        with self.lock:
            if self.halted:
                raise Halted
            if fraction is None:
                fraction = _PREPARATION + (1 - _PREPARATION) * sum(self.done) / len(self.done)
            self.furthest = max(self.furthest, fraction)
            self.progress(stage, self.furthest)


class Stages:
    """Runs the stages of a job, or of one of its samples, reports before each, and keeps their timings in seconds."""

    def __init__(self, progress: Progress | None, samples: int) -> None:
        self.timings_s: dict[str, float] = {}
        self._whole = _Whole(progress, samples)
        self._sample: int | None = None
        self._span = (0.0, 1.0)

    def of_sample(self, number: int) -> "Stages":
        """The stages of the n-th sample, from 1: its timings begin with those of reading and localising."""
        its = Stages(None, 1)
        its._whole, its._sample, its.timings_s = self._whole, number, dict(self.timings_s)
        return its

    def halt(self) -> None:
        """Make every sample raise Halted at its next report."""
        self._whole.halted = True

    def begin_attempt(self, number: int, attempts: int) -> None:
        """Start the n-th of at most so many attempts at a sample, from 1: each has half of the time of the one before."""
        shares = [0.5**k for k in range(attempts)]
        self._span = (sum(shares[: number - 1]) / sum(shares), sum(shares[:number]) / sum(shares))

    def run(self, stage: str, work: Callable[[], T]) -> T:
        """Do one stage's work; the time of a stage that is run again adds up."""
        self._tell(stage, 0.0)
        began = time.perf_counter()
        with span(stage):
            result = work()
        self.timings_s[stage] = round(self.timings_s.get(stage, 0.0) + time.perf_counter() - began, 3)
        if self._sample is not None and stage == "write":
            self._whole.done[self._sample - 1] = 1.0
        return result

    def within_sampling(self, share: float) -> None:
        """Report the share of the sampler's steps that are done."""
        self._tell("sample", share)

    def _tell(self, stage: str, share: float) -> None:
        if self._sample is None:
            self._whole.tell(stage, 0.0 if stage == "read" else 0.02)
            return
        self._whole.done[self._sample - 1] = self._place(stage, share)
        self._whole.tell(stage)

    def _place(self, stage: str, share: float) -> float:
        """The share of the sample that is done."""
        span = (_STARTS["paste"] - _STARTS["sample"]) if stage == "sample" else 0.0
        place = _STARTS[stage] + span * share
        begin, end = _STARTS["sample"], _STARTS["write"]
        if begin <= place < end:  # what an attempt does, within that attempt's share
            low, high = self._span
            place = begin + low * (end - begin) + (place - begin) * (high - low)
        return place
