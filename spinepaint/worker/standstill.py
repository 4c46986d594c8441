"""What stands still while somebody looks on, told from what only seemed to while nobody could."""

import time
from collections.abc import Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class Standstill(Generic[T]):
    """Counts at how many looks in a row the same was found, and not for how long.

    While a database was away or frozen, or this process was, nobody could say that he lives, and all seem to have been silent for
    long. Who does live says so soon after; so the time in which nobody looked counts as one interval, however long it was.
    """

    def __init__(self, every_s: float, intervals: int) -> None:
        """A thing stands still that was found again after each of so many intervals of at least `every_s`."""
        self._every_s, self._intervals = every_s, intervals
        self._looks: dict[T, int] = {}
        self._next_at = float("-inf")

    @property
    def is_due(self) -> bool:
        """Whether it is time for the next look."""
        return time.monotonic() >= self._next_at

    @property
    def has_any(self) -> bool:
        """Whether the last look found anything."""
        return bool(self._looks)

    def look(self, found: Iterable[T]) -> list[T]:
        """Take in what was found, once it was time; what of it stands still."""
        self._next_at = time.monotonic() + self._every_s
        self._looks = {thing: self._looks.get(thing, 0) + 1 for thing in found}
        return [thing for thing, looks in self._looks.items() if looks > self._intervals]

    def forget(self) -> None:
        """Begin anew: somebody could not look."""
        self._looks = {}
