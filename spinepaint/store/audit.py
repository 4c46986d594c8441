"""The audit trail: who did what, when, with which series. Entries are added and, once they are old, removed; never changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Integer, String, delete, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from spinepaint.store.callers import Touched
from spinepaint.store.database import Database, utc_now
from spinepaint.store.dicom_models import DicomSeries
from spinepaint.store.models import Base, Job, Series

_IDS_AT_A_TIME = 500  # databases bound the parameters of a statement


class AuditEntry(Base):
    """One thing that was done: by which key, when, how it was answered, and with which series, job or batch.

    `action` is a method and the template of a route, never a path, or what the service does by itself: nothing here is of a
    client's or a patient's making. No foreign keys: entries outlive what they tell of.
    """

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True)
    at: Mapped[datetime] = mapped_column(index=True)
    tenant: Mapped[str]
    key_id: Mapped[str | None]
    action: Mapped[str] = mapped_column(String(255))
    status: Mapped[int]
    series_sha256: Mapped[str | None] = mapped_column(index=True)
    job_id: Mapped[str | None]
    batch_id: Mapped[str | None]


@dataclass(frozen=True)
class AuditQuery:
    """Which entries: those of a key, of a series' content, from a moment on, older than the entry `before`."""

    key_id: str | None = None
    series_sha256: str | None = None
    since: datetime | None = None
    before: int | None = None


class AuditBook(Database):
    """Adds to the trail, reads it, and ends what is kept long enough."""

    def record_audit(self, *, tenant: str, key_id: str | None, action: str, status: int, touched: Touched | None = None) -> None:
        """Write down what was done: an entry for each series and job that it touched, one where it touched none."""
        now = utc_now()
        who: dict[str, Any] = {"at": now, "tenant": tenant, "key_id": key_id, "action": action[:255], "status": status}
        with self.write() as session:
            session.add_all(AuditEntry(**who, **what) for what in _subjects(session, touched or Touched()))

    def list_audit(self, query: AuditQuery | None = None, limit: int = 100) -> list[AuditEntry]:
        """Entries, newest first."""
        query = query or AuditQuery()
        found = select(AuditEntry).order_by(AuditEntry.id.desc()).limit(limit)
        if query.key_id is not None:
            found = found.where(AuditEntry.key_id == query.key_id)
        if query.series_sha256 is not None:
            found = found.where(AuditEntry.series_sha256 == query.series_sha256)
        if query.since is not None:
            found = found.where(AuditEntry.at >= query.since)
        if query.before is not None:
            found = found.where(AuditEntry.id < query.before)
        with self.read() as session:
            return list(session.scalars(found))

    def prune_audit(self, before: datetime) -> int:
        """Remove entries from before a moment; how many."""
        with self.write() as session:
            gone = session.execute(delete(AuditEntry).where(AuditEntry.at < before).returning(AuditEntry.id))
            return len(gone.all())


def audit_sending(session: Session, job_id: str, action: str, problem: Mapping[str, Any] | None) -> None:
    """Write down, in the transaction that records it, that something of a job was sent to somebody, or that a try failed.

    `action` says by which way, in words of the service or its operator; who asked for it is whose job it is.
    """
    whose = select(Job.tenant, Job.key_id, Job.batch_id, Series.sha256).outerjoin(Series, Series.id == Job.series_id)
    row = session.execute(whose.where(Job.id == job_id)).one()
    status = 0 if problem is None else int(problem.get("status", 502))
    who: dict[str, Any] = {"at": utc_now(), "tenant": row.tenant, "key_id": row.key_id, "action": action[:255], "status": status}
    session.add(AuditEntry(**who, series_sha256=row.sha256, job_id=job_id, batch_id=row.batch_id))


def _subjects(session: Session, touched: Touched) -> list[dict[str, str | None]]:
    """What entries tell of. The jobs of a batch are not told one by one: the batch is, with each of its series."""
    hashes = dict(touched.series)
    of_batches = select(Series.id, Series.sha256).join(Job, Job.series_id == Series.id).distinct()
    for some in _parts(sorted(touched.batches)):  # a batch's result is read without its jobs' rows
        hashes |= {row.id: row.sha256 for row in session.execute(of_batches.where(Job.batch_id.in_(some)))}
    missing = {series_id for series_id in touched.jobs.values() if series_id is not None} - set(hashes)
    for some in _parts(sorted(missing)):
        hashes |= {row.id: row.sha256 for row in session.execute(select(Series.id, Series.sha256).where(Series.id.in_(some)))}
    pairs: set[tuple[str | None, str | None]] = set()
    if not touched.batches:
        pairs |= {(hashes.get(series_id or ""), job_id) for job_id, series_id in touched.jobs.items()}
    told = {sha256 for sha256, _job_id in pairs}
    pairs |= {(sha256, None) for sha256 in hashes.values() if sha256 not in told}
    pairs |= _of_dicom(session, touched)
    batch_id = min(touched.batches, default=None)
    ordered = sorted(pairs, key=lambda pair: (pair[0] or "", pair[1] or "")) or [(None, None)]
    return [{"series_sha256": sha256, "job_id": job_id, "batch_id": batch_id} for sha256, job_id in ordered]


def _of_dicom(session: Session, touched: Touched) -> set[tuple[str | None, str | None]]:
    """Source content or job of the DICOM series that were retrieved."""
    query = select(Series.sha256, DicomSeries.job_id).select_from(DicomSeries)
    query = query.outerjoin(Series, Series.id == DicomSeries.source_id)
    found: set[tuple[str | None, str | None]] = set()
    for some in _parts(sorted(touched.dicom_series)):
        found |= {(sha256, job_id) for sha256, job_id in session.execute(query.where(DicomSeries.id.in_(some)))}
    return found


def _parts(ids: Sequence[Any]) -> list[Sequence[Any]]:
    return [ids[first : first + _IDS_AT_A_TIME] for first in range(0, len(ids), _IDS_AT_A_TIME)]
