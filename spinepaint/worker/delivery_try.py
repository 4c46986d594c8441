"""One try at a delivery: what is sent, how it fails, and the watch that ends it when it must not go on."""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from sqlalchemy.exc import SQLAlchemyError

_log = logging.getLogger(__name__)
LOOKED_AFTER_S = 5.0
"""A try whose job was deleted ends within this time."""


@dataclass(frozen=True)
class Outgoing:
    """An instance to send: what it is, and how to read its file."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    size: int
    stream: Callable[[], Iterator[bytes]]


class DeliveryFailed(Exception):
    """A destination did not take everything. `detail` is for a person; it names neither the patient nor a secret."""

    def __init__(self, detail: str, *, again: bool) -> None:
        """`again`: whether another try may succeed without anybody changing something."""
        super().__init__(detail)
        self.detail, self.again = detail, again


class LostDelivery(Exception):
    """Another sender took the delivery over, or its job was deleted."""


class Watch:
    """Keeps a delivery taken while it is sent, and cuts the connection when the try has to end.

    A destination that is never silent for long can keep a sender for ever: libraries have time limits for each read and write
    and none for the whole. So the limit is kept here, from outside, whatever the sender waits for.
    """

    def __init__(self, hold: Callable[[], bool], *, every_s: float, limit_s: float) -> None:
        """`hold` is called every so often, and says whether the delivery is still this sender's; a try may take `limit_s`."""
        self._hold, self._every_s = hold, min(every_s, LOOKED_AFTER_S)
        self._limit_s, self._deadline = limit_s, time.monotonic() + limit_s
        self._ended, self._lost = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._connections: list[socket.socket] = []
        self._thread = threading.Thread(target=self._look_after, name="watch", daemon=True)

    def __enter__(self) -> Self:
        """The time begins to run when the watch is made."""
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Let go of the delivery and of the connections, which are the sender's to close."""
        self._ended.set()
        self._thread.join()
        for connection in self._connections:
            connection.close()

    def check(self) -> None:
        """Raise LostDelivery where another sender took over, DeliveryFailed where the time is up."""
        if self._lost.is_set():
            raise LostDelivery
        if self._over_time():
            raise DeliveryFailed(f"The try took longer than {self._limit_s:.0f} s.", again=True)

    def connected(self, connection: socket.socket) -> None:
        """Cut this connection too when the try has to end."""
        with self._lock:
            # A descriptor of its own: TLS takes the sender's away from its socket, and the sender closes it when it likes.
            self._connections.append(connection.dup())
        if self._lost.is_set() or self._over_time():
            self._cut()

    def _over_time(self) -> bool:
        return time.monotonic() >= self._deadline

    def _look_after(self) -> None:
        cut = False
        while not self._ended.wait(self._every_s if cut else max(0.0, min(self._every_s, self._deadline - time.monotonic()))):
            if self._over_time() and not cut:
                cut = True
                self._cut()
            try:
                if not self._hold():
                    self._lost.set()
                    self._cut()
            except SQLAlchemyError as error:
                _log.warning("a delivery was not held on to (%s)", type(error).__name__)

    def _cut(self) -> None:
        with self._lock:
            for connection in self._connections:
                with suppress(OSError):  # it may have ended by itself
                    connection.shutdown(socket.SHUT_RDWR)


class Send(Protocol):
    """How instances get to a destination; repeating it is harmless, since the instances keep their UIDs."""

    def __call__(self, instances: Sequence[Outgoing], *, timeout_s: float, watch: Watch) -> None:
        """Send all; tell `watch` of each connection, and call its `check` before each instance. Raises DeliveryFailed.

        A destination that is silent for `timeout_s` has failed.
        """
