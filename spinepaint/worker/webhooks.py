"""Tells callers that their jobs have ended, and the ledger what came of it."""

import logging
import random
import threading
import time
from datetime import timedelta
from functools import partial
from typing import Any

import httpx

from spinepaint.callbacks import BadCallback, Resolve, parse_callback, resolved
from spinepaint.imaging.errors import Refusal
from spinepaint.settings import Settings
from spinepaint.store import Delivery, Ledger
from spinepaint.store.database import utc_now
from spinepaint.worker.delivery_try import DeliveryFailed, LostDelivery, Watch
from spinepaint.worker.webhook_request import payload, post, signed_headers

_log = logging.getLogger(__name__)
LONGEST_WAIT_S = 3600.0
_JITTER = 0.25
_LEASE_BEYOND_S = 30.0
"""A sender that is only slow to say how it went must not be taken for dead: the caller would be told twice."""
_LOOK_EVERY_S = 2.0


class WebhookSender:
    """Pays the ledger's debts of webhooks. Any number may run over one ledger, and threads may share one."""

    def __init__(self, ledger: Ledger, settings: Settings, resolve: Resolve = resolved) -> None:
        """`resolve` gives the addresses of a name."""
        self._ledger, self._settings, self._resolve = ledger, settings.webhook, resolve
        self._tls = httpx.create_ssl_context()
        self._lease = timedelta(seconds=self._settings.limit_s + 2 * self._settings.timeout_s + _LEASE_BEYOND_S)

    def due(self) -> list[Delivery]:
        """What can be tried now, oldest first."""
        return self._ledger.due_webhooks(utc_now())

    def send(self, due: Delivery) -> bool:
        """Try one that was seen as due; False where another sender has it."""
        taken = self._ledger.take_webhook(due, self._lease)
        if taken is not None:
            self._try(taken)
        return taken is not None

    def receiver(self, due: Delivery) -> str:
        """Host and port that a webhook goes to; empty where its address cannot be used."""
        try:
            return parse_callback(due.url, self._settings.rules).netloc
        except BadCallback:
            return ""

    def _try(self, taken: Delivery) -> None:
        try:
            self._send(taken)
        except LostDelivery:
            _log.warning("job %s: its webhook was taken over, or the job deleted", taken.job_id)
        except DeliveryFailed as failure:
            self._record(taken, failure)
        except Exception as error:
            # Its message may quote the address, which may hold a secret.
            _log.error("job %s: the webhook stopped on %s", taken.job_id, type(error).__name__)
            self._record(taken, DeliveryFailed(f"The try stopped on {type(error).__name__}.", again=True))
        else:
            if self._ledger.end_webhook(taken):
                _log.info("job %s: its caller was told", taken.job_id)

    def _send(self, taken: Delivery) -> None:
        if taken.attempts > self._settings.attempts:
            raise DeliveryFailed("The last try stopped without a word, as when the machine restarts.", again=False)
        job = self._ledger.get_job(taken.job_id)
        if job is None:
            raise LostDelivery
        if not self._settings.keys:
            raise DeliveryFailed("The settings of this worker have no secret to sign with.", again=True)
        body = payload(job)
        headers = signed_headers(f"msg_{taken.id}", int(time.time()), body, self._settings.keys)
        holds = partial(self._ledger.holds_webhook, taken)
        with Watch(holds, every_s=_LOOK_EVERY_S, limit_s=self._settings.limit_s) as watch:
            try:
                post(
                    taken.url,
                    body,
                    headers,
                    rules=self._settings.rules,
                    tls=self._tls,
                    timeout_s=self._settings.timeout_s,
                    watch=watch,
                    resolve=self._resolve,
                )
            except Exception:
                watch.check()  # of a connection that was cut, what was met says less than why
                raise

    def _record(self, taken: Delivery, failure: DeliveryFailed) -> None:
        last = taken.attempts >= self._settings.attempts
        retry_after = None if last or not failure.again else backoff(taken.attempts, self._settings.retry_s)
        _log.warning(
            "job %s: try %d of %d at its webhook failed; %s",
            taken.job_id,
            taken.attempts,
            self._settings.attempts,
            "given up" if retry_after is None else f"again in {retry_after.total_seconds():.0f} s",
        )
        self._ledger.fail_webhook(taken, _problem(failure), retry_after)


def backoff(attempts: int, retry_s: float) -> timedelta:
    """How long to wait after so many tries: twice as long each time, up to an hour, and up to a quarter more or less.

    Without that, all that failed together would come together again.
    """
    wait_s = min(retry_s * 2.0 ** min(attempts - 1, 32), LONGEST_WAIT_S)
    return timedelta(seconds=wait_s * random.uniform(1 - _JITTER, 1 + _JITTER))  # noqa: S311 - no secret


def _problem(failure: DeliveryFailed) -> dict[str, Any]:
    return Refusal("webhook-failed", "The webhook was not taken.", failure.detail, status=502).as_problem()


class WebhookThread:
    """Sends webhooks beside whatever else a process does, until it is stopped; what it was at is then tried again by another.

    Some are sent at once, but none to a receiver that another is on its way to: one that is slow holds up itself only.
    """

    def __init__(self, settings: Settings) -> None:
        """Nothing runs before `start`."""
        self._settings = settings
        self._stop = threading.Event()
        # Daemons: a receiver that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)
        self._senders: dict[str, threading.Thread] = {}

    def start(self) -> None:
        """Begin to send, where there is a secret to sign with."""
        if self._settings.webhook.keys:
            self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Begin no more; wait so long, and no longer, for those under way."""
        self._stop.set()
        deadline = time.monotonic() + timeout_s
        for thread in (self._thread, *list(self._senders.values())):
            if thread.is_alive():
                thread.join(max(0.0, deadline - time.monotonic()))

    def _run(self) -> None:
        ledger = Ledger(self._settings.database_url)
        sender = WebhookSender(ledger, self._settings)
        while not self._stop.wait(self._settings.announce_every_s):
            try:
                for due in sender.due():
                    self._start(sender, due)
            except Exception as error:
                _log.error("sending webhooks failed (%s); tried again later", type(error).__name__)
                self._stop.wait(1.0)
        for thread in self._senders.values():
            thread.join()
        ledger.close()

    def _start(self, sender: WebhookSender, due: Delivery) -> None:
        self._senders = {receiver: thread for receiver, thread in self._senders.items() if thread.is_alive()}
        receiver = sender.receiver(due)
        if receiver not in self._senders and len(self._senders) < self._settings.webhook.senders:
            thread = threading.Thread(target=self._send, args=(sender, due), name="webhook", daemon=True)
            self._senders[receiver] = thread
            thread.start()

    def _send(self, sender: WebhookSender, due: Delivery) -> None:
        try:
            sender.send(due)
        except Exception as error:
            _log.error("job %s: the webhook was not sent (%s); tried again later", due.job_id, type(error).__name__)
