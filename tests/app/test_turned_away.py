"""Uploads that find no room are answered before what they still send is read, and that is not waited for without end."""

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request

from spinepaint.app import problems, turned_away
from spinepaint.app.admission import Admission, Busy
from spinepaint.app.turned_away import turn_away
from spinepaint.app.uploads import DRAIN_BYTES, drain, received
from spinepaint.imaging.caps import Caps

Receive = Callable[[], Any]
BODY = {"type": "http.request", "body": b"x" * 1000, "more_body": True}
END = {"type": "http.request", "body": b"", "more_body": False}


def site(incoming: Path, admission: Admission) -> FastAPI:
    app = FastAPI()
    problems.install(app)
    app.add_exception_handler(Busy, turn_away)
    app.state.admission = admission

    @app.post("/")
    async def take(request: Request) -> None:
        async with received(request, incoming, Caps()):
            raise AssertionError("there was room")

    return app


async def asked(app: FastAPI, receive: Receive, *headers: tuple[bytes, bytes], path: str = "/") -> list[Any]:
    """What happened in order when an upload was sent: the types of what went out, and `read` for each look at what comes in."""
    happened: list[Any] = []

    async def send(message: Any) -> None:
        happened.append(message["type"].rpartition(".")[2] if message["type"].endswith("start") else message.get("body"))

    async def read() -> Any:
        happened.append("read")
        return await receive()

    form = (b"content-type", b"multipart/form-data; boundary=b")
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": [form, *headers]}
    async with asyncio.timeout(60):
        await app(scope, read, send)
    return happened


@pytest.fixture
def full(tmp_path: Path) -> Any:
    """A gateway that has no room, and its admission."""
    admission = Admission(1)
    with ExitStack() as stack:
        admission.received(stack.enter_context(admission.turn()))
        yield site(tmp_path / "incoming", admission), admission


def test_the_answer_is_out_before_the_body_is_in(full: Any) -> None:
    app, _admission = full
    pieces = iter([BODY, BODY, END])

    async def receive() -> Any:
        return next(pieces)

    happened = asyncio.run(asked(app, receive))
    assert happened[0] == "start" and b"too-many-uploads" in happened[1]
    assert happened[2:] == ["read", "read", "read", b""]


def test_a_client_that_asked_first_has_sent_nothing_that_could_be_read(full: Any) -> None:
    app, _admission = full
    happened = asyncio.run(asked(app, lambda: None, (b"expect", b"100-continue")))
    assert happened[0] == "start" and "read" not in happened


def test_a_connection_on_which_a_body_is_still_to_be_read_is_not_for_the_next_request(full: Any) -> None:
    app, _admission = full
    said: list[Any] = []

    async def note(declared: bytes) -> None:
        async def send(message: Any) -> None:
            said.append(message)

        async def receive() -> Any:
            return END

        headers = [(b"content-type", b"multipart/form-data; boundary=b"), (b"content-length", declared)]
        scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers}
        await app(scope, receive, send)

    for declared, closes in ((b"1000", True), (b"%d" % (DRAIN_BYTES + 1), False)):
        said.clear()
        asyncio.run(note(declared))
        assert ((b"connection", b"close") in said[0]["headers"]) is closes


def test_of_a_body_that_is_in_nothing_more_is_waited_for(tmp_path: Path) -> None:
    app = site(tmp_path, Admission(1))

    @app.post("/whole")
    async def whole(request: Request) -> None:
        async for _ in request.stream():
            pass
        raise Busy("too-many-bodies", "Too many.", "Later.", status=429)

    pieces = iter([END])

    async def receive() -> Any:
        return next(pieces)

    assert asyncio.run(asked(app, receive, path="/whole"))[0:2] == ["read", "start"]


def test_bodies_are_read_by_turns_and_nobody_waits_for_one_without_end(full: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    app, admission = full
    monkeypatch.setattr(turned_away, "IN_TURN_S", 0.05)

    async def receive() -> Any:
        return END

    async def held() -> list[Any]:
        while not admission.draining.locked():
            await admission.draining.acquire()
        return await asked(app, receive)

    happened = asyncio.run(held())
    assert happened[0] == "start" and b"too-many-uploads" in happened[1]
    assert happened[2:] == ["read", b""]  # so that its client sees the answer too


def test_a_body_of_which_nothing_comes_is_left() -> None:
    looks = []

    async def receive() -> Any:
        looks.append(len(looks))
        if len(looks) > 2:
            await asyncio.Event().wait()
        return BODY

    async def left() -> None:
        async with asyncio.timeout(60):
            await drain(Request({"type": "http"}, receive), within_s=3600, idle_s=0.05)

    asyncio.run(left())
    assert len(looks) == 3
