"""Runs the reader under a limit of memory and of time that a hostile file would have to break to do harm."""

import signal
from pathlib import Path

from spinepaint.imaging.caps import DEFAULT_CAPS, Caps
from spinepaint.imaging.reading import check
from tests.forked import Child, Tell

MIB = 2**20
SILENCE_S = 240.0  # of wall time, on a machine that does other things


def refusal_within(source: Path, *, memory_mib: int, seconds: float = 10.0, caps: Caps = DEFAULT_CAPS) -> str | None:
    """The type of the refusal of `source`, judged by a child that may use so much more memory, and so much processor time.

    Fails where the child did not live to tell.
    """

    def judge(tell: Tell) -> None:
        signal.setitimer(signal.ITIMER_PROF, seconds)
        refusal = check(source, caps=caps).refusal
        tell(refusal.type if refusal else None)

    child = Child(judge, memory_mib * MIB, SILENCE_S)
    told: list[str | None] = list(child.told())
    assert (child.status, len(told)) == (0, 1), f"the reader ended with wait status {child.status} instead of an answer"
    return told[0]
