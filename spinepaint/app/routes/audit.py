"""The audit trail of the caller's tenant."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel

from spinepaint.app.deps import LedgerDep
from spinepaint.store.audit import AuditEntry, AuditQuery

router = APIRouter(prefix="/v1", tags=["audit"])


class AuditView(BaseModel):
    """Who (a key's id, null where the service asks for none) did what (method and route), when, and with what."""

    id: int
    at: datetime
    key_id: str | None
    action: str
    status: int
    series_sha256: str | None
    job_id: str | None
    batch_id: str | None


class AuditPage(BaseModel):
    """Entries, newest first; `next` is the `before` of the page that follows, null at the end."""

    entries: list[AuditView]
    next: int | None


@router.get("/audit")
def list_audit(
    ledger: LedgerDep,
    key_id: Annotated[str | None, Query(max_length=64, pattern=r"^[\x21-\x7e]*$")] = None,
    series_sha256: Annotated[str | None, Query(pattern=r"^[0-9a-f]{64}$")] = None,
    since: AwareDatetime | None = None,
    before: Annotated[int | None, Query(ge=1, lt=2**63)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> AuditPage:
    """What was done by this tenant's keys. Needs the scope `admin`."""
    found = ledger.list_audit(AuditQuery(key_id, series_sha256, since, before), limit + 1)
    entries = [view_of(entry) for entry in found[:limit]]
    return AuditPage(entries=entries, next=entries[-1].id if len(found) > limit else None)


def view_of(entry: AuditEntry) -> AuditView:
    """The view of a ledger row."""
    return AuditView(**{name: getattr(entry, name) for name in AuditView.model_fields})
