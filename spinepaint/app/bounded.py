"""Calls that may hang: given so long, and never more than one of a kind at a time."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class Bounded(Generic[T]):
    """A call that is waited for so long and no longer.

    One that hangs stays behind in its thread, which nothing can end; whoever asks meanwhile waits for that one, so that
    asking again and again takes no more threads.
    """

    def __init__(self, call: Callable[[], T]) -> None:
        """`call` may raise; it is made in a thread of its own."""
        self._call = call
        self._lock = threading.Lock()
        self._running: Future[T] | None = None

    def start(self) -> Future[T]:
        """Begin the call, unless one is under way: what it will have come to."""
        with self._lock:
            if self._running is None or self._running.done():
                self._running = Future()
                self._running.set_running_or_notify_cancel()  # whoever gives up waiting does not cancel it for the others
                # A daemon, which a pool's threads are not: one that hangs must not keep the process from ending.
                threading.Thread(target=self._run, args=(self._running,), name="bounded", daemon=True).start()
            return self._running

    def result(self, timeout_s: float) -> T:
        """What the call returns or raises. Raises TimeoutError when it takes longer."""
        return self.start().result(timeout_s)

    async def answer(self, timeout_s: float) -> T:
        """As `result`, without a thread to wait in."""
        return await asyncio.wait_for(asyncio.wrap_future(self.start()), timeout_s)

    def _run(self, future: Future[T]) -> None:
        try:
            future.set_result(self._call())
        except BaseException as error:
            future.set_exception(error)
