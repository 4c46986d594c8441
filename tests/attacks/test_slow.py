"""Clients that take their time, against a gateway that has little of it."""

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from tests.attacks.serving import Serving, serving, unharmed
from tests.attacks.test_bodies import PART, POSTS, TYPES
from tests.attacks.wire import Heard, connected, head, hear, say

HEAD_S, IDLE_S, LIMIT_S, ANSWER_S = 1.0, 3.0, 4.0, 1.0
SILENT = 20
LET_GO_S = 30.0


@pytest.fixture(scope="module")
def gateway(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    limits = {"head_timeout_s": str(HEAD_S), "body_idle_s": str(IDLE_S), "body_limit_s": str(LIMIT_S)}
    limits |= {"answer_idle_s": str(ANSWER_S)}
    with serving(tmp_path_factory.mktemp("slow"), broker, **limits) as gateway:
        yield gateway


def begun(gateway: Serving, path: str) -> bytes:
    return head(gateway, "POST", path, Content_Type=TYPES[path], Content_Length="10000") + PART


def test_a_body_that_stalls_is_let_go(gateway: Serving) -> None:
    with unharmed(gateway, more_mib=16), ThreadPoolExecutor(len(POSTS)) as pool:
        for answer in pool.map(lambda path: say(gateway, begun(gateway, path)), POSTS):
            assert (answer.status, answer.slug) == (408, "upload-timeout")
            assert "body_idle_s is 3 here" in answer.detail


def test_a_body_that_drips_is_let_go(gateway: Serving) -> None:
    """Never silent for as long as `body_idle_s`, and never done."""

    def drip(path: str) -> Heard:
        with connected(gateway) as wire:
            wire.sendall(begun(gateway, path))
            wire.settimeout(0.2)
            for _ in range(300):
                try:
                    wire.sendall(b"x")
                    if wire.recv(1, 2):  # MSG_PEEK: it has answered
                        break
                except TimeoutError:
                    continue
            wire.settimeout(60)
            return hear(wire)

    with unharmed(gateway, more_mib=16), ThreadPoolExecutor(len(POSTS)) as pool:
        for answer in pool.map(drip, POSTS):
            assert (answer.status, answer.slug) == (408, "upload-timeout")
            assert "body_limit_s is 4 here" in answer.detail


def test_a_head_that_drips_is_let_go(gateway: Serving) -> None:
    """As slowloris does: a field now and then, and never the empty line."""
    with unharmed(gateway, more_mib=8), connected(gateway) as wire:
        began = time.monotonic()
        wire.sendall(b"GET /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        wire.settimeout(0.2)
        answer = b""
        while not answer and time.monotonic() - began < 60:
            try:
                wire.sendall(b"X-A: b\r\n")
                answer = wire.recv(2**16)
            except TimeoutError:
                continue
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"head_timeout_s is 1 here" in answer
        assert time.monotonic() - began >= HEAD_S


def test_a_second_head_that_drips_is_let_go_too(gateway: Serving) -> None:
    with unharmed(gateway, more_mib=8), connected(gateway) as wire:
        wire.sendall(head(gateway, "GET", "/health/live"))
        assert hear(wire).status == 200
        wire.sendall(b"GET /health/live HTTP/1.1\r\n")
        answer = hear(wire)
        assert (answer.status, answer.slug) == (408, "head-timeout")


def test_connections_that_say_nothing_are_closed(gateway: Serving) -> None:
    with unharmed(gateway, more_mib=8), ExitStack() as stack:
        wires = [stack.enter_context(connected(gateway)) for _ in range(SILENT)]
        assert [hear(wire).status for wire in wires] == [0] * SILENT


def let_go(wire: socket.socket, more: bytes) -> bool:
    """Whether the other end lets go of a connection on which a little more comes ever again, and nothing is taken."""
    began = time.monotonic()
    while time.monotonic() - began < LET_GO_S:
        try:
            wire.sendall(more)
        except ConnectionError:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("framing", ["Content-Length: 1000000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n100000\r\n"])
def test_a_body_that_drips_after_its_answer_is_let_go(gateway: Serving, framing: str) -> None:
    """Nobody needs a key to be answered before the body that was announced has come."""
    with unharmed(gateway, more_mib=8), connected(gateway) as wire:
        wire.sendall(head(gateway, "GET", "/health/live")[:-2] + framing.encode())
        assert hear(wire).status == 200
        assert let_go(wire, b"x")


def test_answers_that_nobody_takes_are_cut(gateway: Serving) -> None:
    request = head(gateway, "GET", "/openapi.json")
    with unharmed(gateway, more_mib=48), socket.socket() as wire:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wire.connect(gateway.address)
        wire.settimeout(LET_GO_S)
        wire.sendall(200 * request)  # some 30 MB, which no kernel holds
        # What it reads no more of stays with the kernels, until the other end is gone.
        assert let_go(wire, b"G")
