"""Floods of requests without a key: what is over the limit costs nothing, and locks nobody out who has one."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest

from spinepaint.app.buckets import Buckets
from spinepaint.app.denials import Denials
from tests.attacks.serving import PATIENCE_S, Serving, problem, serving, unharmed
from tests.attacks.wire import connected, head, hear, say

BURST, MOST = 20, 30


@pytest.fixture(scope="module")
def gateway(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    limits = {"denials_per_s": "0.001", "denials_burst": str(BURST), "max_connections": str(MOST), "head_timeout_s": "100"}
    with serving(tmp_path_factory.mktemp("flooded"), broker, **limits) as gateway:
        yield gateway


def test_whoever_keeps_trying_is_no_longer_listened_to(gateway: Serving) -> None:
    key = gateway.key()
    mine = {"Authorization": f"Bearer {key}"}
    assert gateway.client.get("/v1/jobs", headers=mine).status_code == 200
    tries = [None, "Bearer sp_0123456789abcdef_none", "Bearer x", "Basic YTpi", f"Bearer {key}x"]
    with unharmed(gateway, more_mib=16):
        answers = [
            problem(gateway.client.get("/v1/jobs", headers={"Authorization": text} if text else {}))
            for text in (tries * BURST)[: 3 * BURST]
        ]
        assert {status for status, _slug in answers[:BURST]} == {401}
        assert set(answers[BURST:]) == {(429, "over-cap-denials-per-s")}
        refused = gateway.client.get("/v1/jobs")
        assert "denials_per_s is 0.001 here" in refused.json()["detail"]
        assert int(refused.headers["retry-after"]) > 900
        # Who was let in lately is so still, from the same address, as behind a proxy.
        assert gateway.client.get("/v1/jobs", headers=mine).status_code == 200
        # The probes are answered as ever, as they need no key.
        assert gateway.client.get("/health/live").status_code == 200


def test_a_flood_is_answered_without_its_bodies_being_read(gateway: Serving) -> None:
    with unharmed(gateway, more_mib=16):
        answer = say(gateway, head(gateway, "POST", "/v1/series", Content_Length="1000000000"))
        assert (answer.status, answer.slug) == (429, "over-cap-denials-per-s")


def test_a_flood_from_many_clients_at_once_leaves_the_service_well(gateway: Serving) -> None:
    key = gateway.key()
    unheard = [0, 0]
    lock = threading.Lock()

    def ask(_number: int) -> None:
        with httpx.Client(base_url=gateway.url, timeout=PATIENCE_S) as client:
            for _ in range(20):
                status = client.get("/v1/jobs", headers={"Authorization": "Bearer sp_0123456789abcdef_none"}).status_code
                with lock:
                    unheard[status == 429] += 1

    with unharmed(gateway, more_mib=24):
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(ask, range(8)))
        assert unheard == [0, 160]
    # A new key of the same address is not let in before its turn comes: the gateway cannot know that it is good.
    answer = gateway.client.get("/v1/jobs", headers={"Authorization": f"Bearer {key}"})
    assert problem(answer) == (429, "over-cap-denials-per-s")


def client_at(host: str) -> dict[str, object]:
    return {"type": "http", "client": (host, 1)}


def test_addresses_are_counted_each_and_networks_of_one_client_together() -> None:
    denials = Denials(0.001, 1)
    denials.denied(client_at("203.0.113.7"))
    assert denials.wait_s(client_at("203.0.113.7"), None) > 900
    assert denials.wait_s(client_at("::ffff:203.0.113.7"), None) > 900
    assert denials.wait_s(client_at("203.0.113.8"), None) == 0
    denials.denied(client_at("2001:db8:1:2::1"))
    assert denials.wait_s(client_at("2001:db8:1:2:ffff::9"), None) > 900
    assert denials.wait_s(client_at("2001:db8:1:3::1"), None) == 0
    assert denials.wait_s({"type": "http", "client": None}, None) == 0


def test_only_so_many_addresses_and_keys_are_remembered() -> None:
    denials = Denials(1.0, 1)
    for number in range(5000):
        denials.admitted(f"Bearer {number}")
    denials.denied(client_at("203.0.113.7"))
    assert denials.wait_s(client_at("203.0.113.7"), "Bearer 4999") == 0
    assert denials.wait_s(client_at("203.0.113.7"), "Bearer 1") > 0
    buckets = Buckets(most=100)
    for number in range(1000):
        buckets.take(str(number), 1.0, 1, now=0.0)
    assert len(buckets) == 100


def test_a_bucket_fills_again() -> None:
    buckets = Buckets()
    assert [buckets.take("a", 2.0, 2, now=0.0) for _ in range(3)] == [0.0, 0.0, 0.5]
    assert buckets.wait_s("a", 2.0, 2, now=0.25) == pytest.approx(0.25)
    assert buckets.take("a", 2.0, 2, now=0.5) == 0.0
    assert buckets.wait_s("a", 2.0, 2, now=100.0) == 0.0
    assert buckets.wait_s("b", 2.0, 2, now=0.0) == 0.0


def test_more_connections_than_the_cap_are_refused_and_say_why(gateway: Serving) -> None:
    many = 3 * MOST
    with unharmed(gateway, more_mib=16):
        with ExitStack() as stack:
            wires = [stack.enter_context(connected(gateway)) for _ in range(many)]
            for wire in wires[MOST:]:
                answer = hear(wire)
                assert (answer.status, answer.slug) == (503, "over-cap-max-connections")
                assert f"max_connections is {MOST} here" in answer.detail
                assert answer.headers["retry-after"]
        deadline = time.monotonic() + PATIENCE_S
        while say(gateway, head(gateway, "GET", "/health/live")).status != 200:  # until it has seen that they are gone
            assert time.monotonic() < deadline
