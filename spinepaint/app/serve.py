"""`spinepaint serve`: the gateway in this process, and beside it a private Valkey and one worker.

Nothing that it starts outlives it, and whatever of it is killed, a job that was accepted is delivered
once: the ledger on disk is the truth, and the lock on the data folder says that nobody else works on it.
"""

import fcntl
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI

from spinepaint.app.addresses import is_loopback
from spinepaint.app.broker import broker_url, private_broker, socket_path, wait_for_broker
from spinepaint.app.connection import protocol
from spinepaint.app.edge import LOOPBACK_HOSTS
from spinepaint.app.gateway import create_app
from spinepaint.app.open_files import most_connections
from spinepaint.app.processes import Child, Supervisor
from spinepaint.settings import Settings
from spinepaint.store.database import utc_now
from spinepaint.store.ledger import Ledger
from spinepaint.traces import start_tracing, stop_tracing

READY = "Spinepaint listens on "
GRACEFUL_S = 3
MIGRATE = (
    "from spinepaint.settings import Settings; from spinepaint.store.database import migrate; migrate(Settings().database_url)"
)

_log = logging.getLogger(__name__)


class DataFolderInUse(Exception):
    """Another service runs on this data folder."""


class NoKeys(Exception):
    """The service would be open to others than this machine."""


def serve(settings: Settings, pipeline: str | None = None, *, with_worker: bool = True) -> None:
    """Run the service until SIGINT, SIGTERM or SIGHUP; prints its URL to stdout once it answers.

    `pipeline` is handed to the worker; without `with_worker` there is none, and the broker is
    somebody else's. Raises DataFolderInUse, NoKeys, or OSError where the port is taken.
    """
    with ExitStack() as stack:
        stack.enter_context(_ended_by_signals())
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        stack.enter_context(_locked(settings.data_dir / "serve.lock"))
        listener = stack.enter_context(_bound(settings.host, settings.port))
        supervisor = Supervisor(settings.data_dir / "children.json")
        stack.callback(supervisor.stop)
        if settings.migrate_at_start:
            _migrate(settings)
        ledger = Ledger(settings.database_url, attempt_limit_s=settings.attempt_limit_s)
        stack.callback(ledger.close)
        if not is_loopback(settings.host) and not ledger.has_keys():
            raise NoKeys
        embedded = not settings.broker_url
        if embedded:
            settings = _with_private_broker(settings, supervisor)
            wait_for_broker(settings.broker_url)
            _take_back(ledger)
        if with_worker:
            supervisor.add(_worker(settings, pipeline, partial(_take_back, ledger) if embedded else None))
        _run_gateway(settings, listener)


class _Gateway(uvicorn.Server):
    """uvicorn that says on stdout where it listens, once it does, and tells the application when it stops."""

    def __init__(self, app: FastAPI, **options: Any) -> None:
        super().__init__(uvicorn.Config(app, **options))
        self._app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Before the connections are waited for: what is cut after GRACEFUL_S ends within a chunk.
        self._app.state.stopping.set()
        await super().shutdown(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._app.state.reader.start()  # the first upload is not to wait for what every reader imports
        if self.started and sockets:
            host, port = sockets[0].getsockname()[:2]
            print(f"{READY}http://{f'[{host}]' if ':' in host else host}:{port}", flush=True)


def _run_gateway(settings: Settings, listener: socket.socket) -> None:
    start_tracing(settings.traces_url, "gateway")
    most = most_connections(settings.max_connections)
    gateway = _Gateway(
        create_app(settings, hosts=_hosts(settings)),
        access_log=False,  # the gateway keeps its own, without what clients put into paths
        log_config=None,
        server_header=False,
        ws="none",  # where a library for WebSocket is installed, its connections would have none of these limits
        timeout_graceful_shutdown=GRACEFUL_S,
        http=protocol(settings.head_timeout_s, settings.answer_idle_s, most, settings.max_head_bytes),
        h11_max_incomplete_event_size=settings.max_head_bytes,
    )
    gateway.run(sockets=[listener])
    stop_tracing()


def _hosts(settings: Settings) -> set[str] | None:
    """The names under which the gateway answers; None is any."""
    if not settings.hosts and not is_loopback(settings.host):
        return None
    return {settings.host, *LOOPBACK_HOSTS, *settings.hosts}


def _with_private_broker(settings: Settings, supervisor: Supervisor) -> Settings:
    path = socket_path(settings.data_dir)
    supervisor.add(private_broker(path, settings.data_dir / "valkey.log"))
    return settings.model_copy(update={"broker_url": broker_url(path)})


def _worker(settings: Settings, pipeline: str | None, on_end: Callable[[], None] | None) -> Child:
    argv = [sys.executable, "-m", "spinepaint.app.cli", "worker"]
    if pipeline is not None:
        argv += ["--pipeline", pipeline]
    return Child("worker", argv, _environment(settings), grace_s=settings.shutdown_grace_s + 5.0, on_end=on_end)


def _environment(settings: Settings) -> dict[str, str]:
    """What a child needs in its environment to have the same settings."""
    return {
        "SPINEPAINT_DATA_DIR": str(settings.data_dir),
        "SPINEPAINT_DATABASE_URL": settings.database_url,
        "SPINEPAINT_ARTIFACTS_URL": settings.artifacts_url,
        "SPINEPAINT_BROKER_URL": settings.broker_url,
    }


def _migrate(settings: Settings) -> None:
    # In a process of its own, so that the gateway does not keep the migration tool in memory for good.
    subprocess.run([sys.executable, "-c", MIGRATE], env=os.environ | _environment(settings), check=True)  # noqa: S603


def _take_back(ledger: Ledger) -> None:
    """Queue again at once what runs: the one worker of this ledger is known to have ended."""
    lost = ledger.requeue_stale(utc_now() + timedelta(days=1), timedelta(0))
    if lost:
        _log.warning("took back %d jobs of a worker that was killed", len(lost))


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let a signal unwind the block as an exit would; further ones do not interrupt the unwinding."""
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def stop(_signum: int, _frame: FrameType | None) -> None:
        for signum in signals:
            signal.signal(signum, signal.SIG_IGN)
        raise SystemExit(0)

    previous = {signum: signal.signal(signum, stop) for signum in signals}
    try:
        yield
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock; the kernel lets go of it however this process ends."""
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataFolderInUse(str(path.parent)) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family)
