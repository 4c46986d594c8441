"""De-identifies a source before anything is derived from it, so that no output can carry over what the source said.

The Basic Application Level Confidentiality Profile (PS3.15 E.3, code 113100) without options: no description, date, patient
characteristic or device identity of the source stays, and every UID is replaced.
"""

import hashlib
import hmac
import re
from copy import copy
from dataclasses import dataclass, replace

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import UID

from spinepaint.imaging.confidentiality import DUMMIES, EDITION, cleaned
from spinepaint.imaging.errors import InstanceReason, Refusal
from spinepaint.imaging.provenance import code_item
from spinepaint.imaging.reading import SourceSeries
from spinepaint.imaging.uids import uid_from
from spinepaint.imaging.vocabulary import Code
from spinepaint.imaging.volume import Volume

BASIC_PROFILE = Code("113100", "DCM", "Basic Application Confidentiality Profile")  # CID 7050
METHOD = f"Spinepaint: DICOM PS3.15 {EDITION} Annex E basic profile"

# What the IODs require a value for, or a DICOMDIR needs one of; the profile allows dummies here (its actions Z and D).
_REQUIRED = {"StudyDate": DUMMIES["DA"], "StudyTime": DUMMIES["TM"], "StudyID": "1"}
_REQUIRED_ENHANCED = {"ContentDate": DUMMIES["DA"], "ContentTime": DUMMIES["TM"], "DeviceSerialNumber": DUMMIES["LO"]}
_UID = re.compile(r"\d+(\.\d+){4,}")


@dataclass(frozen=True)
class Pseudonyms:
    """Replacement UIDs and patient identifiers: the same for the same original and key, so that outputs stay consistent.

    Whoever knows an original can confirm a pseudonym made without a key, but not one made with a secret key. With a key
    the studies of a patient share a pseudonym; without one every study has its own, since the few Patient IDs that a
    hospital can have would be found again by trying them all.
    """

    key: str = ""

    def uid(self, original: str) -> UID:
        """The UID that replaces `original`."""
        return uid_from("deidentified", self.digest("uid", original))

    def patient(self, source: Dataset) -> str:
        """Patient ID and name of the patient of `source`."""
        identity = [str(source.get(keyword, "")) for keyword in ("IssuerOfPatientID", "PatientID")]
        if not self.key or not identity[1]:
            identity = [str(source.StudyInstanceUID)]
        return f"SP-{self.digest('patient', *identity)[:12].upper()}"

    def digest(self, *parts: str) -> str:
        """Keyed digest of `parts`, hexadecimal."""
        return hmac.new(self.key.encode(), "\0".join(parts).encode(), hashlib.sha256).hexdigest()


def deidentified_series(series: SourceSeries, pseudonyms: Pseudonyms) -> SourceSeries:
    """`series` as if a de-identified copy of it had been read. The pixels and the geometry are the same.

    Raises Refusal `burned-in-annotation` where an instance says that its pixels name the patient.
    """
    volume = deidentified(series.volume, pseudonyms)
    first = volume.datasets[0]
    return replace(
        series,
        volume=volume,
        study_uid=str(first.StudyInstanceUID),
        series_uid=str(first.SeriesInstanceUID),
        sha256=pseudonyms.digest("source", series.sha256),
        warnings=tuple(warning for warning in series.warnings if not _names_something(warning, series)),
    )


def deidentified(volume: Volume, pseudonyms: Pseudonyms) -> Volume:
    """`volume` with de-identified source data sets. Raises Refusal `burned-in-annotation`."""
    # Any other value than these is somebody's way to say yes, or may be.
    burned = [ds for ds in volume.datasets if str(ds.get("BurnedInAnnotation") or "NO").strip().upper() != "NO"]
    if burned:
        raise Refusal(
            "burned-in-annotation",
            "The pixels carry burned-in annotation, which cannot be removed here.",
            "Clean the pixels first, or ask for an output that is not de-identified.",
            [InstanceReason(_name_of(ds), "Burned In Annotation is not NO", str(ds.SOPInstanceUID)) for ds in burned],
        )
    patient = pseudonyms.patient(volume.datasets[0])
    return replace(volume, datasets=tuple(_deidentified(ds, pseudonyms, patient) for ds in volume.datasets))


def _name_of(source: Dataset) -> str:
    """The name that the reader found a data set under; empty for one that was made here."""
    return str(getattr(source, "filename", None) or "")


def _deidentified(source: Dataset, pseudonyms: Pseudonyms, patient: str) -> Dataset:
    clean = cleaned(source, pseudonyms.uid)
    clean.file_meta = FileMetaDataset()
    syntax = getattr(source, "file_meta", Dataset()).get("TransferSyntaxUID")
    if syntax:
        clean.file_meta.TransferSyntaxUID = syntax
    required = _REQUIRED | (_REQUIRED_ENHANCED if "PerFrameFunctionalGroupsSequence" in source else {})
    for keyword, value in required.items():
        setattr(clean, keyword, copy(value))
    clean.PatientName, clean.PatientID = f"SYNTHETIC^{patient}", patient
    clean.PatientIdentityRemoved = "YES"
    clean.DeidentificationMethod = METHOD
    clean.DeidentificationMethodCodeSequence = DicomSequence([code_item(BASIC_PROFILE)])
    clean.LongitudinalTemporalInformationModified = "REMOVED"
    return clean


def _names_something(warning: str, series: SourceSeries) -> bool:
    """Whether a warning quotes a file, a description or a UID of the source."""
    quoted = [*(verdict.file for verdict in series.report.files), *(verdict.description for verdict in series.report.series)]
    return bool(_UID.search(warning)) or any(text and text in warning for text in quoted)
