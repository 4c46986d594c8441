"""How fast phantoms are made, in volumes a second of this machine's two cores.

`python -m bench.phantom [--runs 3]`. The promise is two volumes a second on two cores, written to disk with their exact
segmentation. Seconds are CPU seconds of this process, so that a busy machine counts little; the ratio is to the noise alone,
which no phantom of the size can do without: two normal numbers a voxel, drawn in the same round.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from spinepaint.training.phantom import make_phantom
from spinepaint.training.phantom.examinations import Examination, write_examination, write_examinations

SEEDS = range(40, 48)
LESIONS = {"L4-L5": ("disc_herniation", "moderate_large")}
PROMISED_PER_S = 2.0
LARGE = {"slices": 19, "matrix": 400, "pixel_mm": 0.7}


def measure(runs: int) -> dict[str, float]:
    """Median CPU seconds a volume, its ratio to drawing its noise, and volumes a second on two cores."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        rounds = [_round(folder) for _ in range(runs + 1)][1:]  # the first one warms up
        together = _wall(lambda: list(write_examinations([Examination(s, LESIONS) for s in SEEDS], folder / "two", 2)))
    made, large, written, noise = (statistics.median(seconds) for seconds in zip(*rounds, strict=True))
    return {
        "make_s": made,
        "make_19x400x400_s": large,
        "make_and_write_s": written,
        "noise_alone_s": noise,
        "ratio_make_to_noise": made / noise,
        "per_s_on_two_cores": 2.0 / written,
        "per_s_promised": PROMISED_PER_S,
        "per_s_by_two_processes_now": len(SEEDS) / together,
    }


def _round(folder: Path) -> tuple[float, float, float, float]:
    shapes = []
    made = _cpu(lambda: shapes.extend(make_phantom(seed, LESIONS).voxels.shape for seed in SEEDS))
    large = _cpu(lambda: make_phantom(SEEDS[0], LESIONS, **LARGE))
    written = _cpu(lambda: [write_examination(Examination(seed, LESIONS), folder) for seed in SEEDS])
    rng = np.random.default_rng(0)
    noise = _cpu(lambda: [rng.standard_normal((2, *shape), dtype=np.float32) for shape in shapes])
    return made / len(SEEDS), large, written / len(SEEDS), noise / len(SEEDS)


def _cpu(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def _wall(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    for name, value in measure(parser.parse_args().runs).items():
        print(f"{name:<44} {value:>10.3f}")


if __name__ == "__main__":
    main()
