"""The ledger's series: what was uploaded and where it lies."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from spinepaint.store.database import Database, utc_now
from spinepaint.store.dicom_entries import StoredSeries, enter_dicom, renew_dicom
from spinepaint.store.errors import StoringTimeout
from spinepaint.store.layout import new_id, source_prefix
from spinepaint.store.models import Discard, Series


@dataclass(frozen=True)
class NewSeries:
    """A series whose files are stored under `artifact_key`, which ends with "/" where it is a folder, and that is to be entered.

    `dicom` is what DICOMweb can find of it; `storing_limit` is that of `begin_storing`, where that was called.
    """

    id: str
    sha256: str
    geometry: dict[str, Any]
    warnings: list[Any]
    artifact_key: str
    dicom: Sequence[StoredSeries] = ()
    storing_limit: timedelta | None = None


def schedule_discard(session: Session, prefix: str, due_at: Any) -> None:
    """Enter artifacts for deletion; entering the same prefix again changes nothing."""
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    session.execute(insert(Discard).values(prefix=prefix, due_at=due_at, take_at=due_at).on_conflict_do_nothing())


def entered(session: Session, new: NewSeries, tenant: str) -> Series:
    """Enter a series, within the transaction that makes it known. Raises StoringTimeout where it took too long to store."""
    if new.storing_limit is not None:
        _end_storing(session, source_prefix(new.id), new.storing_limit)
    series = Series(
        id=new.id,
        tenant=tenant,
        sha256=new.sha256,
        geometry=new.geometry,
        warnings=new.warnings,
        artifact_key=new.artifact_key,
        created_at=utc_now(),
    )
    session.add(series)
    session.flush()
    enter_dicom(session, new.dicom, tenant=tenant, source_id=series.id)
    return series


class SeriesBook(Database):
    """Series, by id and by content."""

    def begin_storing(self, prefix: str, limit: timedelta) -> None:
        """Have what is about to be stored under a prefix deleted again: its gateway may be killed before a series names it.

        Entering the series with the same `limit` takes that back. The files go a second `limit` later, so that nobody deletes
        them while they are being named.
        """
        with self.write() as session:
            schedule_discard(session, prefix, utc_now() + 2 * limit)

    def add_series(
        self,
        *,
        sha256: str,
        geometry: dict[str, Any],
        warnings: list[Any],
        artifact_key: str,
        tenant: str | None = None,
        series_id: str | None = None,
        dicom: Sequence[StoredSeries] = (),
        storing_limit: timedelta | None = None,
    ) -> Series:
        """`enter_series` of these; `series_id` is given where `artifact_key` was built from it."""
        new = NewSeries(series_id or new_id(), sha256, geometry, warnings, artifact_key, dicom, storing_limit)
        return self.enter_series(new, tenant)

    def enter_series(self, new: NewSeries, tenant: str | None = None) -> Series:
        """Enter a series whose files are already stored.

        Raises StoringTimeout where `begin_storing` was called with its `storing_limit` longer ago. After an SQLAlchemyError
        nobody knows whether it was entered: its files have to stay then, for what `begin_storing` planned.
        """
        with self.write() as session:
            return entered(session, new, self.tenant if tenant is None else tenant)

    def get_series(self, series_id: str, tenant: str | None = None) -> Series | None:
        """The series, or None; with a tenant, only where it is theirs."""
        with self.read() as session:
            series = session.get(Series, series_id)
        return series if series is not None and tenant in (None, series.tenant) else None

    def list_series(self, tenant: str | None = None, limit: int = 1000) -> list[Series]:
        """Series, newest first."""
        query = select(Series).order_by(Series.created_at.desc(), Series.id.desc()).limit(limit)
        if tenant is not None:
            query = query.where(Series.tenant == tenant)
        with self.read() as session:
            return list(session.scalars(query))

    def store_again(self, series_id: str) -> bool:
        """The same content came once more: it is the last that was stored under its UID. False where it is deleted by now."""
        with self.write() as session:
            return renew_dicom(session, series_id)


def _end_storing(session: Session, prefix: str, limit: timedelta) -> None:
    planned = delete(Discard).where(Discard.prefix == prefix, Discard.due_at > utc_now() + limit)
    if session.scalar(planned.returning(Discard.prefix)) is None:
        raise StoringTimeout("the files took too long to store")
