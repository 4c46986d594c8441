"""Two minutes of the fuzzer, and that it notices what it is there to notice."""

import itertools
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuzz import bounded
from tests.fuzz.case import Case, make_case
from tests.fuzz.conftest import SLICE_S, Slice
from tests.fuzz.mutations import MUTATIONS
from tests.fuzz.seeds import Seed, make_seeds


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> list[Seed]:
    return make_seeds(tmp_path_factory.mktemp("seeds"))


def test_no_spoilt_file_breaks_the_reader(fuzz_slice: Slice) -> None:
    status = fuzz_slice.process.wait()
    print(fuzz_slice.output())
    assert status == 0, fuzz_slice.output()
    assert "0 broke the promise" in fuzz_slice.output()
    (seconds,) = re.findall(r"cases in (\d+) s, ", fuzz_slice.output())
    assert int(seconds) >= SLICE_S


def test_the_same_numbers_give_the_same_file_and_others_another(seeds: list[Seed]) -> None:
    first = [make_case(3, index, seeds) for index in range(50)]
    assert first == [make_case(3, index, seeds) for index in range(50)]
    assert first != [make_case(4, index, seeds) for index in range(50)]
    assert {case.level for case in first} == {"instance", "alone", "series"}


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_every_mutation_spoils_most_files(seeds: list[Seed], mutation: Callable[..., bytes]) -> None:
    import random

    changed = [mutation(random.Random(n), seed.file, seeds[0].file) != seed.file for n, seed in enumerate(seeds * 3)]
    assert sum(changed) > 0.6 * len(changed)


def spin(case: Case, folder: Path) -> str:
    return next(str(n) for n in itertools.count() if n < 0)


def hoard(case: Case, folder: Path) -> str:
    return str(len(bytearray(2 * bounded.MEMORY_BYTES)))


def die(case: Case, folder: Path) -> str:
    os.abort()


def blunder(case: Case, folder: Path) -> str:
    return str({}["absent"])


@pytest.mark.parametrize(
    ("misbehave", "outcome"),
    [(spin, "hang"), (hoard, "unhandled MemoryError"), (die, "crash by SIGABRT"), (blunder, "unhandled KeyError")],
)
def test_what_breaks_the_promise_is_told_and_the_rest_goes_on(
    seeds: list[Seed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, misbehave: Callable[[Case, Path], str], outcome: str
) -> None:
    def run(case: Case, folder: Path) -> str:
        return misbehave(case, folder) if case.index == 2 else "accepted"

    monkeypatch.setattr(bounded, "run_case", run)
    results = list(bounded.run_cases(0, iter(range(5)), seeds, tmp_path))
    assert [result.index for result in results] == [0, 1, 2, 3, 4]
    assert [result.outcome for result in results if result.failure] == [outcome]
    assert results[2].outcome == outcome
