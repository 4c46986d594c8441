"""A caller that is told by webhook and an archive that gets results: both write down what they got, and when."""

import json
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any

from pydicom import dcmread

REFUSES = 0.1


@dataclass(frozen=True)
class Told:
    """A webhook that came for the job of `seed`, and what it was answered."""

    at: float
    seed: int
    message_id: str
    kind: str
    job_id: str
    status: int


@dataclass(frozen=True)
class Stored:
    """A series that an archive was sent, as SOP Instance UIDs, and what it answered."""

    at: float
    instances: frozenset[str]
    status: int


@dataclass
class Receivers:
    """What came. One request in ten is answered with 503, by chance."""

    url: str = ""
    told: list[Told] = field(default_factory=list)
    stored: list[Stored] = field(default_factory=list)
    chance: random.Random = field(default_factory=lambda: random.Random(0))

    def take(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, Any]:
        """The answer to a request."""
        status = 503 if self.chance.random() < REFUSES else 200
        if not path.startswith("/hook/"):
            instances = [str(dcmread(BytesIO(part)).SOPInstanceUID) for part in _parts(headers["content-type"], body)]
            self.stored.append(Stored(time.monotonic(), frozenset(instances), status))
            done = [{"00081155": {"vr": "UI", "Value": [uid]}} for uid in instances]
            return status, {"00081199": {"vr": "SQ", "Value": done}} if status == 200 else {}
        message = json.loads(body)
        job_id, seed = message["data"]["id"], int(path.rpartition("/")[2])
        self.told.append(Told(time.monotonic(), seed, headers["webhook-id"], message["type"], job_id, status))
        return status, {}


def _parts(content_type: str, body: bytes) -> list[bytes]:
    boundary = content_type.partition("boundary=")[2].encode()
    pieces = body.split(b"--" + boundary)[1:-1]
    return [piece.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for piece in pieces]


@contextmanager
def receiving() -> Iterator[Receivers]:
    """Both, at one port of loopback."""
    receivers = Receivers()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            length = int(headers["content-length"])
            body = self.rfile.read(length)
            if len(body) < length:
                return  # the sender was killed
            with suppress(BlockingIOError):
                if not self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT):
                    return  # it has given up waiting, so nothing was taken
            status, answer = receivers.take(self.path, headers, body)
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/dicom+json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    receivers.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield receivers
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
