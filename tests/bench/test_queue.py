"""A short queue against a shorter one: that every call can be measured, and that none reads all of it many times over."""

from pathlib import Path

from bench.queue import COUNTED, filled, measure, slow
from bench.ratios import Ratio, over
from spinepaint.store import JobState


def test_a_ledger_is_filled_with_as_many_jobs_as_were_asked(tmp_path: Path) -> None:
    with filled(f"sqlite:///{tmp_path / 'ledger.sqlite3'}", 9) as place:
        assert place.ledger.queue_depth() == 9
        assert place.ledger.queue_depth("a") == 5
        assert place.owner.count_states()[JobState.QUEUED] == 5
        assert place.ledger.pending_announcements() == []


def test_a_longer_queue_costs_no_more(tmp_path: Path) -> None:
    urls = [f"sqlite:///{tmp_path / name}.sqlite3" for name in ("few", "many")]
    ratios = measure(*urls, few=10, many=1000, rounds=7)
    assert len({ratio.name for ratio in ratios}) == len(ratios) > 10
    assert {ratio.name for ratio in ratios} > COUNTED
    # By the CPU's time, which neighbours hardly change; what reads all of the queue row by row takes ten times as long.
    assert over(ratios, 4.0) == []


def test_what_counts_may_cost_a_little_more_a_job() -> None:
    counted = min(COUNTED)
    ratios = [Ratio("claim", 1.0, 1.6), Ratio("list", 1.0, 1.4), Ratio(counted, 1.0, 3.0), Ratio(counted, 1.0, 30.0)]
    assert slow(ratios, 1.5, more_ms=5.0) == [ratios[0], ratios[3]]
