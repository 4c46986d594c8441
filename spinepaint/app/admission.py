"""How many uploads are taken in at once: as many as are accepted soon after their last byte. Further ones are told when to come.

Reading and storing a series is work for processors, which many at once does not speed up: the more are let in, the longer each
waits after it was sent whole. So an upload is refused before its body, with 429 and a Retry-After, while as many are under way
as were lately accepted in time; and so is one for whose bytes there is no room on the disk beside them.
"""

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.requests import Request

from spinepaint.app.disk_room import DiskRoom
from spinepaint.imaging.errors import Refusal

SOON_S = 0.5
"""What accepting may take, from the last byte of an upload on; the slowest of twenty may then take about twice that."""
LEAST, FIRST = 4, 8
QUICK_S, SLOW_BYTES_PER_S = 2.0, 64_000
"""A body that has come for longer than this, and more slowly, takes no room: it needs little, and one can be slow on purpose."""
LONGEST_S = 60
_CUT = 0.8
_DRAINED_AT_ONCE = 4


@dataclass
class Busy(Refusal):
    """Too many uploads are under way. `retry_after_s` is when there should be room for this one."""

    retry_after_s: int = 1


@dataclass(eq=False)
class Turn:
    """An upload that was let in: when, how many bytes have come, of how many, and when it was whole, by the admission's clock."""

    began: float
    size: int = 0
    declared: int = 0
    received_at: float | None = None

    def takes_room(self, now: float) -> bool:
        """Whether it needs a processor, or soon will."""
        lasted_s = now - self.began
        return self.received_at is not None or lasted_s < QUICK_S or self.size >= SLOW_BYTES_PER_S * lasted_s


class Admission:
    """Lets uploads in, of which a limited number are under way at once; for one event loop.

    The limit finds itself, as TCP's window does (RFC 5681): each upload that was accepted within `SOON_S` while at least half
    of the room was taken raises it by a fraction, one that took longer cuts it. Clients that drip do not count.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic, room: DiskRoom | None = None) -> None:
        """Never more than `most` at once, nor fewer than four of these; their bytes in `room`, where there is one."""
        self.limit = float(min(FIRST, most))
        self.draining = asyncio.Semaphore(_DRAINED_AT_ONCE)
        """Held while the body of one that was refused is read and thrown away: of many at once those let in would get no more."""
        self._most = most
        self._room = room
        self._clock = clock
        self._turns: set[Turn] = set()
        self._took_s = SOON_S
        self._cut_at = self._promised_until = -math.inf

    @contextmanager
    def turn(self) -> Iterator[Turn]:
        """Let an upload in, until it was accepted or refused. Raises Busy where too many are under way."""
        now = self._clock()
        if self.under_way(now) >= int(self.limit):
            raise self._busy(now)
        turn = Turn(now)
        self._turns.add(turn)
        try:
            yield turn
            if turn.received_at is not None:  # not so where it was refused, which says nothing of how long accepting takes
                self._learn(turn.received_at)
        finally:
            self._turns.discard(turn)

    def expect(self, turn: Turn, declared: int) -> None:
        """The body of an upload says how long it is. Raises Refusal 413 or 503 where it never fits, and Busy where not just now.

        What is to come of others counts too, but not of those that are slow: to say much and send little is to take nothing.
        """
        turn.declared = declared
        now = self._clock()
        coming = sum(max(0, each.declared - each.size) for each in self._turns if each is not turn and each.takes_room(now))
        self._require_room(declared + coming, declared)

    def came(self, turn: Turn, count: int) -> None:
        """So many more bytes of an upload, of which perhaps nobody knew. Raises Refusal as `expect` does."""
        turn.size += count
        self._require_room(0, turn.size)

    def received(self, turn: Turn) -> None:
        """The body of an upload is whole."""
        turn.received_at = self._clock()

    def under_way(self, now: float) -> int:
        """Uploads that take room."""
        return sum(turn.takes_room(now) for turn in self._turns)

    def _learn(self, received_at: float) -> None:
        now = self._clock()
        took_s = now - received_at
        self._took_s += 0.1 * (took_s - self._took_s)
        if took_s <= SOON_S:
            # What is not made use of says nothing of whether more would do (RFC 7661).
            if 2 * self.under_way(now) >= self.limit:
                self.limit = min(self._most, self.limit + 1 / self.limit)
        elif received_at > self._cut_at:  # else it was let in before the limit was cut, which is not to be blamed on it
            self.limit = max(min(LEAST, self._most), self.limit * _CUT)
            self._cut_at = now

    def _require_room(self, more: int, own: int) -> None:
        """Raise where `more` bytes do not fit beside what has come; `own` of them all are of the upload that this is about."""
        taken = sum(turn.size for turn in self._turns)
        if self._room is not None and more > self._room.left_bytes(taken):
            self._room.require(own, taken)
            raise self._busy(self._clock(), "There is no room for more of them just now.")

    def _busy(self, now: float, why: str = "") -> Busy:
        # Whoever is turned away is told the next place in a line that nobody stands in, so that they do not all come at once.
        each_s = self._took_s / self.limit
        self._promised_until = min(max(self._promised_until, now) + each_s, now + LONGEST_S)
        wait_s = max(1, math.ceil(self._promised_until - now))
        detail = f"{why or f'{int(self.limit)} are taken in at a time just now.'} Send it again in {wait_s} s."
        return Busy("too-many-uploads", "Too many uploads are under way.", detail, status=429, retry_after_s=wait_s)


def admission_of(request: Request) -> Admission:
    """The admission of the gateway that answers."""
    state = request.app.state
    if not hasattr(state, "admission"):
        state.admission = Admission(FIRST)
    found: Admission = state.admission
    return found


def waits_to_send(request: Request) -> bool:
    """Whether the client has not begun to send its body, and will not where it is refused now (RFC 9110 10.1.1)."""
    return request.headers.get("expect", "").lower() == "100-continue"
