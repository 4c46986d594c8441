"""Sends finished jobs to the destinations that were asked for, and tells the ledger what came of it."""

import logging
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

from spinepaint.destinations import Destination, StowDestination
from spinepaint.imaging.errors import Refusal
from spinepaint.settings import Settings
from spinepaint.store import ArtifactStore, DicomDelivery, Ledger
from spinepaint.traces import Attributes, span
from spinepaint.worker.delivery_try import DeliveryFailed, LostDelivery, Outgoing, Send, Watch
from spinepaint.worker.sending import SendingThread, recorded

_log = logging.getLogger(__name__)
LONGEST_WAIT_S = 3600.0
SLOWEST_BYTES_PER_S = 100_000
"""A line slower than this may run out of time."""
_PROBLEM_STATUS = 502


class Deliverer:
    """Pays the ledger's debts of results. Any number may run over one ledger."""

    def __init__(self, ledger: Ledger, artifacts: ArtifactStore, settings: Settings) -> None:
        """`settings` names the destinations."""
        self._ledger, self._artifacts, self._settings = ledger, artifacts, settings
        # Longer than a destination may be silent, so that a sender that waits is not taken for dead.
        self._lease = timedelta(seconds=2 * settings.delivery_timeout_s)

    def destinations_due(self) -> list[str]:
        """The names of those that something is due to, also where the settings do not have them."""
        return self._ledger.due_dicom_destinations(self._ledger.now())

    def deliver_due(self, stopping: Callable[[], bool] = lambda: False, destination: str | None = None) -> int:
        """Try what is due now, one after the other, to one destination or to all; how many were tried."""
        tried = 0
        for due in self._ledger.due_dicom_deliveries(self._ledger.now(), destination):
            if stopping():
                break
            taken = self._ledger.take_dicom_delivery(due, self._lease)
            if taken is not None:
                tried += 1
                self._try(taken)
        return tried

    def _try(self, taken: DicomDelivery) -> None:
        if taken.attempts > self._settings.delivery_attempts:
            stopped = "The last try stopped without a word, as when the machine restarts."
            self._record(taken, DeliveryFailed(stopped, again=False))
            return
        told: Attributes = {"job.id": taken.job_id, "delivery.destination": taken.destination, "delivery.attempt": taken.attempts}
        try:
            with span("delivery", self._ledger.trace_of(taken.job_id), "CLIENT", told):
                self._send(taken)
        except LostDelivery:
            _log.warning("job %s: delivery to %s was taken over", taken.job_id, taken.destination)
        except DeliveryFailed as failure:
            self._record(taken, failure)
        except Exception as error:
            # Its message may quote what was sent.
            _log.error("job %s: delivery to %s stopped on %s", taken.job_id, taken.destination, type(error).__name__)
            self._record(taken, DeliveryFailed(f"The try stopped on {type(error).__name__}.", again=True))
        else:
            if recorded(lambda: self._ledger.end_dicom_delivery(taken), self._lease.total_seconds()):
                _log.info("job %s: delivered to %s", taken.job_id, taken.destination)

    def _send(self, taken: DicomDelivery) -> None:
        destination = self._settings.destinations.get(taken.destination)
        if destination is None:
            raise DeliveryFailed("The settings of this worker do not name the destination.", again=True)
        instances = self._instances(taken.job_id)
        if not instances:
            raise DeliveryFailed("The result has no DICOM instances.", again=False)

        limit_s = self._settings.delivery_limit_s + sum(instance.size for instance in instances) / SLOWEST_BYTES_PER_S
        hold = partial(self._ledger.hold_dicom_delivery, taken, self._lease)
        with Watch(hold, every_s=self._lease.total_seconds() / 4, limit_s=limit_s) as watch:
            try:
                make_sender(destination)(instances, timeout_s=self._settings.delivery_timeout_s, watch=watch)
            except Exception:
                watch.check()  # of a connection that was cut, the destination's side says less than why
                raise

    def _instances(self, job_id: str) -> list[Outgoing]:
        return [
            Outgoing(
                at.instance.sop_class_uid,
                at.instance.sop_instance_uid,
                at.instance.transfer_syntax_uid,
                at.instance.size,
                partial(self._artifacts.stream, at.instance.artifact_key),
            )
            for at in self._ledger.result_instances(job_id)
        ]

    def _record(self, taken: DicomDelivery, failure: DeliveryFailed) -> None:
        last = taken.attempts >= self._settings.delivery_attempts
        wait_s = min(self._settings.delivery_retry_s * 2.0 ** (taken.attempts - 1), LONGEST_WAIT_S)
        retry_after = timedelta(seconds=wait_s) if failure.again and not last else None
        _log.warning(
            "job %s: try %d of %d to deliver to %s failed; %s",
            taken.job_id,
            taken.attempts,
            self._settings.delivery_attempts,
            taken.destination,
            "given up" if retry_after is None else f"again in {wait_s:g} s",
        )
        self._ledger.fail_dicom_delivery(taken, _problem(failure), retry_after)


def make_sender(destination: Destination) -> Send:
    """How to send to a destination."""
    # Imported here: most workers deliver nothing, and the libraries take memory.
    if isinstance(destination, StowDestination):
        from spinepaint.worker.delivery_stow import StowSender

        return StowSender(destination)
    from spinepaint.worker.delivery_store import StoreSender

    return StoreSender(destination)


def _problem(failure: DeliveryFailed) -> dict[str, Any]:
    title = "The destination did not take the result."
    return Refusal("delivery-failed", title, failure.detail, status=_PROBLEM_STATUS).as_problem()


class DeliveryThread(SendingThread):
    """Delivers to destinations beside whatever else a process does."""

    def __init__(self, settings: Settings) -> None:
        """Nothing runs before `start`."""
        super().__init__(settings, "delivery")

    def wanted(self) -> bool:
        """Whether there is anywhere to deliver to."""
        return bool(self._settings.destinations)

    def looker(self, ledger: Ledger) -> Callable[[], None]:
        """Begins with each destination that something is due to; its sender goes on until nothing is."""
        deliverer = Deliverer(ledger, ArtifactStore(self._settings.artifacts_url), self._settings)

        def look() -> None:
            for name in deliverer.destinations_due():
                self.begin(name, partial(deliverer.deliver_due, self._stop.is_set, name), f"delivering to {name}")

        return look
