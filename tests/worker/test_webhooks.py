"""Callers who are told that their jobs have ended: well, busy, gone, slow, and elsewhere than they seemed."""

import base64
import hashlib
import hmac
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from spinepaint.settings import Settings
from spinepaint.store import Delivery, Job, JobOrder, Ledger
from spinepaint.store.database import utc_now
from spinepaint.worker.webhooks import WebhookSender, WebhookThread, backoff
from tests.worker.receivers import WebReceiver, drip, raw_receiver, read_request, web_receiver
from tests.worker.workplaces import add_source, open_stores, wait_until

KEYS = [bytes(range(32)), bytes(range(100, 124))]
SECRET = " ".join("whsec_" + base64.b64encode(key).decode() for key in KEYS)
DRIPPING = partial(drip, first=b"HTTP/1.1 200 OK\r\nX-Never-Ending: ")
TOKEN = "secret-of-the-caller"


class Desk:
    """A ledger with a job that ended, and settings that allow loopback."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.ledger, self.artifacts = open_stores(folder)
        hosts = ["127.0.0.1"]
        allowed = {"secret": SECRET, "allow_http": True, "private_hosts": hosts, "retry_s": 0.0, "timeout_s": 60, "limit_s": 60}
        self.settings = Settings.model_validate({"data_dir": folder, "webhook": allowed | options, "announce_every_s": 0.05})

    def finish(self, url: str) -> Job:
        source = add_source(self.ledger, self.artifacts)
        job = self.ledger.submit_job(source.id, {}, callback_url=url)
        claim = self.ledger.claim(job.id, "by hand")
        assert claim is not None
        assert self.ledger.succeed(job.id, claim.token, {}, "results/x/")
        return job

    def with_options(self, **options: Any) -> "Desk":
        webhook = self.settings.webhook.model_copy(update=options)
        self.settings = self.settings.model_copy(update={"webhook": webhook})
        return self

    def send_due(self, resolve: Callable[[str, int], list[str]] | None = None) -> int:
        sender = WebhookSender(self.ledger, self.settings, **({"resolve": resolve} if resolve else {}))
        return sum(sender.send(due) for due in sender.due())

    def webhook(self, job: Job) -> Delivery:
        return self.ledger.webhooks([job.id])[job.id]

    def state(self, job: Job) -> tuple[str, int]:
        return self.webhook(job).state, self.webhook(job).attempts

    def detail(self, job: Job) -> str:
        problem = self.webhook(job).problem
        assert problem is not None
        assert problem["type"].endswith("/webhook-failed")
        return str(problem["detail"])


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.ledger.close()


def test_a_webhook_is_signed_thin_and_sent_once(desk: Desk, web: WebReceiver) -> None:
    job = desk.finish(f"{web.url}/hook?token={TOKEN}")
    web.answers = [(204, b"")]
    before = int(time.time())
    assert desk.send_due() == 1
    assert desk.send_due() == 0
    assert desk.state(job) == ("delivered", 1)
    ((headers, body),) = zip(web.headers, web.bodies, strict=True)
    sent_at = int(headers["webhook-timestamp"])
    assert before <= sent_at <= time.time()
    signed = f"{headers['webhook-id']}.{sent_at}.".encode() + body
    expected = ["v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode() for key in KEYS]
    assert headers["webhook-signature"].split() == expected
    assert headers["path"] == f"/dicom-web/hook?token={TOKEN}"
    assert (headers["content-type"], headers["host"]) == ("application/json", web.url.split("/")[2])
    document = json.loads(body)
    assert set(document) == {"type", "timestamp", "data"}
    assert document["type"] == "job.succeeded"
    assert (document["data"]["id"], document["data"]["state"]) == (job.id, "succeeded")
    assert document["data"]["links"]["result"] == f"/v1/jobs/{job.id}/result"
    assert set(document["data"]) == {"id", "state", "links"}


def test_the_published_example_of_the_standard_verifies() -> None:
    from spinepaint.webhook_settings import WebhookSettings
    from spinepaint.worker.webhook_request import signed_headers

    # From the specification's reference libraries: their common test vector.
    settings = WebhookSettings.model_validate({"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"})
    headers = signed_headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}', settings.keys)
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("secret", ["nonsense", "whsec_", "whsec_AAAA", "whsec_" + "A" * 31, "whsec_" + "A" * 200])
def test_a_secret_that_is_none_is_refused_at_the_start(secret: str) -> None:
    with pytest.raises(ValueError, match="24 to 64 bytes"):
        Settings.model_validate({"webhook": {"secret": secret}})


def test_a_busy_receiver_gets_the_same_later(desk: Desk, web: WebReceiver) -> None:
    job = desk.with_options(retry_s=100.0).finish(web.url)
    web.answers = [(503, b"busy"), (500, b""), (200, b"")]
    for attempt, wait_s in ((1, 100), (2, 200)):
        assert desk.send_due() == 1
        assert desk.state(job) == ("owed", attempt)
        due_at = desk.webhook(job).due_at
        assert due_at is not None
        assert due_at - utc_now() <= timedelta(seconds=1.25 * wait_s)
        assert desk.send_due() == 0
        make_due(desk)
    assert "HTTP status 500" in desk.detail(job)
    assert desk.send_due() == 1
    assert desk.state(job) == ("delivered", 3)
    assert web.bodies[0] == web.bodies[1] == web.bodies[2]
    assert len({headers["webhook-id"] for headers in web.headers}) == 1


def make_due(desk: Desk) -> None:
    with desk.ledger.write() as session:
        session.execute(update(Delivery).values(due_at=utc_now() - timedelta(seconds=1)))


def test_a_wait_doubles_up_to_an_hour_and_is_never_quite_the_same() -> None:
    waits = [[backoff(attempt, 5.0).total_seconds() for _ in range(50)] for attempt in (1, 2, 3, 40, 5000)]
    for found, middle in zip(waits, (5, 10, 20, 3600, 3600), strict=True):
        assert all(0.75 * middle <= wait <= 1.25 * middle for wait in found)
        assert len(set(found)) > 10


def test_after_so_many_tries_it_is_given_up(desk: Desk, web: WebReceiver) -> None:
    job = desk.with_options(attempts=2).finish(web.url)
    web.answers = [(500, b"")]
    assert [desk.send_due() for _ in range(3)] == [1, 1, 0]
    assert desk.state(job) == ("given_up", 2)


def test_a_receiver_that_is_gone_is_not_asked_again(desk: Desk, web: WebReceiver) -> None:
    job = desk.finish(web.url)
    web.answers = [(410, b"")]
    desk.send_due()
    assert desk.state(job) == ("given_up", 1)


def test_redirects_are_not_followed(desk: Desk, web: WebReceiver) -> None:
    def redirect(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(f"HTTP/1.1 307 Elsewhere\r\nLocation: {web.url}\r\nContent-Length: 0\r\n\r\n".encode())

    with raw_receiver(redirect) as port:
        job = desk.finish(f"http://127.0.0.1:{port}/")
        desk.send_due()
    assert web.bodies == []
    assert (desk.state(job), "HTTP status 307" in desk.detail(job)) == (("owed", 1), True)


@pytest.mark.parametrize("inside", ["127.0.0.1", "169.254.169.254", "::ffff:127.0.0.1", "10.0.0.1", "fd00::1"])
def test_a_name_that_has_come_to_mean_an_inside_address_is_not_reached(desk: Desk, web: WebReceiver, inside: str) -> None:
    job = desk.with_options(private_hosts=()).finish(f"http://example.org:{web.url.split(':')[2]}")
    desk.send_due(lambda host, port: ["8.8.8.8", inside])
    assert web.bodies == []
    assert desk.state(job) == ("owed", 1)
    assert "not a public one" in desk.detail(job)


def test_a_name_is_resolved_once_and_that_address_is_connected_to(desk: Desk, web: WebReceiver) -> None:
    """A name that answers differently the second time is never asked a second time."""
    answers = iter([["127.0.0.1"], ["192.0.2.1"]])
    url = web.url.replace("127.0.0.1", "rebinding.example")
    job = desk.with_options(private_hosts=("127.0.0.1",)).finish(url)
    desk.send_due(lambda host, port: next(answers))
    assert desk.state(job) == ("delivered", 1)
    assert next(answers) == ["192.0.2.1"]
    assert web.headers[0]["host"] == url.split("/")[2]


def test_an_address_that_does_not_answer_is_passed_over(desk: Desk, web: WebReceiver) -> None:
    job = desk.with_options(private_hosts=("127.0.0.0/8",)).finish(web.url.replace("127.0.0.1", "two.example"))
    desk.send_due(lambda host, port: ["127.0.0.9", "127.0.0.1"])
    assert desk.state(job) == ("delivered", 1)


def test_a_resolver_that_fails_or_hangs(desk: Desk) -> None:
    def fails(host: str, port: int) -> list[str]:
        raise socket.gaierror(-2, "Name or service not known")

    job = desk.finish("https://example.org/")
    desk.send_due(fails)
    assert "cannot be resolved" in desk.detail(job)
    hung = threading.Event()
    desk.with_options(timeout_s=0.1).send_due(lambda host, port: [str(hung.wait(60))])
    hung.set()
    assert desk.state(job) == ("owed", 2)
    assert "cannot be resolved" in desk.detail(job)


def test_rules_that_became_stricter_hold_for_what_was_accepted_before(desk: Desk, web: WebReceiver) -> None:
    job = desk.finish(web.url)
    desk.with_options(allow_http=False).send_due()
    assert web.bodies == []
    assert "https://" in desk.detail(job)


def after_request(answer: Callable[[socket.socket], Any]) -> Callable[[socket.socket], None]:
    def answered(connection: socket.socket) -> None:
        read_request(connection)
        answer(connection)

    return answered


def test_a_receiver_that_drips_for_ever_ends_the_try(desk: Desk) -> None:
    with raw_receiver(after_request(DRIPPING)) as port:
        job = desk.with_options(limit_s=0.3).finish(f"http://127.0.0.1:{port}/")
        desk.send_due()
    assert desk.state(job) == ("owed", 1)
    assert "took longer than" in desk.detail(job)


def test_a_tls_handshake_that_drips_ends_the_try(desk: Desk) -> None:
    with raw_receiver(partial(drip, first=b"\x16\x03\x03\x20\x00")) as port:
        job = desk.with_options(limit_s=0.3).finish(f"https://127.0.0.1:{port}/")
        desk.send_due()
    assert desk.state(job) == ("owed", 1)


def test_a_silent_receiver_and_one_that_is_away(desk: Desk, web: WebReceiver) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nowhere = taken.getsockname()[1]
    away = desk.finish(f"http://127.0.0.1:{nowhere}/")
    web.hold = threading.Event()
    silent = desk.with_options(timeout_s=0.3).finish(web.url)
    assert desk.send_due() == 2
    web.hold.set()
    assert (desk.state(away), desk.state(silent)) == (("owed", 1), ("owed", 1))
    assert "ConnectError" in desk.detail(away)
    assert "ReadTimeout" in desk.detail(silent)


def test_no_more_of_an_answer_is_read_than_is_sane(desk: Desk) -> None:
    sent = 0

    def flood(connection: socket.socket) -> None:
        nonlocal sent
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3000000000\r\n\r\n")
        while sent < 200 << 20:
            sent += connection.send(b"[" * 65536)

    with raw_receiver(flood) as port:
        job = desk.finish(f"http://127.0.0.1:{port}/")
        desk.send_due()
    assert desk.state(job) == ("owed", 1)
    assert "more than 65536 bytes" in desk.detail(job)
    assert sent < 50 << 20  # what the buffers of a socket take


def test_two_senders_send_once(desk: Desk, web: WebReceiver) -> None:
    jobs = [desk.finish(web.url) for _ in range(5)]
    ledgers = [Ledger(desk.settings.database_url) for _ in range(4)]
    senders = [WebhookSender(ledger, desk.settings) for ledger in ledgers]
    seen = [sender.due() for sender in senders]  # all see all as due
    assert all(len(due) == 5 for due in seen)
    threads = [
        threading.Thread(target=lambda s=sender, d=due: [s.send(one) for one in d])  # type: ignore[misc]
        for sender, due in zip(senders, seen, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(json.loads(body)["data"]["id"] for body in web.bodies) == sorted(job.id for job in jobs)
    assert all(desk.state(job) == ("delivered", 1) for job in jobs)
    for ledger in ledgers:
        ledger.close()


def test_a_sender_that_stopped_without_a_word_costs_a_try(desk: Desk, web: WebReceiver) -> None:
    job = desk.with_options(attempts=2).finish(web.url)
    for _ in range(2):
        (due,) = desk.ledger.due_webhooks(utc_now())
        assert desk.ledger.take_webhook(due, timedelta(0)) is not None
    desk.send_due()
    assert web.bodies == []
    assert desk.state(job) == ("given_up", 3)
    assert "without a word" in desk.detail(job)


def test_a_deleted_job_frees_its_sender(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spinepaint.worker.webhooks._LOOK_EVERY_S", 0.1)
    asked = threading.Event()

    def held(connection: socket.socket) -> None:
        asked.set()
        DRIPPING(connection)

    with raw_receiver(after_request(held)) as port:
        job = desk.finish(f"http://127.0.0.1:{port}/")
        sending = threading.Thread(target=desk.send_due)
        sending.start()
        assert asked.wait(60)
        desk.ledger.delete_job(job.id)
        sending.join(30)
        assert not sending.is_alive()


def test_a_slow_receiver_holds_up_no_other_and_nothing_of_addresses_is_logged(
    desk: Desk, web: WebReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG), raw_receiver(after_request(DRIPPING)) as port:
        slow = [desk.finish(f"http://127.0.0.1:{port}/?token={TOKEN}") for _ in range(6)]
        quick = [desk.finish(f"{web.url}?token={TOKEN}") for _ in range(3)]
        thread = WebhookThread(desk.settings)
        thread.start()
        wait_until(lambda: all(desk.state(job) == ("delivered", 1) for job in quick))
        wait_until(lambda: [desk.state(job)[1] for job in slow].count(1) == 1)
        thread.stop(0.2)
    assert [desk.state(job)[1] for job in slow].count(0) == 5
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("spinepaint")]
    assert any("its caller was told" in message for message in ours)
    assert not any(TOKEN in message or "127.0.0.1" in message for message in ours)


def owe(desk: Desk, url: str, count: int) -> list[str]:
    """The ids of so many jobs that have just ended."""
    source = add_source(desk.ledger, desk.artifacts)
    batch = desk.ledger.submit_batch([JobOrder(source.id, {}, url)] * count)
    desk.ledger.cancel_batch(batch.id)
    return [job.id for job in desk.ledger.batch_jobs(batch.id)]


def test_a_receiver_to_whom_very_much_is_owed_keeps_none_waiting(desk: Desk, web: WebReceiver) -> None:
    with raw_receiver(after_request(DRIPPING)) as port:
        owe(desk, f"http://127.0.0.1:{port}/", 300)
        quick = desk.finish(web.url)
        thread = WebhookThread(desk.settings)
        thread.start()
        wait_until(lambda: desk.state(quick) == ("delivered", 1))
        thread.stop(0.2)


def test_more_receivers_than_senders_have_their_turns(desk: Desk, web: WebReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spinepaint.worker.webhooks._TURN_S", 0.0)
    desk.with_options(senders=1)
    asked: list[str] = []
    send = WebhookSender.send

    def noted(self: WebhookSender, due: Delivery) -> bool:
        asked.append(due.receiver)
        return send(self, due)

    monkeypatch.setattr(WebhookSender, "send", noted)
    with ExitStack() as stack:
        receivers = [web, stack.enter_context(web_receiver()), stack.enter_context(web_receiver())]
        for receiver in receivers:
            receiver.answers = [(204, b"")]
            owe(desk, receiver.url, 3)
        thread = WebhookThread(desk.settings)
        thread.start()
        wait_until(lambda: all(len(receiver.bodies) == 3 for receiver in receivers))
        thread.stop(5.0)
    assert [len(set(asked[first : first + 3])) for first in (0, 3, 6)] == [3, 3, 3]


def test_a_job_that_is_queued_again_is_not_told_of(desk: Desk, web: WebReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    (job_id,) = owe(desk, web.url, 1)
    look, job = desk.ledger.get_job, desk.ledger.get_job(job_id)
    assert job is not None and job.batch_id is not None

    def queued_again(wanted: str, tenant: str | None = None) -> Job | None:
        desk.ledger.retry_batch(str(job.batch_id))
        return look(wanted, tenant)

    monkeypatch.setattr(desk.ledger, "get_job", queued_again)
    assert desk.send_due() == 1
    assert web.bodies == []
    monkeypatch.undo()
    desk.ledger.cancel_batch(job.batch_id)
    assert desk.send_due() == 1
    assert [json.loads(body)["type"] for body in web.bodies] == ["job.cancelled"]


def test_without_a_secret_nothing_is_sent(desk: Desk, web: WebReceiver) -> None:
    from pydantic import SecretStr

    job = desk.with_options(secret=SecretStr("")).finish(web.url)
    thread = WebhookThread(desk.settings)
    thread.start()
    thread.stop(1.0)
    desk.send_due()
    assert web.bodies == []
    assert "no secret" in desk.detail(job)


def test_a_receiver_that_speaks_no_tls_is_not_spoken_to_without(desk: Desk) -> None:
    with web_receiver() as plain:
        job = desk.finish(plain.url.replace("http://", "https://"))
        desk.send_due()
        assert plain.bodies == []
    assert desk.state(job) == ("owed", 1)
    assert "did not answer" in desk.detail(job)
