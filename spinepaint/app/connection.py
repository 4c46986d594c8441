"""HTTP/1.1 connections, only so many, of which none may take for ever to say what it wants, or to take its answer."""

import asyncio
import fcntl
import json
import struct
import termios
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from spinepaint.app.problems import MEDIA_TYPE, RETRY_AFTER_S
from spinepaint.imaging.errors import Refusal

LEAST_BYTES_PER_S = 1_000
"""Whoever takes an answer more slowly, or sends more slowly what is no longer wanted, is there to hold the connection."""


class Clock:
    """Calls once when its time is over, unless it is stopped before; to start it again changes nothing while it runs."""

    def __init__(self, loop: asyncio.AbstractEventLoop, within_s: float, overdue: Callable[[], None]) -> None:
        """It does not run yet."""
        self._loop, self._within_s, self._overdue = loop, within_s, overdue
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Have it run, from now on where it did not."""
        if self._handle is None:
            self._handle = self._loop.call_later(self._within_s, self._over)

    def stop(self) -> None:
        """Have it not run."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _over(self) -> None:
        self._handle = None
        self._overdue()


class PatientProtocol(H11Protocol):
    """uvicorn's protocol, with the limits that it has not got.

    A head that is not whole after `head_s` is answered with 408, and a connection that sends none is closed then. While there
    are `most` connections a further one is answered with 503 at once. What is no HTTP gets 400; all three are problem documents.
    A connection is closed where the rest of a body whose request was answered comes at less than a thousand bytes a second for
    `head_s`, and cut where an answer is taken as slowly for `answer_idle_s`.
    """

    head_s = 10.0
    answer_idle_s = 60.0
    most = 1000
    head_bytes = 16 * 2**10

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count a new connection, and wait for its head."""
        self._head = Clock(self.loop, self.head_s, self._head_overdue)
        self._rest = Clock(self.loop, self.head_s, self._rest_overdue)
        self._answer = Clock(self.loop, self.answer_idle_s, self._answer_overdue)
        self._rest_bytes = self._unread_before = 0
        super().connection_made(transport)
        # Writing is paused whenever the kernel has not taken all: also the end of an answer is then seen to stay behind.
        transport.set_write_buffer_limits(high=0)
        if len(self.connections) > self.most:
            detail = f"max_connections is {self.most} here. Close some, or try again."
            title = "There are more connections than the cap max_connections."
            self._refuse(Refusal("over-cap-max-connections", title, detail, status=503))
            return
        self._head.start()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        for clock in (self._head, self._rest, self._answer):
            clock.stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take a piece of a head or of a body."""
        super().data_received(data)
        # uvicorn has stopped its own clock; here one runs from the first byte of a head to its last, however it drips, and
        # another while what comes is the rest of a body that nobody reads, since its request was answered.
        heads, rest = self.conn.their_state is h11.IDLE, self._nobody_reads()
        if not heads:
            self._head.stop()
        elif self.timeout_keep_alive_task is None and not self.transport.is_closing():
            self._head.start()
        if not rest:
            self._rest.stop()
            self._rest_bytes = 0
        elif not self.transport.is_closing():
            self._rest_bytes += len(data)
            self._rest.start()

    def pause_writing(self) -> None:
        """The client does not take its answer as fast as it is made."""
        super().pause_writing()
        self._unread_before = self._unread()
        self._answer.start()

    def resume_writing(self) -> None:
        """It has taken what there was, or the kernel has."""
        self._answer.stop()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP request, or has a head beyond the limits of the parser."""
        detail = f"Send HTTP/1.1; max_head_bytes is {self.head_bytes} here."
        self._refuse(Refusal("malformed-request", msg, detail, status=400))

    def _nobody_reads(self) -> bool:
        return self.conn.our_state is h11.DONE and self.conn.their_state is h11.SEND_BODY

    def _unread(self) -> int:
        """Bytes of the answer that the client has not acknowledged; where the kernel does not say, that it has not taken."""
        try:
            queued = fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
        except OSError:
            queued = bytes(4)
        return self.transport.get_write_buffer_size() + int(struct.unpack("i", queued)[0])

    def _head_overdue(self) -> None:
        if self.transport.is_closing():
            return
        if not self.conn.trailing_data[0]:  # it has sent nothing at all, and hears nothing
            self.transport.close()
            return
        detail = f"head_timeout_s is {self.head_s:g} here. Send the request again."
        self._refuse(Refusal("head-timeout", "The head of the request took too long.", detail, status=408))

    def _rest_overdue(self) -> None:
        came, self._rest_bytes = self._rest_bytes, 0
        if came < LEAST_BYTES_PER_S * self.head_s:
            self.transport.close()  # what there was to say has been said
        else:
            self._rest.start()

    def _answer_overdue(self) -> None:
        before, self._unread_before = self._unread_before, self._unread()
        if before - self._unread_before < LEAST_BYTES_PER_S * self.answer_idle_s:
            self.transport.abort()  # to close it would wait for what is not taken
        else:
            self._answer.start()

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


def protocol(head_s: float, answer_idle_s: float, most: int, head_bytes: int) -> type[asyncio.Protocol]:
    """The class of connections with these limits, which is how uvicorn takes a protocol."""
    limits: dict[str, Any] = {"head_s": head_s, "answer_idle_s": answer_idle_s, "most": most, "head_bytes": head_bytes}
    return cast(type[asyncio.Protocol], type("LimitedProtocol", (PatientProtocol,), limits))
