"""What a connection is waited for, by a clock that the test moves."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

import h11
import pytest
from uvicorn.config import Config
from uvicorn.server import ServerState

from spinepaint.app.connection import LEAST_BYTES_PER_S, PatientProtocol, protocol

HEAD_S, ANSWER_IDLE_S = 10.0, 60.0
GET = b"GET / HTTP/1.1\r\nHost: a\r\n"


def on_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @wraps(test)
    def run(*args: Any, **options: Any) -> None:
        asyncio.run(test(*args, **options))

    return run


class Timer:
    def __init__(self, at: float, call: Callable[..., None], args: tuple[Any, ...]) -> None:
        self.at, self.call, self.args, self.cancelled = at, call, args, False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """An event loop whose time stands still until it is moved."""

    def __init__(self) -> None:
        self.now, self.timers = 0.0, list[Timer]()
        self.create_task = asyncio.get_running_loop().create_task

    def call_later(self, delay: float, call: Callable[..., None], *args: Any) -> Timer:
        self.timers.append(Timer(self.now + delay, call, args))
        return self.timers[-1]

    def move(self, seconds: float) -> None:
        until = self.now + seconds
        while due := [timer for timer in self.timers if not timer.cancelled and timer.at <= until]:
            timer = min(due, key=lambda each: each.at)
            self.timers.remove(timer)
            self.now = timer.at
            timer.call(*timer.args)
        self.now = until


class Wire(asyncio.Transport):
    """What the kernel does not take stays in `left`."""

    def __init__(self) -> None:
        super().__init__()
        self.sent, self.left, self.ended = b"", 0, ""
        self.high: int | None = None

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self if name == "socket" else default

    def getsockname(self) -> tuple[str, int]:
        return "127.0.0.1", 1

    getpeername = getsockname

    def fileno(self) -> int:
        raise OSError  # the kernel says nothing of what it holds

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.high = high

    def get_write_buffer_size(self) -> int:
        return self.left

    def write(self, data: Any) -> None:
        self.sent += bytes(data)

    def is_closing(self) -> bool:
        return bool(self.ended)

    def close(self) -> None:
        self.ended = self.ended or "closed"

    def abort(self) -> None:
        self.ended = "cut"

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


async def answer(_scope: Any, _receive: Any, send: Any) -> None:
    """Answers without a look at the body."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def connect() -> tuple[PatientProtocol, Loop, Wire]:
    loop, wire = Loop(), Wire()
    made: Any = protocol(HEAD_S, ANSWER_IDLE_S, 10, 2**14)
    connection = made(Config(answer, log_config=None, lifespan="off"), ServerState(), {}, _loop=loop)
    connection.connection_made(wire)
    return connection, loop, wire


async def answered(declared: int) -> tuple[PatientProtocol, Loop, Wire]:
    """A connection whose request said that a body comes, and was answered before it did."""
    connection, loop, wire = connect()
    connection.data_received(GET + b"Content-Length: %d\r\n\r\n" % declared)
    await asyncio.sleep(0)
    assert wire.sent.endswith(b"ok")
    assert (connection.conn.our_state, connection.conn.their_state) == (h11.DONE, h11.SEND_BODY)
    return connection, loop, wire


@on_a_loop
async def test_a_body_that_nobody_waits_for_holds_no_connection() -> None:
    connection, loop, wire = await answered(10_000)
    connection.data_received(b"x")
    for _ in range(20):
        loop.move(1)
        if not wire.ended:
            connection.data_received(b"x")
    assert wire.ended == "closed"
    assert loop.now >= HEAD_S


@on_a_loop
async def test_one_of_which_nothing_comes_is_closed_too() -> None:
    _connection, loop, wire = await answered(10_000)
    loop.move(HEAD_S)
    assert wire.ended == "closed"


@on_a_loop
async def test_one_that_goes_on_may_end_and_the_connection_is_used_again() -> None:
    piece = b"x" * LEAST_BYTES_PER_S
    connection, loop, wire = await answered(50 * len(piece))
    for _ in range(50):
        connection.data_received(piece)
        loop.move(1)
        assert not wire.ended
    connection.data_received(GET)
    loop.move(HEAD_S - 1.1)
    assert not wire.ended  # the head has a time of its own
    connection.data_received(b"\r\n")
    await asyncio.sleep(0)
    assert wire.sent.count(b"200 OK") == 2


@on_a_loop
async def test_an_answer_that_is_not_taken_is_cut() -> None:
    connection, loop, wire = connect()
    assert wire.high == 0  # so that even the last bytes of an answer are seen to stay behind
    connection.data_received(GET + b"\r\n")
    await asyncio.sleep(0)
    wire.left = 1
    connection.pause_writing()
    loop.move(ANSWER_IDLE_S - 0.1)
    assert wire.ended in ("", "closed")  # kept alive no longer, and yet not gone
    loop.move(0.2)
    assert wire.ended == "cut"


@pytest.mark.parametrize(("a_second", "ended"), [(LEAST_BYTES_PER_S // 10, "cut"), (2 * LEAST_BYTES_PER_S, "")])
@on_a_loop
async def test_one_that_is_taken_slowly_is_cut_and_one_that_is_taken_at_a_pace_is_not(a_second: int, ended: str) -> None:
    connection, loop, wire = connect()
    wire.left = 10**6
    connection.pause_writing()
    connection._head.stop()  # that is another test's
    for _ in range(150):
        wire.left -= a_second
        loop.move(1)
    assert wire.ended == ended
    if not ended:
        connection.resume_writing()
        loop.move(10 * ANSWER_IDLE_S)
        assert not wire.ended


@on_a_loop
async def test_no_clock_runs_on_after_the_connection() -> None:
    connection, loop, _wire = await answered(10)
    connection.data_received(b"x")
    connection.pause_writing()
    connection.connection_lost(None)
    assert [timer for timer in loop.timers if not timer.cancelled] == []
