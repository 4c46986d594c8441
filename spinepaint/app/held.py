"""Bodies that are held in memory: of all of them so many bytes, and what would be more is told to come again."""

from collections.abc import Iterator
from contextlib import contextmanager

from spinepaint.app.admission import Busy

COME_AGAIN_S = 2
"""A body that is whole is read and let go of within this time, unless many are."""


class Held:
    """Bytes that may be held together, by however many requests; for one event loop.

    What was declared is not reserved, only what has come: a client that is slow takes no room from others.
    """

    def __init__(self, most_bytes: int) -> None:
        """Nothing is held yet."""
        self._most = most_bytes
        self._size = 0

    @contextmanager
    def body(self) -> Iterator["HeldBody"]:
        """A body that is to come; what it takes is given back at the end."""
        body = HeldBody(self)
        try:
            yield body
        finally:
            self._size -= body.size

    def take(self, size: int) -> None:
        """Hold so many bytes more. Raises Busy (429) where that is too much."""
        if self._size + size > self._most:
            detail = f"Bodies of {self._most} bytes are held at a time. Send it again in {COME_AGAIN_S} s."
            title = "Too many large requests are under way."
            raise Busy("too-many-bodies", title, detail, status=429, retry_after_s=COME_AGAIN_S)
        self._size += size


class HeldBody:
    """What one body takes of what may be held."""

    def __init__(self, held: Held) -> None:
        self._held = held
        self.size = 0

    def grow(self, size: int) -> None:
        """More of the body has come. Raises Busy (429) where that is too much."""
        self._held.take(size)
        self.size += size
