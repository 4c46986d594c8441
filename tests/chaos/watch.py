"""When each job was first seen to have ended, by a clock that nobody moves."""

import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

import psycopg

from tests.chaos.evidence import succeeded
from tests.chaos.servers import Postgres

EVERY_S = 0.5


class Watch:
    """A context in which the database is asked over and over, also while it is away."""

    def __init__(self, postgres: Postgres) -> None:
        self.ended: dict[int, float] = {}
        """By the job's seed; only those that succeeded."""
        self._postgres = postgres
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, name="watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(EVERY_S):
            with suppress(psycopg.OperationalError):
                for seed in succeeded(self._postgres):
                    self.ended.setdefault(seed, time.monotonic())
