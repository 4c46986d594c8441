"""Sends finished jobs to the destinations that were asked for, and tells the ledger what came of it."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import Any, Protocol, Self

from sqlalchemy.exc import SQLAlchemyError

from spinepaint.destinations import Destination, StowDestination
from spinepaint.imaging.errors import Refusal
from spinepaint.settings import Settings
from spinepaint.store import ArtifactStore, DicomDelivery, Ledger
from spinepaint.store.database import utc_now

_log = logging.getLogger(__name__)
LONGEST_WAIT_S = 3600.0
_PROBLEM_STATUS = 502


@dataclass(frozen=True)
class Outgoing:
    """An instance to send: what it is, and how to read its file."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    size: int
    stream: Callable[[], Iterator[bytes]]


class DeliveryFailed(Exception):
    """A destination did not take everything. `detail` is for a person; it names neither the patient nor a secret."""

    def __init__(self, detail: str, *, again: bool) -> None:
        """`again`: whether another try may succeed without anybody changing something."""
        super().__init__(detail)
        self.detail, self.again = detail, again


class LostDelivery(Exception):
    """Another sender took the delivery over."""


class Send(Protocol):
    """How instances get to a destination; repeating it is harmless, since the instances keep their UIDs."""

    def __call__(self, instances: Sequence[Outgoing], *, timeout_s: float, alive: Callable[[], None]) -> None:
        """Send all; call `alive` before each. Raises DeliveryFailed."""


class Deliverer:
    """Pays the ledger's debts of results. Any number may run over one ledger."""

    def __init__(self, ledger: Ledger, artifacts: ArtifactStore, settings: Settings) -> None:
        """`settings` names the destinations."""
        self._ledger, self._artifacts, self._settings = ledger, artifacts, settings
        # Longer than a destination may be silent, so that a sender that waits is not taken for dead.
        self._lease = timedelta(seconds=2 * settings.delivery_timeout_s)

    def deliver_due(self, stopping: Callable[[], bool] = lambda: False) -> int:
        """Try what is due now; how many were tried."""
        tried = 0
        for due in self._ledger.due_dicom_deliveries(utc_now()):
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
        try:
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
            if self._ledger.end_dicom_delivery(taken):
                _log.info("job %s: delivered to %s", taken.job_id, taken.destination)

    def _send(self, taken: DicomDelivery) -> None:
        destination = self._settings.destinations.get(taken.destination)
        if destination is None:
            raise DeliveryFailed("The settings of this worker do not name the destination.", again=True)
        instances = self._instances(taken.job_id)
        if not instances:
            raise DeliveryFailed("The result has no DICOM instances.", again=False)

        with _Lease(self._ledger, taken, self._lease) as lease:
            make_sender(destination)(instances, timeout_s=self._settings.delivery_timeout_s, alive=lease.check)

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


class _Lease:
    """Keeps a delivery taken while it is sent, however long one large instance takes."""

    def __init__(self, ledger: Ledger, taken: DicomDelivery, lease: timedelta) -> None:
        self._ledger, self._taken, self._lease = ledger, taken, lease
        self._ended, self._lost = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._hold, name="lease", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()

    def check(self) -> None:
        """Raise LostDelivery where another sender took over."""
        if self._lost.is_set():
            raise LostDelivery

    def _hold(self) -> None:
        while not self._ended.wait(self._lease.total_seconds() / 4):
            try:
                if not self._ledger.hold_dicom_delivery(self._taken, self._lease):
                    self._lost.set()
            except SQLAlchemyError as error:
                _log.warning("job %s: delivery not held on to (%s)", self._taken.job_id, type(error).__name__)


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


class DeliveryThread:
    """Delivers beside whatever else a process does, until it is stopped; what it was at is then tried again by another."""

    def __init__(self, settings: Settings) -> None:
        """Nothing runs before `start`."""
        self._settings = settings
        self._stop = threading.Event()
        # A daemon: a destination that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="delivery", daemon=True)

    def start(self) -> None:
        """Begin to deliver, where there is anywhere to deliver to."""
        if self._settings.destinations:
            self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Take no more deliveries; wait for the one under way."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        ledger = Ledger(self._settings.database_url)
        deliverer = Deliverer(ledger, ArtifactStore(self._settings.artifacts_url), self._settings)
        while not self._stop.wait(self._settings.announce_every_s):
            try:
                deliverer.deliver_due(self._stop.is_set)
            except Exception as error:
                _log.error("delivering failed (%s); tried again later", type(error).__name__)
                time.sleep(1.0)
        ledger.close()
