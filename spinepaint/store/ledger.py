"""The job ledger: the one place that knows what was asked for and what became of it."""

from spinepaint.store.audit import AuditBook
from spinepaint.store.batch_sources import BatchSourceBook
from spinepaint.store.batches import BatchBook
from spinepaint.store.deletions import DeletionBook
from spinepaint.store.dicom_book import DicomBook
from spinepaint.store.dicom_deliveries import DicomDeliveryBook
from spinepaint.store.events import EventBook
from spinepaint.store.figures import FigureBook
from spinepaint.store.jobs import JobBook
from spinepaint.store.keys import KeyBook
from spinepaint.store.outbox import Outbox
from spinepaint.store.retention import RetentionBook
from spinepaint.store.series import SeriesBook
from spinepaint.store.tallies import TallyBook
from spinepaint.store.turns import TurnBook
from spinepaint.store.webhooks import WebhookBook


class Ledger(
    SeriesBook,
    JobBook,
    EventBook,
    BatchBook,
    BatchSourceBook,
    DeletionBook,
    RetentionBook,
    TurnBook,
    Outbox,
    DicomBook,
    DicomDeliveryBook,
    WebhookBook,
    TallyBook,
    FigureBook,
    KeyBook,
    AuditBook,
):
    """Series, jobs, batches, attempts, debts, figures, DICOM objects and keys over one database, already migrated.

    Rows that it returns are snapshots: changing one changes nothing. Every method is one transaction and may raise
    sqlalchemy.exc.SQLAlchemyError where the database does not answer. Share one between threads, not across a fork.
    """
