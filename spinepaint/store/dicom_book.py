"""The ledger's DICOM objects as DICOMweb asks for them: by attributes (QIDO-RS) and by UID (WADO-RS)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import ColumnElement, Select, and_, exists, func, or_, select
from sqlalchemy.orm import Session, aliased, defer

from spinepaint.store.database import Database
from spinepaint.store.dicom_keys import MatchKey, name_columns
from spinepaint.store.dicom_models import DicomInstance, DicomSeries
from spinepaint.store.models import Series

MatchKind = Literal["any of", "range", "pattern"]
_NEWEST = (DicomSeries.stored_at.desc(), DicomSeries.id.desc())
_UIDS_AT_A_TIME = 500  # databases bound the parameters of a statement
_WILDCARDS = {"*": "%", "?": "_", "%": "\\%", "_": "\\_", "\\": "\\\\"}


@dataclass(frozen=True)
class Match:
    """One condition. `values` are comparable: one of them; the first and last of a range, empty where open; or a pattern with `*`
    and `?`. `group` is the component group of a name that has to match, counted from 0; None is any of them."""

    key: MatchKey
    kind: MatchKind
    values: tuple[str, ...]
    group: int | None = None


@dataclass(frozen=True)
class FoundStudy:
    """A study: the attributes that its newest series states, and what it holds."""

    study_uid: str
    attributes: dict[str, Any]
    modalities: list[str] = field(default_factory=list)
    series: int = 0
    instances: int = 0


@dataclass(frozen=True)
class Located:
    """A kept instance and the series that it is of; its `attributes` are loaded only where asked for."""

    study_uid: str
    series_uid: str
    instance: DicomInstance


def _visible() -> ColumnElement[bool]:
    """Of several series of one UID, the one that came last."""
    newer = aliased(DicomSeries)
    later = or_(
        newer.stored_at > DicomSeries.stored_at, and_(newer.stored_at == DicomSeries.stored_at, newer.id > DicomSeries.id)
    )
    return ~exists().where(newer.series_uid == DicomSeries.series_uid, newer.tenant == DicomSeries.tenant, later)


class DicomBook(Database):
    """Kept series and instances. A tenant of None sees all."""

    def search_studies(self, matches: Sequence[Match], limit: int, offset: int, tenant: str | None = None) -> list[FoundStudy]:
        """Studies with a series that matches, newest first."""
        with self.read() as session:
            newest = (func.max(DicomSeries.stored_at).desc(), func.max(DicomSeries.id).desc())
            query = select(DicomSeries.study_uid).group_by(DicomSeries.study_uid).order_by(*newest)
            uids = list(session.scalars(self._narrow(query, session, matches, tenant).limit(limit).offset(offset)))
            found = {uid: FoundStudy(uid, {}) for uid in uids}
            whole = select(DicomSeries).where(DicomSeries.study_uid.in_(uids)).order_by(*_NEWEST)
            for row in session.scalars(self._narrow(whole, session, (), tenant)):
                study = found[row.study_uid]
                modalities = sorted({*study.modalities, *([row.modality] if row.modality else [])})
                found[row.study_uid] = FoundStudy(
                    row.study_uid,
                    study.attributes or row.attributes,
                    modalities,
                    study.series + 1,
                    study.instances + row.instances,
                )
        return list(found.values())

    def search_series(self, matches: Sequence[Match], limit: int, offset: int, tenant: str | None = None) -> list[DicomSeries]:
        """Series that match, newest first."""
        query = select(DicomSeries).order_by(*_NEWEST)
        with self.read() as session:
            return list(session.scalars(self._narrow(query, session, matches, tenant).limit(limit).offset(offset)))

    def search_instances(self, matches: Sequence[Match], limit: int, offset: int, tenant: str | None = None) -> list[Located]:
        """Instances that match, with their attributes, by series and Instance Number."""
        query = _instances().order_by(*_NEWEST, DicomInstance.instance_number, DicomInstance.sop_instance_uid)
        with self.read() as session:
            rows = session.execute(self._narrow(query, session, matches, tenant).limit(limit).offset(offset))
            return [Located(study, series, instance) for study, series, instance in rows]

    def locate(
        self, study_uid: str, series_uid: str | None = None, instance_uid: str | None = None, tenant: str | None = None
    ) -> list[Located]:
        """What is kept under those UIDs, without attributes; empty where nothing is."""
        query = _instances().options(defer(DicomInstance.attributes)).where(DicomSeries.study_uid == study_uid)
        if series_uid is not None:
            query = query.where(DicomSeries.series_uid == series_uid)
        if instance_uid is not None:
            query = query.where(DicomInstance.sop_instance_uid == instance_uid)
        query = query.order_by(DicomSeries.id, DicomInstance.instance_number, DicomInstance.sop_instance_uid)
        with self.read() as session:
            rows = session.execute(self._narrow(query, session, (), tenant))
            return [Located(study, series, instance) for study, series, instance in rows]

    def instance_attributes(self, instances: Sequence[Located]) -> dict[tuple[int, str], dict[str, Any]]:
        """The attributes of some instances, by series row and SOP Instance UID; those deleted since are absent."""
        wanted = [
            and_(DicomInstance.series == at.instance.series, DicomInstance.sop_instance_uid == at.instance.sop_instance_uid)
            for at in instances
        ]
        query = select(DicomInstance.series, DicomInstance.sop_instance_uid, DicomInstance.attributes).where(or_(*wanted))
        with self.read() as session:
            return {(series, uid): attributes for series, uid, attributes in session.execute(query)}

    def result_instances(self, job_id: str) -> list[Located]:
        """The instances of a job's result, series by series."""
        query = _instances().options(defer(DicomInstance.attributes), defer(DicomInstance.layout))
        query = query.where(DicomSeries.job_id == job_id)
        query = query.order_by(DicomSeries.id, DicomInstance.instance_number, DicomInstance.sop_instance_uid)
        with self.read() as session:
            return [Located(study, series, instance) for study, series, instance in session.execute(query)]

    def source_of(self, series_uid: str, digest: str | None = None, tenant: str | None = None) -> Series | None:
        """The newest upload of a DICOM series; with a digest, the one of that content."""
        query = select(Series).join(DicomSeries, DicomSeries.source_id == Series.id)
        query = query.where(DicomSeries.series_uid == series_uid).order_by(*_NEWEST).limit(1)
        if digest is not None:
            query = query.where(DicomSeries.digest == digest)
        if tenant is not None:
            query = query.where(DicomSeries.tenant == tenant)
        with self.read() as session:
            return session.scalar(query)

    def kept_elsewhere(self, study_uid: str, series_uid: str, instance_uids: Sequence[str]) -> tuple[bool, frozenset[str]]:
        """Whether the Series Instance UID is kept in another study too, and which of these instances are in another series.

        Both contradict that a UID names one thing (PS3.5 9).
        """
        other_study = exists().where(DicomSeries.series_uid == series_uid, DicomSeries.study_uid != study_uid)
        other_series = select(DicomInstance.sop_instance_uid).join(DicomSeries, DicomSeries.id == DicomInstance.series)
        other_series = other_series.where(DicomSeries.series_uid != series_uid)
        with self.read() as session:
            moved = bool(session.scalar(select(other_study)))
            found: set[str] = set()
            for first in range(0, len(instance_uids), _UIDS_AT_A_TIME):
                some = instance_uids[first : first + _UIDS_AT_A_TIME]
                found.update(session.scalars(other_series.where(DicomInstance.sop_instance_uid.in_(some))))
        return moved, frozenset(found)

    def _narrow(self, query: Any, session: Session, matches: Sequence[Match], tenant: str | None) -> Any:
        query = query.where(_visible(), *(_condition(match, session) for match in matches))
        return query if tenant is None else query.where(DicomSeries.tenant == tenant)


def _instances() -> Select[str, str, DicomInstance]:
    return select(DicomSeries.study_uid, DicomSeries.series_uid, DicomInstance).join(
        DicomSeries, DicomSeries.id == DicomInstance.series
    )


def _condition(match: Match, session: Session) -> Any:
    """A match as SQL (PS3.4 C.2.2.2)."""
    table = DicomInstance if match.key.level == "instance" else DicomSeries
    names = name_columns(match.key)
    wanted = names if match.group is None else names[match.group : match.group + 1]
    return or_(*(_compared(getattr(table, name), match, session) for name in wanted))


def _compared(column: Any, match: Match, session: Session) -> Any:
    if match.kind == "any of":
        return column.in_([int(value) if match.key.vr == "IS" else value for value in match.values])
    if match.kind == "range":
        low, high = match.values
        return and_(column.is_not(None), *([column >= low] if low else []), *([column <= high] if high else []))
    (pattern,) = match.values
    if session.get_bind().dialect.name == "sqlite":  # its LIKE has no regard to case
        return column.op("GLOB")(pattern.replace("[", "[[]"))
    return column.like("".join(_WILDCARDS.get(letter, letter) for letter in pattern), escape="\\")
