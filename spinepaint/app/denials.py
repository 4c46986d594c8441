"""How often an address may come without a key in force: whoever keeps trying is no longer listened to.

A key's 256 random bits cannot be guessed, however often somebody tries; this is so that trying costs the service nothing: what is
over the limit is answered without the database and without reading its body. Each gateway counts for itself.
"""

import hashlib
import threading
import time
from collections import OrderedDict
from ipaddress import IPv6Address, ip_address, ip_network

from starlette.types import Scope

from spinepaint.app.buckets import Buckets

_KNOWN = 4096
_NETWORK_BITS = 64
"""Of an IPv6 address: whoever has one has all that share these bits with it."""
_KNOWN_S = 600.0


class Denials:
    """Counts denials by address, and remembers which `Authorization` headers were good lately.

    Those are passed on to be looked up as ever, so that nobody who shares an address with somebody who floods, as all do behind a
    proxy that does not name its clients, is locked out.
    """

    def __init__(self, per_s: float, burst: int) -> None:
        """`per_s` denials are answered in the long run, `burst` at once."""
        self.per_s, self.burst = per_s, burst
        self._buckets = Buckets()
        self._good: OrderedDict[bytes, float] = OrderedDict()
        self._lock = threading.Lock()

    def wait_s(self, scope: Scope, authorization: str | None) -> float:
        """In how many seconds a request will be looked at; 0 where it is now."""
        wait_s = self._buckets.wait_s(_origin(scope), self.per_s, self.burst)
        return 0.0 if wait_s <= 0 or self._was_good(authorization) else wait_s

    def denied(self, scope: Scope) -> None:
        """Count a request that came without a key in force."""
        self._buckets.take(_origin(scope), self.per_s, self.burst)

    def admitted(self, authorization: str | None) -> None:
        """Remember the header that a request was let in with."""
        if authorization is None:
            return
        with self._lock:
            self._good[_digest(authorization)] = time.monotonic()
            self._good.move_to_end(_digest(authorization))
            while len(self._good) > _KNOWN:
                self._good.popitem(last=False)

    def _was_good(self, authorization: str | None) -> bool:
        if authorization is None:
            return False
        with self._lock:
            return time.monotonic() - self._good.get(_digest(authorization), float("-inf")) < _KNOWN_S


def _digest(authorization: str) -> bytes:
    # Not the header itself: a key is kept nowhere.
    return hashlib.sha256(authorization.encode("utf-8", "surrogatepass")).digest()


def _origin(scope: Scope) -> str:
    """The address that a request comes from, or the network where one client has many; empty where it is not known."""
    host = str((scope.get("client") or ("",))[0])
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host[:64]
    if isinstance(address, IPv6Address):
        return str(address.ipv4_mapped or ip_network((address, _NETWORK_BITS), strict=False))
    return str(address)
