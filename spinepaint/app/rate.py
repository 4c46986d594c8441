"""How often a key may ask: a token bucket a key, in the broker, so that all gateways fill from one."""

import logging
import time
from typing import Any

import redis

from spinepaint.app.buckets import Buckets

_log = logging.getLogger(__name__)
TIMEOUT_S = 0.5
PAUSE_S = 5.0
"""How long the broker is left alone after it did not answer."""

# Its own clock, so that those of the gateways need not agree. Returns the seconds to wait, as text; "0" where the request may go.
_TAKE = """
local now = redis.call('TIME')
local at = now[1] + now[2] / 1000000
local rate, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local kept = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens = math.min(burst, (tonumber(kept[1]) or burst) + math.max(0, at - (tonumber(kept[2]) or at)) * rate)
local wait = 0
if tokens >= 1 then tokens = tokens - 1 else wait = (1 - tokens) / rate end
redis.call('HSET', KEYS[1], 'tokens', string.format('%.9f', tokens), 'at', string.format('%.6f', at))
redis.call('PEXPIRE', KEYS[1], math.ceil(1000 * burst / rate) + 1000)
return string.format('%.6f', wait)
"""


class RateLimits:
    """Buckets of keys. While the broker does not answer each gateway has its own: a limit is no reason to be down."""

    def __init__(self, broker_url: str) -> None:
        """`broker_url` may be Celery's form for a socket; empty is no broker."""
        self._client: Any = None
        if broker_url:
            url = broker_url.replace("redis+socket://", "unix://", 1)
            self._client = redis.Redis.from_url(url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S)
        self._away_until = float("-inf")
        self._own = Buckets()

    def take(self, key_id: str, rate_per_s: float, burst: int) -> float:
        """Take one request of a key's bucket: 0, or in how many seconds there will be one."""
        if self._client is not None and time.monotonic() >= self._away_until:
            try:
                return float(self._client.eval(_TAKE, 1, f"spinepaint:rate:{key_id}", repr(float(rate_per_s)), str(burst)))
            except redis.RedisError as error:
                self._away_until = time.monotonic() + PAUSE_S
                _log.warning(
                    "the broker does not answer (%s): rates are limited by each gateway for itself", type(error).__name__
                )
        return self._own.take(key_id, rate_per_s, burst)

    def close(self) -> None:
        """Give back the connections."""
        if self._client is not None:
            self._client.close()
