"""A worker's entry in the ledger's attendance list: that it is there, and what memory it has."""

import logging
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

import psutil

from spinepaint.store import Ledger
from spinepaint.store.figures import Memory

_log = logging.getLogger(__name__)


class Presence:
    """A context in which a thread says every so often that the worker is there; at its end the worker takes leave."""

    def __init__(self, ledger: Ledger, worker: str, every_s: float) -> None:
        """Nothing is said yet."""
        self._ledger, self._worker, self._every_s = ledger, worker, every_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._attend, name="presence", daemon=True)

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Take leave, where the ledger answers; else it will be noticed by itself."""
        self._ended.set()
        self._thread.join()
        self._say(lambda: self._ledger.leave(self._worker))

    def _attend(self) -> None:
        while True:
            self._say(lambda: self._ledger.attend(self._worker, memory_now()))
            if self._ended.wait(self._every_s):
                return

    def _say(self, what: Callable[[], None]) -> None:
        try:
            what()
        except Exception as error:
            _log.warning("the worker's presence was not recorded (%s)", type(error).__name__)


def memory_now() -> Memory:
    """What this process has, and its GPU where it uses one already: to look must not be what starts it."""
    resident = psutil.Process().memory_info().rss
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return Memory(resident)
    free, total = torch.cuda.mem_get_info()
    return Memory(resident, total, total - free)
