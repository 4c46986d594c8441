"""The one clock of all who share a ledger: its database's.

Whether a heartbeat is old, a lease has run out or a message is due is told by comparing times that different machines wrote, and
machines' clocks differ, and jump when they are set: by its own, one that is ahead would take back what the others work on. So
PostgreSQL is asked every few seconds, and between two answers the monotonic clock counts on. A SQLite file is one machine's, and
so is its clock.
"""

import time
from datetime import UTC, datetime

AGREED_FOR_S = 5.0
"""How far monotonic clocks drift apart in this time is of no interest."""


class SharedClock:
    """The present of this process: what the database said last, and the time since then; the machine's clock before that."""

    def __init__(self) -> None:
        """Nothing has been asked yet."""
        self._agreed: tuple[float, float] | None = None

    def now(self) -> datetime:
        """The present, timezone-aware."""
        agreed = self._agreed
        seconds = time.time() if agreed is None else agreed[0] + time.monotonic() - agreed[1]
        return datetime.fromtimestamp(seconds, UTC)

    def is_due(self) -> bool:
        """Whether the database should be asked again."""
        return self._agreed is None or time.monotonic() - self._agreed[1] > AGREED_FOR_S

    def agree(self, moment: datetime) -> None:
        """The database has just said so. An answer long on its way makes this clock late, which takes nothing from anybody."""
        self._agreed = (moment.timestamp(), time.monotonic())


clock = SharedClock()
"""A process works on one ledger. One of its databases is PostgreSQL, or none is."""
