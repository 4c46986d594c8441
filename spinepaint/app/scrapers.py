"""Who may go on reading the figures while the database is away, in which keys are looked up: that it is away is one of them."""

import hashlib
import threading
import time
from collections import OrderedDict

from spinepaint.app.bounded import Bounded
from spinepaint.store.keys import in_force
from spinepaint.store.ledger import Ledger
from spinepaint.store.models import ApiKey

KNOWN_S = 6 * 3600.0
"""Longer than a database should be away. A key that is revoked meanwhile is revoked where nobody can be asked for it."""
ASKED_S = 1.0
_MOST = 64


class Scrapers:
    """Remembers who was let in to read the figures lately, by the digest of the header. Asks the ledger first, each time anew."""

    def __init__(self, ledger: Ledger) -> None:
        """Nobody is known yet."""
        self._ledger = Bounded(ledger.ping)
        self._known: OrderedDict[bytes, tuple[ApiKey | None, float]] = OrderedDict()
        self._lock = threading.Lock()

    async def go_on(self, authorization: str | None) -> bool:
        """Whether the ledger cannot be asked, and who sends this header was let in lately by a key that has not expired since."""
        with self._lock:
            key, seen = self._known.get(_digest(authorization), (None, float("-inf")))
        if time.monotonic() - seen > KNOWN_S or (key is not None and not in_force(key)):
            return False
        try:
            await self._ledger.answer(ASKED_S)
        except Exception:  # that it fails or is silent, for whatever reason, is what there is to tell
            return True
        return False

    def admitted(self, authorization: str | None, key: ApiKey | None) -> None:
        """Remember who was let in just now; `key` is None where the service asks for none."""
        digest = _digest(authorization)
        with self._lock:
            self._known[digest] = key, time.monotonic()
            self._known.move_to_end(digest)
            while len(self._known) > _MOST:
                self._known.popitem(last=False)

    def denied(self, authorization: str | None) -> None:
        """Forget who is no longer let in."""
        with self._lock:
            self._known.pop(_digest(authorization), None)


def _digest(authorization: str | None) -> bytes:
    # Not the header itself: a key is kept nowhere.
    return hashlib.sha256((authorization or "").encode("utf-8", "surrogatepass")).digest()
