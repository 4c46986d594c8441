"""Runs cases in a process that may use so much memory and no more, and so much time a case and no more."""

import json
import mmap
import os
import resource
import select
import signal
import struct
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from spinepaint.app.memory import limit_memory
from tests.fuzz.case import make_case, run_case
from tests.fuzz.seeds import Seed

MEMORY_BYTES = 2**29  # above what the process has when it starts
CASE_S = 2.0  # of processor time
SILENCE_S = 60.0  # of wall time, for a process that waits for something
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
    ear, mouth = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ear)
        _work(run_seed, batch, seeds, folder, at_work, mouth)
    os.close(mouth)
    with os.fdopen(ear, "rb", buffering=0) as lines:
        pending = b""
        while select.select([lines], [], [], SILENCE_S)[0]:
            heard = lines.read(2**16)
            if not heard:
                break
            *whole, pending = (pending + heard).split(b"\n")
            yield from (Result(**json.loads(line)) for line in whole)
        else:
            os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        killer = os.WTERMSIG(status)
        name = _SIGNALS.get(signal.Signals(killer), f"crash by {signal.Signals(killer).name}")
        yield Result(struct.unpack("q", at_work[:8])[0], name, f"the process ended: {name}")
    elif status:
        yield Result(struct.unpack("q", at_work[:8])[0], "crash", f"the process ended with status {status}")


def _work(run_seed: int, batch: list[int], seeds: list[Seed], folder: Path, at_work: mmap.mmap, mouth: int) -> None:
    """The child: never returns. What decoders print is of no interest, what a case raises is."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    warnings.simplefilter("ignore")
    limit_memory(MEMORY_BYTES)
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
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        line = json.dumps({"index": told.index, "outcome": told.outcome, "failure": told.failure, "peak_bytes": peak})
        os.write(mouth, line.encode() + b"\n")
    os._exit(0)


def _where(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    return f"{error!s:.200} in " + " < ".join(f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in reversed(frames))
