"""Runs the reader under a limit of memory and of time that a hostile file would have to break to do harm."""

import json
import os
import signal
import warnings
from pathlib import Path

from spinepaint.app.memory import limit_memory
from spinepaint.imaging.caps import DEFAULT_CAPS, Caps
from spinepaint.imaging.reading import check

MIB = 2**20


def refusal_within(source: Path, *, memory_mib: int, seconds: float = 10.0, caps: Caps = DEFAULT_CAPS) -> str | None:
    """The type of the refusal of `source`, judged by a child that may use so much more memory than this, and so much time.

    Fails where the child did not live to tell.
    """
    ear, mouth = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ear)
        status = 1
        try:
            warnings.simplefilter("ignore")
            limit_memory(memory_mib * MIB)
            signal.setitimer(signal.ITIMER_PROF, seconds)
            refusal = check(source, caps=caps).refusal
            os.write(mouth, json.dumps(refusal.type if refusal else None).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(mouth)
    with os.fdopen(ear) as told:
        answer = told.read()
    _, status = os.waitpid(child, 0)
    assert status == 0, f"the reader ended with wait status {status} instead of an answer"
    found: str | None = json.loads(answer)
    return found
