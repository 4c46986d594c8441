"""Tells callers that their jobs have ended, and the ledger what came of it."""

import logging
import random
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import httpx

from spinepaint.callbacks import Resolve, resolved
from spinepaint.imaging.errors import Refusal
from spinepaint.settings import Settings
from spinepaint.store import Delivery, Ledger
from spinepaint.store.models import FINISHED
from spinepaint.traces import Attributes, span
from spinepaint.worker.delivery_try import DeliveryFailed, LostDelivery, Watch
from spinepaint.worker.sending import SendingThread, recorded
from spinepaint.worker.webhook_request import payload, post, signed_headers

_log = logging.getLogger(__name__)
LONGEST_WAIT_S = 3600.0
_JITTER = 0.25
_LEASE_BEYOND_S = 30.0
"""A sender that is only slow to say how it went must not be taken for dead: the caller would be told twice."""
_LOOK_EVERY_S = 2.0
_TURN_S = 5.0
"""How long a receiver has a sender, beyond the try that is under way then."""


class WebhookSender:
    """Pays the ledger's debts of webhooks. Any number may run over one ledger, and threads may share one."""

    def __init__(self, ledger: Ledger, settings: Settings, resolve: Resolve = resolved) -> None:
        """`resolve` gives the addresses of a name."""
        self._ledger, self._settings, self._resolve = ledger, settings.webhook, resolve
        self._tls = httpx.create_ssl_context()
        self._lease = timedelta(seconds=self._settings.limit_s + 2 * self._settings.timeout_s + _LEASE_BEYOND_S)

    def due(self, receiver: str | None = None) -> list[Delivery]:
        """What can be tried now, oldest first; to one receiver, where one is given."""
        return self._ledger.due_webhooks(self._ledger.now(), receiver)

    def receivers_due(self, after: str | None = None) -> list[str]:
        """To whom something can be tried now: from the first on, or those whose turn comes after that of `after`."""
        return self._ledger.due_receivers(self._ledger.now(), after)

    def send_due(self, receiver: str, stopping: Callable[[], bool]) -> None:
        """Try what is due to one receiver, one after the other, for a while: then others have their turn."""
        until = time.monotonic() + _TURN_S
        for due in self.due(receiver):
            self.send(due)
            if stopping() or time.monotonic() > until:
                break

    def send(self, due: Delivery) -> bool:
        """Try one that was seen as due; False where another sender has it."""
        taken = self._ledger.take_webhook(due, self._lease)
        if taken is not None:
            self._try(taken)
        return taken is not None

    def _try(self, taken: Delivery) -> None:
        told: Attributes = {"job.id": taken.job_id, "webhook.attempt": taken.attempts}
        try:
            with span("webhook", self._ledger.trace_of(taken.job_id), "CLIENT", told):
                self._send(taken)
        except LostDelivery:
            _log.warning("job %s: its webhook was taken over, or the job deleted or queued again", taken.job_id)
        except DeliveryFailed as failure:
            self._record(taken, failure)
        except Exception as error:
            # Its message may quote the address, which may hold a secret.
            _log.error("job %s: the webhook stopped on %s", taken.job_id, type(error).__name__)
            self._record(taken, DeliveryFailed(f"The try stopped on {type(error).__name__}.", again=True))
        else:
            if recorded(lambda: self._ledger.end_webhook(taken), self._lease.total_seconds()):
                _log.info("job %s: its caller was told", taken.job_id)

    def _send(self, taken: Delivery) -> None:
        if taken.attempts > self._settings.attempts:
            raise DeliveryFailed("The last try stopped without a word, as when the machine restarts.", again=False)
        job = self._ledger.get_job(taken.job_id)
        if job is None or job.state not in FINISHED:
            # One that was queued again since: this webhook went with its end, and another will be owed.
            raise LostDelivery
        if not self._settings.keys:
            raise DeliveryFailed("The settings of this worker have no secret to sign with.", again=True)
        body = payload(job)
        headers = signed_headers(f"msg_{taken.id}", int(self._ledger.now().timestamp()), body, self._settings.keys)
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


class WebhookThread(SendingThread):
    """Sends webhooks beside whatever else a process does: to some receivers at once, to each one after the other."""

    def __init__(self, settings: Settings) -> None:
        """Nothing runs before `start`."""
        super().__init__(settings, "webhooks")

    def wanted(self) -> bool:
        """Whether there is a secret to sign with."""
        return bool(self._settings.webhook.keys)

    def looker(self, ledger: Ledger) -> Callable[[], None]:
        """Begins with receivers that something is due to, by turns."""
        sender, most = WebhookSender(ledger, self._settings), self._settings.webhook.senders
        served: str | None = None

        def look() -> None:
            # Where there are more receivers than senders each has its turn, however much is owed to the others.
            nonlocal served
            due = sender.receivers_due(served)
            if not due and served is not None:
                served, due = None, sender.receivers_due()
            for receiver in due:
                if not self.begin(receiver, partial(sender.send_due, receiver, self._stop.is_set), "sending webhooks", most):
                    break
                served = receiver

        return look
