"""How the benches compare, and when they fail."""

import math

import pytest

from bench.ratios import Case, Ratio, compare, over, percentile, slope, table


class Clock:
    """Tells a time that only calls move on."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def takes(self, seconds: float) -> Case:
        def call() -> None:
            self.now += seconds

        return Case(call)


def test_medians_are_compared_and_what_is_undone_is_not_timed() -> None:
    clock, undone = Clock(), []

    def undo(result: object) -> None:
        undone.append(result)
        clock.now += 100.0

    small = Case(clock.takes(0.002).call, undo)
    found = compare("claim", small, clock.takes(0.003), rounds=5, clock=clock, warm_up=1)
    assert (found.small_ms, found.large_ms) == pytest.approx((2.0, 3.0))
    assert found.ratio == pytest.approx(1.5)
    assert len(undone) == 6


def test_what_is_over_the_limit_is_named() -> None:
    ratios = [Ratio("a", 1.0, 1.5), Ratio("b", 1.0, 1.6)]
    assert [ratio.name for ratio in over(ratios, 1.5)] == ["b"]


def test_percentiles_are_values_that_were_seen() -> None:
    values = [float(value) for value in range(1, 101)]
    assert [percentile(values, p) for p in (50, 95, 99, 100)] == [50.0, 95.0, 99.0, 100.0]
    assert percentile([3.0, 1.0, 2.0], 50) == 2.0
    assert percentile([7.0], 95) == 7.0
    assert math.isnan(percentile([], 95))


def test_a_slope_is_least_squares() -> None:
    assert slope([(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]) == pytest.approx(2.0)
    assert slope([(0.0, 1.0), (1.0, 0.0), (2.0, 1.0)]) == pytest.approx(0.0)
    assert slope([(1.0, 1.0)]) == slope([(1.0, 1.0), (1.0, 2.0)]) == 0.0


def test_a_table_is_markdown() -> None:
    assert table(("a", "b"), [{"a": "x", "b": 0.12345}, {"a": 1}]) == "| a | b |\n| --- | --- |\n| x | 0.123 |\n| 1 |  |"
