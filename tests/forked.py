"""Runs work in a child of this process that may use so much memory and no more, and hears what it tells line by line."""

import json
import os
import select
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from spinepaint.app.memory import limit_memory

Tell = Callable[[Any], None]
"""Hands a JSON value to the parent."""


@dataclass
class Child:
    """A child process that runs `work(tell)` once.

    Attributes
    ----------
    memory_bytes: what it may use above what the process has when it starts.
    silence_s: wall time without a word after which it is killed, for one that waits for something.
    status: its wait status, once `told` has come to an end; 1 as exit status where the work raised.
    """

    work: Callable[[Tell], None]
    memory_bytes: int
    silence_s: float
    status: int | None = None

    def told(self) -> Iterator[Any]:
        """Start it, and give what it tells as it comes. It is killed where whoever listens has heard enough."""
        ear, mouth = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(ear)
            _work(self.work, self.memory_bytes, mouth)
        os.close(mouth)
        ended = False
        try:
            with os.fdopen(ear, "rb", buffering=0) as lines:
                pending = b""
                while not ended and select.select([lines], [], [], self.silence_s)[0]:
                    heard = lines.read(2**16)
                    ended = not heard
                    *whole, pending = (pending + heard).split(b"\n")
                    yield from map(json.loads, whole)
        finally:
            if not ended:
                os.kill(child, signal.SIGKILL)
            _, self.status = os.waitpid(child, 0)


def _work(work: Callable[[Tell], None], memory_bytes: int, mouth: int) -> NoReturn:
    """The child. It must not return into the tests of its parent, whatever happens."""
    status = 1
    try:
        warnings.simplefilter("ignore")
        limit_memory(memory_bytes)
        with os.fdopen(mouth, "wb", buffering=0) as told:
            work(lambda value: _write_all(told.fileno(), json.dumps(value).encode() + b"\n"))
        status = 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)


def _write_all(mouth: int, line: bytes) -> None:
    while line:
        line = line[os.write(mouth, line) :]
