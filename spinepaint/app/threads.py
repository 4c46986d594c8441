"""Threads apart from those that all routes share: where one thing is silent, only what waits for that one stands still."""

from collections.abc import AsyncIterator, Callable, Iterable
from functools import partial
from typing import ParamSpec, TypeVar

from anyio import CapacityLimiter, fail_after, to_thread
from anyio.lowlevel import RunVar

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """So many threads at a time for one kind of work; each event loop has its own, as it has of anyio's."""

    def __init__(self, name: str, most: int, patience_s: float | None = None) -> None:
        """`patience_s` is how long a thread is waited for, None without end."""
        self.most, self.patience_s = most, patience_s
        self._limiter: RunVar[CapacityLimiter] = RunVar(name)

    async def run(self, call: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
        """What a call returns or raises. Raises TimeoutError where no thread is free in time; once begun it is waited for."""
        with fail_after(self.patience_s):
            return await to_thread.run_sync(partial(call, *args, **options), limiter=self._of_this_loop())

    async def each(self, pieces: Iterable[T]) -> AsyncIterator[T]:
        """What an iterable yields, each piece made in one of these threads; None ends it."""
        iterator = iter(pieces)
        while (piece := await self.run(next, iterator, None)) is not None:
            yield piece

    def _of_this_loop(self) -> CapacityLimiter:
        limiter = self._limiter.get(None)
        if limiter is None:
            limiter = CapacityLimiter(self.most)
            self._limiter.set(limiter)
        return limiter


ADMITTING = Threads("spinepaint-admitting", 20, patience_s=10.0)
"""For looking keys up: whoever cannot be asked for one within this time is told to come again."""
FILES = Threads("spinepaint-files", 40)
"""For what lists and reads artifacts; a stream has one while a piece of it is fetched, and none while that is sent."""
FIGURES = Threads("spinepaint-figures", 4)
"""For /metrics."""
PARSING = Threads("spinepaint-parsing", 2)
"""For what takes many times a body's size of memory: two of them do."""
