"""How far a job is, and what each stage took."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

Progress = Callable[[str, float], None]
"""Hears the stage's name and the share of the whole job, from 0 to 1; may raise to stop the job."""

# Share of a sample's time at the start of each of its stages: sampling is nearly all of it.
_STARTS = {"landmark": 0.0, "crop": 0.01, "sample": 0.02, "paste": 0.93, "verify": 0.95, "write": 0.97}
_PREPARATION = 0.05


class Stages:
    """Runs the stages of a job, reports progress before each, and keeps their timings in seconds."""

    def __init__(self, progress: Progress | None, samples: int) -> None:
        self._progress = progress or (lambda _stage, _fraction: None)
        self._samples = samples
        self._sample = 1
        self._span = (0.0, 1.0)
        self._furthest = 0.0
        self._shared_s: dict[str, float] = {}
        self.timings_s: dict[str, float] = self._shared_s

    def begin_sample(self, number: int) -> None:
        """Start the n-th sample, from 1: its timings begin with those of reading and localising."""
        self._sample = number
        self.timings_s = dict(self._shared_s)
        self._span = (0.0, 1.0)

    def begin_attempt(self, number: int, attempts: int) -> None:
        """Start the n-th of at most so many attempts at a sample, from 1: each has half of the time of the one before."""
        shares = [0.5**k for k in range(attempts)]
        self._span = (sum(shares[: number - 1]) / sum(shares), sum(shares[:number]) / sum(shares))

    def run(self, stage: str, work: Callable[[], T]) -> T:
        """Do one stage's work; the time of a stage that is run again adds up."""
        self._tell(stage, 0.0)
        began = time.perf_counter()
        result = work()
        self.timings_s[stage] = round(self.timings_s.get(stage, 0.0) + time.perf_counter() - began, 3)
        return result

    def within_sampling(self, share: float) -> None:
        """Report the share of the sampler's steps that are done."""
        self._tell("sample", share)

    def _tell(self, stage: str, share: float) -> None:
        self._furthest = max(self._furthest, self._fraction(stage, share))
        self._progress(stage, self._furthest)

    def _fraction(self, stage: str, share: float) -> float:
        if stage not in _STARTS:
            return 0.0 if stage == "read" else 0.02
        span = (_STARTS["paste"] - _STARTS["sample"]) if stage == "sample" else 0.0
        place = _STARTS[stage] + span * share
        begin, end = _STARTS["sample"], _STARTS["write"]
        if begin <= place < end:  # what an attempt does, within that attempt's share
            low, high = self._span
            place = begin + low * (end - begin) + (place - begin) * (high - low)
        within = (self._sample - 1 + place) / self._samples
        return _PREPARATION + (1 - _PREPARATION) * within
