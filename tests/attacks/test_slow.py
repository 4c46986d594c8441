"""Clients that take their time, against a gateway that has little of it."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from tests.attacks.serving import Serving, serving, unharmed
from tests.attacks.test_bodies import PART, POSTS, TYPES
from tests.attacks.wire import Heard, connected, head, hear, say

HEAD_S, IDLE_S, LIMIT_S = 1.0, 3.0, 4.0
SILENT = 20


@pytest.fixture(scope="module")
def gateway(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    limits = {"head_timeout_s": str(HEAD_S), "body_idle_s": str(IDLE_S), "body_limit_s": str(LIMIT_S)}
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
