"""The job ledger (SQLAlchemy) and the artifact store (obstore). No torch, no HTTP."""

from spinepaint.store.artifacts import ArtifactStore
from spinepaint.store.attempts import Claim, LostAttempt
from spinepaint.store.batches import BatchItem, BatchPage
from spinepaint.store.database import migrate
from spinepaint.store.dicom_book import FoundStudy, Located, Match
from spinepaint.store.dicom_entries import StoredInstance, StoredSeries, by_series
from spinepaint.store.dicom_models import DicomDelivery, DicomInstance, DicomSeries
from spinepaint.store.errors import (
    AlreadyFinished,
    BadCursor,
    BatchActive,
    BatchFinished,
    IdempotencyConflict,
    JobActive,
    LedgerError,
    NothingToRetry,
    PriorityNotAllowed,
    QueueFull,
    SeriesHasResults,
    SeriesInUse,
    UnknownBatch,
    UnknownJob,
    UnknownSeries,
)
from spinepaint.store.jobs import JobOrder, Page
from spinepaint.store.layout import new_id, result_prefix, source_prefix
from spinepaint.store.ledger import Ledger
from spinepaint.store.models import ApiKey, Batch, Delivery, Event, Job, JobState, Series
from spinepaint.store.priorities import Priority
from spinepaint.store.signal_models import Tally, Worker

__all__ = [
    "AlreadyFinished",
    "ApiKey",
    "ArtifactStore",
    "BadCursor",
    "Batch",
    "BatchActive",
    "BatchFinished",
    "BatchItem",
    "BatchPage",
    "Claim",
    "Delivery",
    "DicomDelivery",
    "DicomInstance",
    "DicomSeries",
    "Event",
    "FoundStudy",
    "IdempotencyConflict",
    "Job",
    "JobActive",
    "JobOrder",
    "JobState",
    "Ledger",
    "LedgerError",
    "Located",
    "LostAttempt",
    "Match",
    "NothingToRetry",
    "Page",
    "Priority",
    "PriorityNotAllowed",
    "QueueFull",
    "Series",
    "SeriesHasResults",
    "SeriesInUse",
    "StoredInstance",
    "StoredSeries",
    "Tally",
    "UnknownBatch",
    "UnknownJob",
    "UnknownSeries",
    "Worker",
    "by_series",
    "migrate",
    "new_id",
    "result_prefix",
    "source_prefix",
]
