"""What a command does when it is asked to end."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from spinepaint.app.cli.output import EXIT_FAILED


@contextmanager
def unwound_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does, so that what it had begun is removed."""

    def terminated(_signum: int, _frame: FrameType | None) -> None:
        raise SystemExit(EXIT_FAILED)

    previous = signal.signal(signal.SIGTERM, terminated)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
