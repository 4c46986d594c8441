"""Medians of calls that are measured in turn, so that whatever slows the machine slows both sides alike."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Call = Callable[[], object]
Clock = Callable[[], float]


@dataclass(frozen=True)
class Case:
    """A call to be timed, and what puts its effect right again, which is not."""

    call: Call
    undo: Callable[[object], object] | None = None


@dataclass(frozen=True)
class Ratio:
    """Median milliseconds of one thing with little and with much in its way."""

    name: str
    small_ms: float
    large_ms: float

    @property
    def ratio(self) -> float:
        """How many times as long it takes with much."""
        return self.large_ms / self.small_ms


def compare(name: str, small: Case, large: Case, rounds: int, *, clock: Clock = time.perf_counter, warm_up: int = 3) -> Ratio:
    """Time both in turn, now one first and now the other, `rounds` times each; `clock` gives seconds."""
    took_s: dict[int, list[float]] = {0: [], 1: []}
    for number in range(warm_up + rounds):
        for side in (0, 1) if number % 2 else (1, 0):
            seconds = _timed((small, large)[side], clock)
            if number >= warm_up:
                took_s[side].append(seconds)
    return Ratio(name, 1e3 * statistics.median(took_s[0]), 1e3 * statistics.median(took_s[1]))


def _timed(case: Case, clock: Clock) -> float:
    began = clock()
    result = case.call()
    seconds = clock() - began
    if case.undo is not None:
        case.undo(result)
    return seconds


def over(ratios: Sequence[Ratio], limit: float) -> list[Ratio]:
    """Those above the limit."""
    return [ratio for ratio in ratios if ratio.ratio > limit]


def percentile(values: Sequence[float], percent: float) -> float:
    """The least value that `percent` of the values do not exceed (nearest rank); NaN where there are none."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[max(0, -int(-percent * len(ordered) // 100) - 1)]


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The slope of the least-squares line through (x, y); 0 where there are fewer than two places."""
    if len(points) < 2:
        return 0.0
    mean_x = statistics.fmean(x for x, _ in points)
    mean_y = statistics.fmean(y for _, y in points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


def table(header: Sequence[str], rows: Sequence[Mapping[str, object]]) -> str:
    """A table in Markdown, a row a mapping with the header's names."""
    cells = [[_cell(row.get(name, "")) for name in header] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in [list(header), ["---"] * len(header), *cells])


def _cell(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
