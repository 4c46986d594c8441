"""What is planned to be deleted, for tests to look at: the program takes it in turns, and under a lease."""

from datetime import datetime

from sqlalchemy import select

from spinepaint.store import Ledger
from spinepaint.store.models import Discard


def due_discards(ledger: Ledger, now: datetime) -> list[str]:
    """Prefixes of artifacts that are to be deleted from then on."""
    with ledger.read() as session:
        return list(session.scalars(select(Discard.prefix).where(Discard.due_at <= now)))
