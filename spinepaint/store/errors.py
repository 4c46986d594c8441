"""What the ledger says when it will not do something. Nothing in them identifies a patient."""

from collections.abc import Sequence


class LedgerError(Exception):
    """The ledger refused; the ledger is as it was before the call."""


class UnknownSeries(LedgerError):
    """No series of that id belongs to that tenant."""


class StoringTimeout(LedgerError, TimeoutError):
    """The files of the series took too long to store, so that they may be being deleted."""


class UnknownJob(LedgerError):
    """No job of that id belongs to that tenant."""


class UnknownBatch(LedgerError):
    """No batch of that id belongs to that tenant."""


class NamesJobs(LedgerError):
    """A refusal because of some jobs; `jobs` are their ids, oldest first."""

    def __init__(self, jobs: Sequence[str]) -> None:
        """`jobs`: what stands in the way."""
        super().__init__(f"{len(jobs)} jobs")
        self.jobs = list(jobs)


class SeriesInUse(NamesJobs):
    """The series cannot be deleted: a queued or running job still reads it."""


class SeriesHasResults(NamesJobs):
    """Jobs made results of the series, and nothing says whether they are to go with it."""


class BatchActive(NamesJobs):
    """The batch cannot be deleted: items of it are queued or run."""


class JobActive(LedgerError):
    """The job cannot be deleted: it is queued or runs."""


class IdempotencyConflict(LedgerError):
    """The same Idempotency-Key came before with another request."""


class AlreadyFinished(LedgerError):
    """The job has ended, so it cannot be cancelled."""


class BatchFinished(LedgerError):
    """Every item of the batch has ended, so there is nothing to cancel."""


class NothingToRetry(LedgerError):
    """No item of the batch has failed or was cancelled that could be queued again."""


class QueueFull(LedgerError):
    """The tenant has as many jobs waiting as the cap allows."""

    def __init__(self, cap: int) -> None:
        """`cap`: how many jobs may wait."""
        super().__init__(f"{cap} jobs are waiting already")
        self.cap = cap


class PriorityNotAllowed(LedgerError):
    """The caller's key may not ask for that priority."""

    def __init__(self, most: str) -> None:
        """`most`: the highest that it may ask for."""
        super().__init__(f"the highest is {most}")
        self.most = most


class BadCursor(LedgerError, ValueError):
    """The page cursor was not one that this ledger gave out."""
