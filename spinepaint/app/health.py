"""Whether the parts that a job needs answer, in bounded time."""

import asyncio
from collections.abc import Mapping

import redis

from spinepaint.app.bounded import Bounded
from spinepaint.app.bundle import bundle_folder, describe_bundle
from spinepaint.settings import Settings
from spinepaint.store.artifacts import ArtifactStore
from spinepaint.store.ledger import Ledger

PING_TIMEOUT_S = 2.0
READY_TIMEOUT_S = 3.0
"""A part that takes longer to answer does not; a probe has to have its answer before its own patience ends."""
SPARED = frozenset({"broker"})
"""Parts without which requests are served all the same: jobs are accepted and wait, and results are given out."""


class NoAnswer(Exception):
    """A part does not answer as it should."""


class Readiness:
    """Asks the database, the broker, the artifact store and the bundle, all at once."""

    def __init__(self, settings: Settings, ledger: Ledger, artifacts: ArtifactStore) -> None:
        """Nothing is asked yet."""

        def broker() -> None:
            if not broker_answers(settings.broker_url):
                raise NoAnswer

        def bundle() -> None:
            if describe_bundle(bundle_folder(settings)) is None:
                raise NoAnswer

        calls = {"database": ledger.ping, "broker": broker, "artifacts": artifacts.ping, "bundle": bundle}
        self._parts: Mapping[str, Bounded[None]] = {name: Bounded(call) for name, call in calls.items()}

    async def failing(self, timeout_s: float | None = None) -> dict[str, str]:
        """The parts that do not answer, and how; after `timeout_s` (3 s) at the latest, with no thread that others wait for."""
        timeout_s = READY_TIMEOUT_S if timeout_s is None else timeout_s
        said = await asyncio.gather(*(_how(part, timeout_s) for part in self._parts.values()))
        return {name: how for name, how in zip(self._parts, said, strict=True) if how is not None}


async def _how(part: Bounded[None], timeout_s: float) -> str | None:
    """How a part does not answer; None where it does."""
    try:
        await part.answer(timeout_s)
    except TimeoutError:
        # Of the call itself, or of the waiting: either way it was silent.
        return f"silent for {timeout_s:g} s"
    except Exception as error:
        # Its message may name addresses and secrets.
        return "no answer" if isinstance(error, NoAnswer) else f"no answer ({type(error).__name__})"
    return None


def broker_answers(broker_url: str) -> bool:
    """Whether a Redis or Valkey answers at the URL, which may be Celery's form for a socket."""
    if not broker_url:
        return False
    url = broker_url.replace("redis+socket://", "unix://", 1)
    try:
        client = redis.Redis.from_url(url, socket_timeout=PING_TIMEOUT_S, socket_connect_timeout=PING_TIMEOUT_S)
        with client:
            return bool(client.ping())
    except (redis.RedisError, ValueError, OSError):
        return False
