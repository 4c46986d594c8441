"""Who asks: a tenant, by one of its keys, and what of the ledger the request has touched."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.orm import Session

from spinepaint.store.dicom_models import DicomInstance
from spinepaint.store.models import Batch, Job, Series


@dataclass
class Touched:
    """What a request has read or made, for the audit trail: SHA-256 by series id, series id by job id, and other ids."""

    series: dict[str, str] = field(default_factory=dict)
    jobs: dict[str, str | None] = field(default_factory=dict)
    batches: set[str] = field(default_factory=set)
    dicom_series: set[int] = field(default_factory=set)

    def note(self, row: Any) -> None:
        """Take down a row that was loaded or made."""
        if isinstance(row, Series):
            self.series[row.id] = row.sha256
        elif isinstance(row, Job):
            # A job whose series has gone meanwhile was of that series all the same.
            self.jobs[row.id] = row.series_id or self.jobs.get(row.id)
        elif isinstance(row, Batch):
            self.batches.add(row.id)
        elif isinstance(row, DicomInstance):
            self.dicom_series.add(row.series)

    def mark(self) -> bytes:
        """A digest that tells one request's touched rows from another's, as long however many they are."""
        ids = sorted(map(str, {*self.series, *self.jobs, *self.batches, *self.dicom_series}))
        return hashlib.sha256("\n".join(ids).encode()).digest()


@dataclass(frozen=True)
class Caller:
    """Who asks. Without a key it is whoever reaches a service that asks for none.

    `may_read` is whether something of a patient may be given out: not to who may only send.
    """

    tenant: str
    key_id: str | None = None
    max_queued_jobs: int | None = None
    max_priority: str | None = None
    may_read: bool = True
    touched: Touched = field(default_factory=Touched)


def caller_of(session: Session) -> Caller | None:
    """Whose session it is; None where it is the program's own, which sees every tenant."""
    caller: Caller | None = session.info.get("caller")
    return caller
