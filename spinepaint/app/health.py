"""Whether the parts that a job needs answer."""

import redis
from sqlalchemy.exc import SQLAlchemyError

from spinepaint.app.bundle import bundle_folder, describe_bundle
from spinepaint.settings import Settings
from spinepaint.store.artifacts import ArtifactStore
from spinepaint.store.ledger import Ledger

PING_TIMEOUT_S = 2.0


def failing_parts(settings: Settings, ledger: Ledger, artifacts: ArtifactStore) -> list[str]:
    """The names of the parts that do not answer: database, broker, artifacts, bundle."""
    failing = []
    try:
        ledger.ping()
    except SQLAlchemyError:
        failing.append("database")
    if not broker_answers(settings.broker_url):
        failing.append("broker")
    try:
        artifacts.ping()
    except Exception:
        failing.append("artifacts")
    if describe_bundle(bundle_folder(settings)) is None:
        failing.append("bundle")
    return failing


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
