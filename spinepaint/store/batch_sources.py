"""What a batch's items are made of: their series, and whose these are."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import InstrumentedAttribute, Session

from spinepaint.store.batches import BatchItem, in_parts
from spinepaint.store.database import Database
from spinepaint.store.dicom_models import DicomSeries
from spinepaint.store.models import Series


class BatchSourceBook(Database):
    """Sources of many jobs at once."""

    def find_series(self, series_ids: Sequence[str], tenant: str | None = None) -> dict[str, Series]:
        """The series of those ids, by id; unknown ones are absent, and with a tenant those of others."""
        with self.read() as session:
            rows = [row for some in in_parts(series_ids) for row in session.scalars(select(Series).where(Series.id.in_(some)))]
        return {row.id: row for row in rows if tenant in (None, row.tenant)}

    def source_patients(self, items: Sequence[BatchItem]) -> dict[str, str]:
        """By job id, whose source it reads: the Patient ID, or where that is empty the Study Instance UID.

        The issuer of the ID is not asked: two patients of one ID stay together, but never one patient apart because one
        of the scans names no issuer. Where the source was deleted, what its result says of the patient counts, unless it
        was de-identified; nobody knows the others, and they are absent.
        """
        series_ids = sorted({item.series_id for item in items if item.series_id is not None})
        orphans = [item for item in items if item.series_id is None and not item.spec.get("deidentify")]
        with self.read() as session:
            sources = _people(session, DicomSeries.source_id, series_ids)
            results = _people(session, DicomSeries.job_id, [item.job_id for item in orphans])
        found = {item.job_id: sources[item.series_id] for item in items if item.series_id in sources}
        for item in orphans:
            patient_id, study_uid = results.get(item.job_id, ("", ""))
            found[item.job_id] = (patient_id, "" if item.spec.get("new_study") else study_uid)
        return {job_id: patient_id or study_uid for job_id, (patient_id, study_uid) in found.items() if patient_id or study_uid}


def _people(session: Session, owner: InstrumentedAttribute[str | None], ids: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Patient ID, empty where there is none, and Study Instance UID of the first DICOM series of each owner."""
    query = select(owner, DicomSeries.patient_id, DicomSeries.study_uid).order_by(DicomSeries.id)
    found: dict[str, tuple[str, str]] = {}
    for some in in_parts(ids):
        for owner_id, patient_id, study_uid in session.execute(query.where(owner.in_(some))):
            found.setdefault(owner_id or "", (patient_id or "", study_uid))
    return found
