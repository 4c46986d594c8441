"""What a job costs the servers, and what that comes to for many."""

from pathlib import Path

import pytest

from bench.counters import Counts
from bench.scale import Load, rows
from bench.standin import STEP_S, paint


def test_counts_are_added_and_taken_away_by_name() -> None:
    one, two = Counts({"a": 3.0, "b": 1.0}), Counts({"a": 1.0, "c": 2.0})
    assert (one - two).numbers == {"a": 2.0, "b": 1.0, "c": -2.0}
    assert (one + two).numbers == {"a": 4.0, "b": 1.0, "c": 2.0}
    assert one.times(2.0).numbers == {"a": 6.0, "b": 2.0}
    assert (one - two).at_least_nothing().numbers == {"a": 2.0, "b": 1.0, "c": 0.0}


def test_a_second_of_many_gpus_is_their_jobs_and_their_waiting() -> None:
    load = Load(Counts({"w": 20.0}), {10.0: Counts({"w": 40.0}), 4.0: Counts({"w": 20.0})}, Counts({"w": 0.5, "r": 3.0}), 6.0, {})
    # 1000 GPUs at 10 s each do 100 jobs a second: 100 × (20 + 40), and 1000 × 0.5.
    assert load.each_second(1000, 10.0).numbers == pytest.approx({"w": 6500.0, "r": 3000.0})
    assert load.each_second(1000, 4.0).numbers == pytest.approx({"w": 10500.0, "r": 3000.0})
    first = rows(load, 1000)[0]
    assert first == {
        "what": "r",
        "accept": 0.0,
        "idle worker a second": 3.0,
        "job of 10 s": 0.0,
        "job of 4 s": 0.0,
        "1000 at 10 s, a second": pytest.approx(3000.0),
        "1000 at 4 s, a second": pytest.approx(3000.0),
    }


def test_the_stand_in_sleeps_tells_and_writes_what_the_pipeline_writes(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    for number in range(18):
        (source / f"{number}").write_bytes(b"slice")
    told: list[tuple[str, float]] = []
    report = paint(source, {"steps": 2}, out, progress=lambda stage, fraction: told.append((stage, fraction)))
    assert told == [("sample", 0.0), ("sample", 0.5)]
    assert report["timings_s"]["sample"] >= 2 * STEP_S
    written = sorted(path.relative_to(out / "sample-01").as_posix() for path in out.rglob("*") if path.is_file())
    assert len(written) == 18 + 4
    assert {"labels/edit.dcm", "labels/report.dcm", "preview.png", "report.json", "series/0001.dcm"} < set(written)
