"""Bodies as they arrive, from clients that may be slow but not for ever."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from starlette.requests import Request

from spinepaint.imaging.errors import Refusal
from spinepaint.settings import Settings

BYTES_PER_S = 100_000
"""A body that comes at this pace may be as long as its cap allows."""
_LONGEST_LENGTH = 20  # digits; the HTTP parser takes no more


@dataclass(frozen=True)
class Patience:
    """How long a body is waited for: `idle_s` for its next byte, and `limit_s` for all of it, a second more for each 100 kB."""

    idle_s: float = 60.0
    limit_s: float = 600.0


DEFAULT_PATIENCE = Patience()


def patience_of(settings: Settings) -> Patience:
    """The patience that the settings have."""
    return Patience(settings.body_idle_s, settings.body_limit_s)


async def arriving(request: Request, patience: Patience) -> AsyncIterator[bytes]:
    """The pieces of a body. Raises Refusal 408, naming the setting, for one that stalls or drips; ClientDisconnect."""
    stream = request.stream()
    began, size = time.monotonic(), 0
    while True:
        left_s = patience.limit_s + size / BYTES_PER_S - (time.monotonic() - began)
        try:
            async with asyncio.timeout(max(0.0, min(patience.idle_s, left_s))):
                chunk = await anext(stream, None)
        except TimeoutError:
            raise _too_slow(patience, drips=left_s <= patience.idle_s) from None
        if chunk is None:
            return
        size += len(chunk)
        yield chunk


def _too_slow(patience: Patience, *, drips: bool) -> Refusal:
    name, limit_s = ("body_limit_s", patience.limit_s) if drips else ("body_idle_s", patience.idle_s)
    what = f"and a second for each {BYTES_PER_S} bytes that came" if drips else "for the next byte"
    return Refusal(
        "upload-timeout", "The body came too slowly.", f"{name} is {limit_s:g} here, {what}. Send it again.", status=408
    )


def declared_bytes(request: Request) -> int:
    """What a body says that its length is; 0 where it does not. A claim only, for which nothing is to be reserved."""
    length = request.headers.get("content-length", "")
    return int(length) if length.isdecimal() and len(length) <= _LONGEST_LENGTH else 0


def require_uncompressed(request: Request, advice: str = "Send it as it is.") -> None:
    """Raise Refusal 415 where a body is compressed as a whole, by whichever of its header fields."""
    if any(encoding.strip().lower() != "identity" for encoding in request.headers.getlist("content-encoding")):
        raise Refusal("unsupported-encoding", "Compressed bodies are not taken.", advice, status=415)
