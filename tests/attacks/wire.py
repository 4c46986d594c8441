"""Requests that no client library would send, byte by byte."""

import json
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.attacks.serving import PATIENCE_S, Serving


@dataclass(frozen=True)
class Heard:
    """What came back on a connection: the status, or 0 where it was closed without a word; headers in small letters; the body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def slug(self) -> str:
        """The type of the problem document."""
        assert self.headers["content-type"] == "application/problem+json", self.body[:300]
        document: dict[str, Any] = json.loads(self.body)
        assert document["status"] == self.status
        return str(document["type"].rpartition("/")[2])

    @property
    def detail(self) -> str:
        """What the problem document says that can be done."""
        return str(json.loads(self.body)["detail"])


@contextmanager
def connected(gateway: Serving) -> Iterator[socket.socket]:
    """A connection to a gateway."""
    with socket.create_connection(gateway.address, timeout=PATIENCE_S) as wire:
        yield wire


def say(gateway: Serving, pieces: bytes | Iterable[bytes], pause_s: float = 0.0) -> Heard:
    """Send the pieces, with a pause after each, for as long as the gateway takes them; and hear what it answers."""
    with connected(gateway) as wire:
        for piece in [pieces] if isinstance(pieces, bytes) else pieces:
            try:
                wire.sendall(piece)
            except OSError:  # it has answered, and closed
                break
            time.sleep(pause_s)
        return hear(wire)


def hear(wire: socket.socket) -> Heard:
    """The answer, up to its length or to the end of the connection."""
    answer = b""
    while not _whole(answer):
        try:
            more = wire.recv(2**16)
        except ConnectionResetError:
            break
        if not more:
            break
        answer += more
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head:
        return Heard(0, {}, b"")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Heard(int(first.split()[1]), headers, body)


def _whole(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if end and line.startswith(b"content-length:"):
            return len(body) >= int(line.partition(b":")[2])
    return False


def head(gateway: Serving, method: str, path: str, **fields: str) -> bytes:
    """A request's line and header fields; underscores stand for hyphens."""
    host, port = gateway.address
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}:{port}", *(f"{n.replace('_', '-')}: {v}" for n, v in fields.items())]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
