"""One attempt at a job while it runs: its heartbeat, its progress, and how it learns that it must stop."""

import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from sqlalchemy.exc import SQLAlchemyError

from spinepaint.store import Claim, Ledger

_log = logging.getLogger(__name__)


class AttemptLost(Exception):
    """The job was cancelled, or is another worker's by now."""


class WorkerStopping(Exception):
    """The worker was asked to end; the job goes back to the queue."""


class OverTime(Exception):
    """The attempt took longer than a job may take."""


class Attempt:
    """A context in which a heartbeat thread keeps the claim alive; `progress` is the pipeline's callback.

    Parameters
    ----------
    limit_s: `progress` raises OverTime after it.
    on_hang: called from the heartbeat thread when the attempt still runs `grace_s` after the limit, which is
        when the computation no longer calls `progress`. The heartbeat ends there.
    stopping: whether the worker was asked to end.
    """

    def __init__(
        self,
        ledger: Ledger,
        claim: Claim,
        *,
        heartbeat_s: float,
        progress_s: float,
        limit_s: float,
        grace_s: float,
        stopping: Callable[[], bool],
        on_hang: Callable[[], None],
    ) -> None:
        """Prepare; nothing runs before the context is entered."""
        self.stage = "start"
        self._ledger, self._claim = ledger, claim
        self._heartbeat_s, self._progress_s, self._limit_s, self._grace_s = heartbeat_s, progress_s, limit_s, grace_s
        self._stopping, self._on_hang = stopping, on_hang
        self._lost = threading.Event()
        self._ended = threading.Event()
        self._began = self._written = time.monotonic()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        """Start the heartbeat."""
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """End the heartbeat, whatever ended the attempt."""
        self._ended.set()
        self._thread.join()

    def progress(self, stage: str, fraction: float) -> None:
        """Tell the ledger the stage and the fraction (0–1) of the whole job, now and then.

        Raises AttemptLost, WorkerStopping or OverTime where the attempt must stop.
        """
        self.check()
        now = time.monotonic()
        if stage == self.stage and now - self._written < self._progress_s:
            return
        self.stage, self._written = stage, now
        try:
            if not self._ledger.progress(self._claim.job_id, self._claim.token, stage, fraction):
                raise AttemptLost
        except SQLAlchemyError as error:
            # Progress is a courtesy; whether the job is still ours is the heartbeat's to find out.
            _log.warning("job %s: progress not recorded (%s)", self._claim.job_id, type(error).__name__)

    def check(self) -> None:
        """Raise where the attempt must stop; costs no query."""
        if self._lost.is_set():
            raise AttemptLost
        if self._stopping():
            raise WorkerStopping
        if time.monotonic() - self._began > self._limit_s:
            raise OverTime

    def _beat(self) -> None:
        while not self._ended.wait(self._heartbeat_s):
            if time.monotonic() - self._began > self._limit_s + self._grace_s:
                self._on_hang()
                return
            try:
                if not self._ledger.heartbeat(self._claim.job_id, self._claim.token):
                    self._lost.set()
            except Exception as error:  # whatever it was: without a heartbeat the job is taken back
                _log.warning("job %s: heartbeat not recorded (%s)", self._claim.job_id, type(error).__name__)
