"""Token buckets in the memory of one process, of which there are never more than a number."""

import threading
import time
from collections import OrderedDict

MOST = 10_000


class Buckets:
    """Buckets by name. The one that was asked for least lately goes first, and would be full again before long anyway."""

    def __init__(self, most: int = MOST) -> None:
        """All buckets are full."""
        self._most = most
        self._kept: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, name: str, rate_per_s: float, burst: int, now: float | None = None) -> float:
        """Take a token: 0, or in how many seconds there will be one."""
        now = time.monotonic() if now is None else now
        with self._lock:
            tokens = self._tokens(name, rate_per_s, burst, now)
            left = tokens - 1 if tokens >= 1 else tokens
            self._kept[name] = (left, now)
            self._kept.move_to_end(name)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return 0.0 if tokens >= 1 else (1 - tokens) / rate_per_s

    def wait_s(self, name: str, rate_per_s: float, burst: int, now: float | None = None) -> float:
        """In how many seconds there will be a token, 0 where there is one; none is taken."""
        with self._lock:
            tokens = self._tokens(name, rate_per_s, burst, time.monotonic() if now is None else now)
        return 0.0 if tokens >= 1 else (1 - tokens) / rate_per_s

    def __len__(self) -> int:
        return len(self._kept)

    def _tokens(self, name: str, rate_per_s: float, burst: int, now: float) -> float:
        tokens, at = self._kept.get(name, (float(burst), now))
        return min(float(burst), tokens + max(0.0, now - at) * rate_per_s)
