"""Feeds spoilt files to the reader: `python -m tests.fuzz --cases 100000`.

It lies in `tests/` since it is a test that is longer than the others: it uses their factories, and a slice of it runs among
them. Each case is told by two numbers, the run's seed and its own; `--only N` runs that one again.

The promise that is held to: no crash, no case over 2 s of processor time, no more memory than the process may have, always
a verdict with a reason. A case that breaks it is kept in `--keep` with its numbers and what happened, to become a test in
`tests/imaging/test_fuzz_findings.py`.
"""

import argparse
import itertools
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.fuzz.bounded import MEMORY_BYTES, Result, run_cases
from tests.fuzz.case import make_case
from tests.fuzz.seeds import Seed, make_seeds

SHARED_MEMORY = Path("/dev/shm")  # each case writes its files anew
PROGRESS_CASES = 5000


def main() -> int:
    """Run the cases and print what came of them; 1 where one of them broke the promise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0, help="begin with this case, to go on where a run ended")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this long, whatever --cases says")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="this one case")
    parser.add_argument("--keep", type=Path, default=Path("out/fuzz"), help="where failing cases go")
    options = parser.parse_args()
    began = time.monotonic()
    results: list[Result] = []
    where = SHARED_MEMORY if SHARED_MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="spinepaint-fuzz-", dir=where) as folder:
        seeds = make_seeds(Path(folder) / "seeds")
        last = options.first + options.cases
        numbers = iter(range(options.first, last) if options.only is None else [options.only])
        for result in run_cases(options.seed, _until(numbers, began + options.seconds), seeds, Path(folder)):
            results.append(result)
            if result.failure is not None:
                _keep(result, options.seed, seeds, options.keep)
            if len(results) % PROGRESS_CASES == 0:
                print(f"{len(results)} cases in {time.monotonic() - began:.0f} s", flush=True)
        _print_table(results, options.seed, seeds)
    elapsed = time.monotonic() - began
    failures = [result for result in results if result.failure is not None]
    peak = max((result.peak_bytes for result in results), default=0)
    print(f"{len(results)} cases in {elapsed:.0f} s, {len(results) / elapsed:.0f} a second; {len(failures)} broke the promise")
    print(f"largest process {peak / 2**20:.0f} MiB, of which its cases may have {MEMORY_BYTES / 2**20:.0f} MiB")
    for failure in failures[:50]:
        print(f"  --seed {options.seed} --only {failure.index}: {failure.outcome}: {failure.failure}")
    return 1 if failures else 0


def _until(numbers: Iterator[int], deadline: float) -> Iterator[int]:
    return itertools.takewhile(lambda _: time.monotonic() < deadline, numbers)


def _keep(result: Result, run_seed: int, seeds: list[Seed], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    case = make_case(run_seed, result.index, seeds)
    stem = folder / f"{run_seed}-{result.index}"
    stem.with_suffix(".bin").write_bytes(case.file)
    told = {
        "seed": run_seed, "index": result.index, "from": case.seed_name, "mutation": case.mutation,
        "level": case.level, "outcome": result.outcome, "failure": result.failure,
    }  # fmt: skip
    stem.with_suffix(".json").write_text(json.dumps(told, indent=2))


def _print_table(results: list[Result], run_seed: int, seeds: list[Seed]) -> None:
    print(f"{'outcome':<48} cases")
    for outcome, count in Counter(result.outcome for result in results).most_common():
        print(f"{outcome:<48} {count:>6}")


if __name__ == "__main__":
    sys.exit(main())
