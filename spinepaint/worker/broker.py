"""The broker, which only wakes workers: how Celery is set up, and the two things that the reaper does with it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

from celery import Celery
from kombu.exceptions import ChannelError
from kombu.transport import TRANSPORT_ALIASES, redis, virtual

from spinepaint.settings import Settings

QUEUE = "spinepaint"
TASK = "spinepaint.run_job"
ANSWER_S = 5.0
"""A broker that is silent for this long is away for those who send: what they hold up is more than a message."""


class _Window(redis.QoS):
    """What a worker has taken and not acknowledged yet.

    kombu keeps a message whose acknowledgement failed, as when the broker is away at that moment, in the window for ever. With a
    window of one message the worker then takes no other again, however long the broker has been back.
    """

    def ack(self, delivery_tag: str) -> None:
        """Let go of the message in any case: the ledger knows what became of its job, and a second message does no harm."""
        with self._let_go_of(delivery_tag):
            super().ack(delivery_tag)  # type: ignore[no-untyped-call]

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """As `ack`; what could not be put back is announced again."""
        with self._let_go_of(delivery_tag):
            super().reject(delivery_tag, requeue=requeue)  # type: ignore[no-untyped-call]

    @contextmanager
    def _let_go_of(self, delivery_tag: str) -> Iterator[None]:
        try:
            yield
        finally:
            virtual.QoS.ack(self, delivery_tag)  # type: ignore[no-untyped-call]


class _Channel(redis.Channel):
    QoS = _Window


class Transport(redis.Transport):
    """Redis and Valkey, as kombu speaks with them, that go on where an acknowledgement is lost."""

    Channel = _Channel


TRANSPORT_ALIASES |= dict.fromkeys(("redis", "rediss"), f"{__name__}:{Transport.__name__}")


def make_celery(settings: Settings, *, answer_s: float | None = None) -> Celery:
    """A Celery application over the broker of `settings`.

    It carries job ids and nothing else. Attempts are counted in the ledger, since the broker redelivers without end;
    the visibility timeout lies above the longest that an attempt can take, else a long job is delivered twice.
    `answer_s` limits each wait for an answer; None is for who waits for messages.
    """
    # Who sends comes again by itself, and need not wait for kombu to try to connect for some seconds more.
    limits = {} if answer_s is None else {"socket_timeout": answer_s, "max_retries": 0}
    celery = Celery("spinepaint", broker=settings.broker_url, set_as_current=False)
    celery.conf.update(
        # The default exchange needs no binding, so a broker that lost its memory routes as before.
        task_queues={QUEUE: {"exchange": "", "routing_key": QUEUE}},
        task_default_queue=QUEUE,
        task_serializer="json",
        accept_content=["json"],
        result_backend=None,
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_send_task_events=False,
        worker_enable_remote_control=False,
        worker_redirect_stdouts=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "visibility_timeout": 2 * settings.attempt_limit_s,
            "unacked_restore_interval": 2,
            "unacked_restore_throttle": 1,
            "socket_connect_timeout": ANSWER_S,
            "socket_keepalive": True,
            **limits,
        },
        task_publish_retry_policy={"max_retries": 1, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.2},
    )
    return celery


class Broker:
    """Send a job's id; ask how many wait. Errors of the broker are kombu's OperationalError or OSError."""

    def __init__(self, celery: Celery) -> None:
        """Connects on first use, and again after a broken connection."""
        self._celery = celery

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """One that gives up on a silent broker."""
        return cls(make_celery(settings, answer_s=ANSWER_S))

    def send(self, job_id: str) -> None:
        """Wake a worker for a job."""
        self._celery.send_task(TASK, args=[job_id], exchange="", routing_key=QUEUE, ignore_result=True)

    def backlog(self) -> int:
        """Messages that no worker has taken yet."""
        with self._celery.connection_for_read() as connection:
            channel: Any = connection.default_channel
            try:
                return int(channel.queue_declare(queue=QUEUE, passive=True).message_count)
            except ChannelError:
                return 0
