"""Destinations that would keep a sender for ever, fill its memory, or hold up the others."""

import json
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from spinepaint.worker import delivery_try
from spinepaint.worker.delivery import DeliveryThread
from tests.worker.offices import Office, node_at, stow
from tests.worker.receivers import WebReceiver, drip, raw_receiver, read_request, referenced, store_node
from tests.worker.workplaces import wait_until

QUICK = {"delivery_limit_s": 0.3}
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/dicom+json\r\n"


def after_request(answer: Callable[[socket.socket], Any]) -> Callable[[socket.socket], None]:
    def answered(connection: socket.socket) -> None:
        read_request(connection)
        answer(connection)

    return answered


@pytest.mark.parametrize("first", [HEAD + b"Content-Length: 1000000\r\n\r\n", HEAD + b"X-Never-Ending: "])
def test_an_answer_that_drips_for_ever_ends_the_try(office: Office, first: bytes) -> None:
    with raw_receiver(after_request(partial(drip, first=first))) as port:
        office.towards(stow(f"http://127.0.0.1:{port}"), **QUICK).deliver_due()
    assert office.state() == ("pending", 1)
    assert "took longer than" in office.detail()


def test_a_tls_handshake_that_drips_ends_the_try(office: Office) -> None:
    with raw_receiver(partial(drip, first=b"\x16\x03\x03\x20\x00")) as port:
        office.towards(stow(f"https://127.0.0.1:{port}"), **QUICK).deliver_due()
    assert office.state() == ("pending", 1)


def test_a_large_result_has_more_time(office: Office, web: WebReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spinepaint.worker.delivery.SLOWEST_BYTES_PER_S", 1)
    office.towards(stow(web.url), delivery_limit_s=1e-6).deliver_due()
    assert office.state() == ("delivered", 1)


@pytest.mark.parametrize(("status", "state"), [(200, "failed"), (503, "pending")])
def test_no_more_of_an_answer_is_read_than_one_can_have(office: Office, status: int, state: str) -> None:
    sent = 0

    def flood(connection: socket.socket) -> None:
        nonlocal sent
        read_request(connection)
        connection.sendall(b"HTTP/1.1 %d So\r\nContent-Length: 3000000000\r\n\r\n" % status)
        while sent < 200 << 20:
            sent += connection.send(b"[" * 65536)

    with raw_receiver(flood) as port:
        office.towards(stow(f"http://127.0.0.1:{port}")).deliver_due()
    assert office.state() == (state, 1)
    assert f"HTTP status {status} and more than" in office.detail()
    assert sent < 50 << 20  # what the buffers of a socket take


@pytest.mark.parametrize("nested", [b"[" * 900_000, b'{"a":' * 150_000, b"1" * 900_000, b"\xff\xfe\x00"])
def test_an_answer_that_json_cannot_be_is_none(office: Office, web: WebReceiver, nested: bytes) -> None:
    web.answers = [(200, nested)]
    office.towards(stow(web.url)).deliver_due()
    assert office.state() == ("failed", 1)
    assert "5 of 5 instances" in office.detail()


def test_a_packed_answer_is_not_unpacked(office: Office) -> None:
    def packed(connection: socket.socket) -> None:
        connection.sendall(HEAD + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00")

    with raw_receiver(after_request(packed)) as port:
        office.towards(stow(f"http://127.0.0.1:{port}")).deliver_due()
    assert office.state() == ("failed", 1)
    assert "5 of 5 instances" in office.detail()


def test_a_failure_of_a_thousand_reasons_is_told_in_short(office: Office, web: WebReceiver) -> None:
    reasons = [0xA900 + n % 256 for n in range(1000)] + [10**300, -1, True]
    items = [referenced(["1.2"], **{"00081197": {"vr": "US", "Value": [code]}})["00081199"]["Value"][0] for code in reasons]
    web.answers = [(409, json.dumps({"00081198": {"vr": "SQ", "Value": items}}).encode())]
    office.towards(stow(web.url)).deliver_due()
    assert "1003 of 5 instances" in office.detail()
    assert len(office.detail()) < 200


def test_a_node_that_drips_ends_the_try(office: Office) -> None:
    with raw_receiver(partial(drip, first=b"\x02\x00\x00\x01\x00\x00")) as port:
        office.towards(node_at(port), **QUICK).deliver_due()
    assert office.state() == ("pending", 1)
    assert "took longer than" in office.detail()


def test_a_node_that_hangs_within_a_message_is_silent(office: Office) -> None:
    def hang(connection: socket.socket) -> None:
        connection.sendall(b"\x02\x00\x00\x01\x00\x00half")
        while connection.recv(65536):
            pass

    with raw_receiver(hang) as port:
        office.towards(node_at(port), delivery_timeout_s=0.3).deliver_due()
    assert office.state() == ("pending", 1)
    assert "No association" in office.detail()


def test_a_node_that_is_slow_with_each_instance_ends_the_try(office: Office) -> None:
    def slow(_number: int) -> int:
        time.sleep(0.2)
        return 0

    with store_node() as node:
        node.status = slow
        office.towards(node_at(node.port), **QUICK).deliver_due()
    assert office.state() == ("pending", 1)
    assert "took longer than" in office.detail()
    assert len(node.received) < 5


def test_a_destination_that_is_slow_holds_up_no_other(office: Office, web: WebReceiver) -> None:
    with raw_receiver(after_request(drip)) as port:
        slow = stow(f"http://127.0.0.1:{port}")
        office.towards(slow, announce_every_s=0.05)
        thread = delivering(office, {"pacs": slow, "another": stow(web.url)})
        held = office.job
        wait_until(lambda: office.state() == ("pending", 1))
        for number in (1, 2):
            office.finish(destination="another")
            wait_until(lambda: office.state() == ("delivered", 1))
            assert len(web.bodies) == number
        assert [d.state for d in office.ledger.dicom_deliveries([held.id])] == ["pending"]
        began = time.monotonic()
        thread.stop(0.2)
        assert time.monotonic() - began < 2.0


def delivering(office: Office, destinations: dict[str, Any]) -> DeliveryThread:
    office.settings = office.settings.model_copy(update={"destinations": destinations})
    thread = DeliveryThread(office.settings)
    thread.start()
    return thread


def test_a_deleted_job_frees_its_sender(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery_try, "LOOKED_AFTER_S", 0.1)
    asked = threading.Event()

    def held(connection: socket.socket) -> None:
        asked.set()
        drip(connection)

    with raw_receiver(after_request(held)) as port:
        deliverer = office.towards(stow(f"http://127.0.0.1:{port}"))
        sending = threading.Thread(target=deliverer.deliver_due)
        sending.start()
        assert asked.wait(60)
        office.ledger.delete_job(office.job.id)
        sending.join(30)
        assert not sending.is_alive()
    assert office.ledger.dicom_deliveries([office.job.id]) == []


def test_what_is_due_to_a_destination_that_the_settings_lost_is_tried_too(office: Office, web: WebReceiver) -> None:
    office.towards(stow(web.url), announce_every_s=0.05, delivery_attempts=1)
    thread = delivering(office, {"another": stow(web.url)})
    wait_until(lambda: office.delivery().state == "failed")
    thread.stop(10.0)
    assert "do not name" in office.detail()
