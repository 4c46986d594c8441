"""HTTP/1.1 connections of which none may take for ever to say what it wants, and of which there are only so many."""

import asyncio
import json
from http import HTTPStatus
from typing import Any, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from spinepaint.app.problems import MEDIA_TYPE, RETRY_AFTER_S
from spinepaint.imaging.errors import Refusal


class PatientProtocol(H11Protocol):
    """uvicorn's protocol, with the limits that it has not got.

    A head that is not whole after `head_s` is answered with 408, and a connection that sends none is closed then. While there
    are `most` connections a further one is answered with 503 at once. What is no HTTP gets 400; all three are problem documents.
    """

    head_s = 10.0
    most = 1000
    head_bytes = 16 * 2**10

    _head_task: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count a new connection, and wait for its head."""
        super().connection_made(transport)
        if len(self.connections) > self.most:
            detail = f"max_connections is {self.most} here. Close some, or try again."
            title = "There are more connections than the cap max_connections."
            self._refuse(Refusal("over-cap-max-connections", title, detail, status=503))
            return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._cancel_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take a piece of a head or of a body."""
        super().data_received(data)
        # uvicorn has stopped its own clock; here one runs from the first byte of a head to its last, however it drips.
        if self.conn.their_state is not h11.IDLE:
            self._cancel_head()
        elif self._head_task is None and self.timeout_keep_alive_task is None and not self.transport.is_closing():
            self._await_head()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP request, or has a head beyond the limits of the parser."""
        detail = f"Send HTTP/1.1; max_head_bytes is {self.head_bytes} here."
        self._refuse(Refusal("malformed-request", msg, detail, status=400))

    def _await_head(self) -> None:
        self._head_task = self.loop.call_later(self.head_s, self._head_overdue)

    def _cancel_head(self) -> None:
        if self._head_task is not None:
            self._head_task.cancel()
            self._head_task = None

    def _head_overdue(self) -> None:
        self._head_task = None
        if self.transport.is_closing():
            return
        if not self.conn.trailing_data[0]:  # it has sent nothing at all, and hears nothing
            self.transport.close()
            return
        detail = f"head_timeout_s is {self.head_s:g} here. Send the request again."
        self._refuse(Refusal("head-timeout", "The head of the request took too long.", detail, status=408))

    def _refuse(self, refusal: Refusal) -> None:
        """Answer without the application, and close."""
        body = json.dumps(refusal.as_problem(), separators=(",", ":")).encode()
        status = HTTPStatus(refusal.status)
        head = [
            f"HTTP/1.1 {status.value} {status.phrase}",
            f"Content-Type: {MEDIA_TYPE}",
            f"Content-Length: {len(body)}",
            "Cache-Control: no-store",
            "X-Content-Type-Options: nosniff",
            *([f"Retry-After: {RETRY_AFTER_S}"] if status.value == 503 else []),
            "Connection: close",
        ]
        self.transport.write("\r\n".join(head).encode() + b"\r\n\r\n" + body)
        self.transport.close()


def protocol(head_s: float, most: int, head_bytes: int) -> type[asyncio.Protocol]:
    """The class of connections with these limits, which is how uvicorn takes a protocol."""
    limits: dict[str, Any] = {"head_s": head_s, "most": most, "head_bytes": head_bytes}
    return cast(type[asyncio.Protocol], type("LimitedProtocol", (PatientProtocol,), limits))
