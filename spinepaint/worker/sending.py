"""Threads that send what a service owes to others, beside whatever else a process does."""

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable

from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection

from spinepaint.settings import Settings
from spinepaint.store import Ledger

_log = logging.getLogger(__name__)
_PAUSE_S = 1.0
"""After an error, which would come again at once."""


def recorded(record: Callable[[], bool], within_s: float) -> bool:
    """What `record` says, waiting out a database that is away: for want of its record what was done would be done again.

    `within_s` is for how long whoever did it has it to itself; after that OperationalError is raised, or NoConnection.
    """
    deadline = time.monotonic() + within_s
    while True:
        try:
            return record()
        except (OperationalError, NoConnection):
            if time.monotonic() > deadline:
                raise
            time.sleep(min(_PAUSE_S, within_s))


class SendingThread(ABC):
    """Looks for what is owed and sends it until it is stopped; what it was at is then tried again by another.

    Each receiver has a sender of its own while something is sent to it: one that is slow holds up itself only.
    """

    def __init__(self, settings: Settings, name: str) -> None:
        """Nothing runs before `start`."""
        self._settings, self._name = settings, name
        self._stop = threading.Event()
        # Daemons: a receiver that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._senders: dict[str, threading.Thread] = {}

    @abstractmethod
    def wanted(self) -> bool:
        """Whether the settings have anything to send with, or to."""

    @abstractmethod
    def looker(self, ledger: Ledger) -> Callable[[], None]:
        """What looks for what is owed now, over a ledger of this thread's own, and calls `begin` for each receiver."""

    def start(self) -> None:
        """Begin to send, where it is wanted."""
        if self.wanted():
            self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Begin no more; wait so long, and no longer, for those under way."""
        self._stop.set()
        deadline = time.monotonic() + timeout_s
        for thread in (self._thread, *list(self._senders.values())):
            if thread.is_alive():
                thread.join(max(0.0, deadline - time.monotonic()))

    def begin(self, receiver: str, send: Callable[[], object], what: str, most: int | None = None) -> bool:
        """Send in a thread, unless something is on its way to this receiver or to as many as `most`; `what` is for the log.

        False where there are as many.
        """
        self._senders = {name: thread for name, thread in self._senders.items() if thread.is_alive()}
        if most is not None and len(self._senders) >= most:
            return False
        if receiver not in self._senders:
            thread = threading.Thread(target=self._unless_it_fails, args=(send, what), name=self._name, daemon=True)
            self._senders[receiver] = thread
            thread.start()
        return True

    def _run(self) -> None:
        ledger = Ledger(self._settings.database_url)
        look = self.looker(ledger)
        while not self._stop.wait(self._settings.announce_every_s):
            self._unless_it_fails(look, f"looking for what is owed ({self._name})")
        for thread in self._senders.values():
            thread.join()
        ledger.close()

    def _unless_it_fails(self, work: Callable[[], object], what: str) -> None:
        try:
            work()
        except Exception as error:
            _log.error("%s failed (%s); tried again later", what, type(error).__name__)
            self._stop.wait(_PAUSE_S)
