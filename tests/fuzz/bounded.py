"""Runs cases in a process that may use so much memory and no more, and so much time a case and no more."""

import faulthandler
import mmap
import os
import resource
import signal
import struct
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from tests.forked import Child, Tell
from tests.fuzz.case import make_case, run_case
from tests.fuzz.seeds import Seed

MEMORY_BYTES = 2**29  # above what the process has when it starts
CASE_S = 2.0  # of processor time
SILENCE_S = 240.0  # of wall time, for a process that waits for something; a busy machine may take long over CASE_S
BATCH = 500  # a child's; its memory is given back with it, and its time is what --seconds may be over
_SIGNALS = {signal.SIGPROF: "hang", signal.SIGKILL: "killed"}


@dataclass(frozen=True)
class Result:
    """What became of a case; `failure` is None where the reader gave a verdict."""

    index: int
    outcome: str
    failure: str | None = None
    peak_bytes: int = 0


def run_cases(run_seed: int, indices: Iterator[int], seeds: list[Seed], folder: Path) -> Iterator[Result]:
    """Run cases in children of this process, one after another; a child that dies takes one case with it."""
    batch: list[int] = []
    while batch := batch or [index for _, index in zip(range(BATCH), indices, strict=False)]:
        done = 0
        for result in _run_batch(run_seed, batch, seeds, folder):
            done += 1
            yield result
        batch = batch[done:]


def _run_batch(run_seed: int, batch: list[int], seeds: list[Seed], folder: Path) -> Iterator[Result]:
    at_work = mmap.mmap(-1, 8)
    child = Child(partial(_work, run_seed, batch, seeds, folder, at_work), MEMORY_BYTES, SILENCE_S)
    yield from (Result(**line) for line in child.told())
    status = child.status or 0
    if os.WIFSIGNALED(status):
        killer = os.WTERMSIG(status)
        name = _SIGNALS.get(signal.Signals(killer), f"crash by {signal.Signals(killer).name}")
        yield Result(struct.unpack("q", at_work[:8])[0], name, f"the process ended: {name}")
    elif status:
        yield Result(struct.unpack("q", at_work[:8])[0], "crash", f"the process ended with status {status}")


def _work(run_seed: int, batch: list[int], seeds: list[Seed], folder: Path, at_work: mmap.mmap, tell: Tell) -> None:
    """The child's. What decoders print is of no interest, what a case raises is."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    faulthandler.disable()  # it keeps a stderr of its own
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for index in batch:
        at_work[:8] = struct.pack("q", index)
        case = make_case(run_seed, index, seeds)
        signal.setitimer(signal.ITIMER_PROF, CASE_S)
        try:
            told = Result(index, run_case(case, folder))
        except BaseException as error:
            told = Result(index, f"unhandled {type(error).__name__}", _where(error))
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0.0)
        tell(asdict(replace(told, peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)))


def _where(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    return f"{error!s:.200} in " + " < ".join(f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in reversed(frames))
