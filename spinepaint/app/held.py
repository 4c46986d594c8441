"""Bodies that are held in memory: of all of them so many bytes, and what would be more is told to come again."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from spinepaint.app.admission import Busy

COME_AGAIN_S = 2
"""A body that is whole is read and let go of within this time, unless many are."""


class Held:
    """Bytes that may be held together, by however many requests; for one event loop.

    What was declared is not reserved, only what has come; and no tenant has more than half of it, who may be slow.
    """

    def __init__(self, most_bytes: int) -> None:
        """Nothing is held yet."""
        self._most = most_bytes
        self._sizes: Counter[str] = Counter()

    @contextmanager
    def body(self, tenant: str) -> Iterator["HeldBody"]:
        """A tenant's body that is to come; what it takes is given back at the end."""
        body = HeldBody(self, tenant)
        try:
            yield body
        finally:
            self._sizes[tenant] -= body.size
            if not self._sizes[tenant]:
                del self._sizes[tenant]

    def take(self, size: int, tenant: str) -> None:
        """Hold so many bytes more. Raises Busy (429) where that is too much."""
        if self._sizes.total() + size > self._most or self._sizes[tenant] + size > self._most // 2:
            held = f"Bodies of {self._most} bytes are held at a time, half of them of one tenant"
            detail = f"{held}. Send it again in {COME_AGAIN_S} s."
            title = "Too many large requests are under way."
            raise Busy("too-many-bodies", title, detail, status=429, retry_after_s=COME_AGAIN_S)
        self._sizes[tenant] += size


class HeldBody:
    """What one body takes of what may be held."""

    def __init__(self, held: Held, tenant: str) -> None:
        self._held, self._tenant = held, tenant
        self.size = 0

    def grow(self, size: int) -> None:
        """More of the body has come. Raises Busy (429) where that is too much."""
        self._held.take(size, self._tenant)
        self.size += size
