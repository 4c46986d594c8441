"""The ledger's tables of DICOM objects: what DICOMweb finds without opening a file, and what is owed to other systems."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from spinepaint.store.dicom_keys import MAX_VALUE
from spinepaint.store.models import Base

_TEXT = String(MAX_VALUE)


class DicomSeries(Base):
    """A DICOM series that is kept: of an upload (`source_id`), or of a job's result (`job_id`).

    `attributes` is the DICOM JSON that all of its instances have in common; `digest` tells one content of a series from
    another of the same UID; of those the one with the latest `stored_at` is seen. This row names the patient, as the files
    do; it goes when they go. Names have a column for each component group (PS3.5 6.2.1.2).
    """

    __tablename__ = "dicom_series"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    tenant: Mapped[str]
    source_id: Mapped[str | None] = mapped_column(ForeignKey("series.id", ondelete="CASCADE"), index=True)
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    study_uid: Mapped[str] = mapped_column(index=True)
    series_uid: Mapped[str] = mapped_column(index=True)
    digest: Mapped[str]
    patient_id: Mapped[str | None] = mapped_column(_TEXT, index=True)
    patient_name: Mapped[str | None] = mapped_column(_TEXT)
    patient_name_ideographic: Mapped[str | None] = mapped_column(_TEXT)
    patient_name_phonetic: Mapped[str | None] = mapped_column(_TEXT)
    patient_birth_date: Mapped[str | None] = mapped_column(_TEXT)
    patient_sex: Mapped[str | None] = mapped_column(_TEXT)
    study_date: Mapped[str | None] = mapped_column(_TEXT, index=True)
    study_time: Mapped[str | None] = mapped_column(_TEXT)
    accession_number: Mapped[str | None] = mapped_column(_TEXT)
    referring_physician_name: Mapped[str | None] = mapped_column(_TEXT)
    referring_physician_name_ideographic: Mapped[str | None] = mapped_column(_TEXT)
    referring_physician_name_phonetic: Mapped[str | None] = mapped_column(_TEXT)
    study_id: Mapped[str | None] = mapped_column(_TEXT)
    study_description: Mapped[str | None] = mapped_column(_TEXT)
    modality: Mapped[str | None] = mapped_column(_TEXT)
    series_number: Mapped[int | None]
    series_description: Mapped[str | None] = mapped_column(_TEXT)
    performed_date: Mapped[str | None] = mapped_column(_TEXT)
    performed_time: Mapped[str | None] = mapped_column(_TEXT)
    instances: Mapped[int]
    attributes: Mapped[dict[str, Any]]
    stored_at: Mapped[datetime] = mapped_column(index=True)


class DicomInstance(Base):
    """One instance of a kept series: where its file lies, and what can be told of it without opening that.

    `attributes` is its DICOM JSON without bulk data; `layout` has `bulk` and `frames`, the ranges of the file that hold them.
    """

    __tablename__ = "dicom_instances"

    series: Mapped[int] = mapped_column(ForeignKey("dicom_series.id", ondelete="CASCADE"), primary_key=True)
    sop_instance_uid: Mapped[str] = mapped_column(primary_key=True, index=True)
    sop_class_uid: Mapped[str]
    transfer_syntax_uid: Mapped[str]
    instance_number: Mapped[int | None]
    artifact_key: Mapped[str] = mapped_column(String(512))
    size: Mapped[int]
    attributes: Mapped[dict[str, Any]]
    layout: Mapped[dict[str, Any]]


class DicomDelivery(Base):
    """A job's result owed to a destination, from the submission on; it can be sent once the job has succeeded.

    `state` is pending, delivered or failed. `due_at` is when to try next, or until when a sender has it; None while the
    job has not ended. `attempts` counts the tries since it was last asked for; `token` counts all of them, and so is the one's
    that runs.
    """

    __tablename__ = "dicom_deliveries"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    destination: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(String(16))
    attempts: Mapped[int] = mapped_column(default=0)
    token: Mapped[int] = mapped_column(default=0, server_default="0")
    created_at: Mapped[datetime]
    due_at: Mapped[datetime | None]
    delivered_at: Mapped[datetime | None]
    problem: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))

    __table_args__ = (Index(None, "state", "due_at"),)
