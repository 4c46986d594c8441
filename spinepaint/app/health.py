"""Whether the parts that a job needs answer, in bounded time."""

import time
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

    def failing(self, timeout_s: float = READY_TIMEOUT_S) -> dict[str, str]:
        """The parts that do not answer, and how; after `timeout_s` at the latest."""
        deadline = time.monotonic() + timeout_s
        asked = {name: part.start() for name, part in self._parts.items()}
        failing = {}
        for name, answer in asked.items():
            try:
                answer.result(max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                # Of the call itself, or of the waiting: either way it was silent.
                failing[name] = f"silent for {timeout_s:g} s"
            except Exception as error:
                # Its message may name addresses and secrets.
                failing[name] = "no answer" if isinstance(error, NoAnswer) else f"no answer ({type(error).__name__})"
        return failing


def failing_parts(settings: Settings, ledger: Ledger, artifacts: ArtifactStore) -> list[str]:
    """The names of the parts that do not answer: database, broker, artifacts, bundle."""
    return list(Readiness(settings, ledger, artifacts).failing())


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
