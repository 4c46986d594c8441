"""Entering DICOM series into the ledger, within the transaction that makes them known."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from spinepaint.store.database import utc_now
from spinepaint.store.dicom_keys import column_values
from spinepaint.store.dicom_models import DicomInstance, DicomSeries


@dataclass(frozen=True)
class StoredInstance:
    """An instance whose file lies under `artifact_key`; `indexed` is what `imaging.dicom_index` told of it, as plain values."""

    artifact_key: str
    indexed: Mapping[str, Any]


@dataclass(frozen=True)
class StoredSeries:
    """The instances of one series; `digest` is over their files' content, in whatever order."""

    study_uid: str
    series_uid: str
    digest: str
    instances: tuple[StoredInstance, ...]


def by_series(instances: Iterable[StoredInstance]) -> list[StoredSeries]:
    """Instances grouped into their series; a second file of one SOP Instance UID is left out."""
    groups: dict[tuple[str, str], dict[str, StoredInstance]] = {}
    for instance in instances:
        of = instance.indexed
        groups.setdefault((of["study_uid"], of["series_uid"]), {}).setdefault(of["sop_instance_uid"], instance)
    return [StoredSeries(study, series, _digest(group), tuple(group.values())) for (study, series), group in groups.items()]


def enter_dicom(
    session: Session, series: Sequence[StoredSeries], *, tenant: str, source_id: str | None = None, job_id: str | None = None
) -> None:
    """Enter series that belong to an upload or to a job's result."""
    for entry in series:
        shared = _in_common([instance.indexed["attributes"] for instance in entry.instances])
        row = DicomSeries(
            tenant=tenant,
            source_id=source_id,
            job_id=job_id,
            study_uid=entry.study_uid,
            series_uid=entry.series_uid,
            digest=entry.digest,
            instances=len(entry.instances),
            attributes=shared,
            stored_at=_moment(session, tenant, entry.series_uid),
            **column_values(shared),
        )
        session.add(row)
        session.flush()
        session.add_all(_instance_row(row.id, instance) for instance in entry.instances)


def renew_dicom(session: Session, source_id: str) -> bool:
    """Make the series of an upload the ones that were stored last under their UIDs; False where there are none (any more)."""
    rows = list(session.scalars(select(DicomSeries).where(DicomSeries.source_id == source_id).with_for_update()))
    for row in rows:
        row.stored_at = _moment(session, row.tenant, row.series_uid)
    return bool(rows)


def _moment(session: Session, tenant: str, series_uid: str) -> datetime:
    """The present, or just after what was stored last under that UID: clocks are set back, and their ticks are coarse."""
    same = (DicomSeries.tenant == tenant, DicomSeries.series_uid == series_uid)
    last: datetime | None = session.scalar(select(func.max(DicomSeries.stored_at)).where(*same))
    now = utc_now()
    return now if last is None else max(now, last + timedelta(microseconds=1))


def _instance_row(series: int, instance: StoredInstance) -> DicomInstance:
    of = instance.indexed
    number = of["instance_number"]
    return DicomInstance(
        series=series,
        sop_instance_uid=of["sop_instance_uid"],
        sop_class_uid=of["sop_class_uid"],
        transfer_syntax_uid=of["transfer_syntax_uid"],
        instance_number=number if number is not None and abs(number) < 2**31 else None,
        artifact_key=instance.artifact_key,
        size=of["size"],
        attributes=of["attributes"],
        layout={"bulk": of["bulk"], "frames": of["frames"]},
    )


def _in_common(datasets: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    first, *others = datasets
    return {tag: element for tag, element in first.items() if all(other.get(tag) == element for other in others)}


def _digest(group: Mapping[str, StoredInstance]) -> str:
    return hashlib.sha256("\n".join(sorted(i.indexed["sha256"] for i in group.values())).encode()).hexdigest()
