"""The attributes by which stored DICOM objects are found (PS3.18 10.6.1.2, PS3.4 C.6.2.1), and how their values are compared."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Level = Literal["study", "series", "instance"]
MAX_VALUE = 255


@dataclass(frozen=True)
class MatchKey:
    """An attribute that can be matched: its tag as in DICOM JSON, its VR, and the column that keeps its comparable value."""

    keyword: str
    tag: str
    vr: str
    level: Level
    column: str


MATCH_KEYS = (
    MatchKey("StudyInstanceUID", "0020000D", "UI", "study", "study_uid"),
    MatchKey("PatientID", "00100020", "LO", "study", "patient_id"),
    MatchKey("PatientName", "00100010", "PN", "study", "patient_name"),
    MatchKey("PatientBirthDate", "00100030", "DA", "study", "patient_birth_date"),
    MatchKey("PatientSex", "00100040", "CS", "study", "patient_sex"),
    MatchKey("StudyDate", "00080020", "DA", "study", "study_date"),
    MatchKey("StudyTime", "00080030", "TM", "study", "study_time"),
    MatchKey("AccessionNumber", "00080050", "SH", "study", "accession_number"),
    MatchKey("ReferringPhysicianName", "00080090", "PN", "study", "referring_physician_name"),
    MatchKey("StudyID", "00200010", "SH", "study", "study_id"),
    MatchKey("StudyDescription", "00081030", "LO", "study", "study_description"),
    MatchKey("ModalitiesInStudy", "00080061", "CS", "study", "modality"),
    MatchKey("SeriesInstanceUID", "0020000E", "UI", "series", "series_uid"),
    MatchKey("Modality", "00080060", "CS", "series", "modality"),
    MatchKey("SeriesNumber", "00200011", "IS", "series", "series_number"),
    MatchKey("SeriesDescription", "0008103E", "LO", "series", "series_description"),
    MatchKey("PerformedProcedureStepStartDate", "00400244", "DA", "series", "performed_date"),
    MatchKey("PerformedProcedureStepStartTime", "00400245", "TM", "series", "performed_time"),
    MatchKey("SOPInstanceUID", "00080018", "UI", "instance", "sop_instance_uid"),
    MatchKey("SOPClassUID", "00080016", "UI", "instance", "sop_class_uid"),
    MatchKey("InstanceNumber", "00200013", "IS", "instance", "instance_number"),
)
BY_NAME: dict[str, MatchKey] = {name: key for key in MATCH_KEYS for name in (key.keyword, key.tag)}
_UIDS = ("study_uid", "series_uid", "sop_instance_uid", "sop_class_uid")
SERIES_COLUMNS = tuple(
    key for key in MATCH_KEYS if key.level != "instance" and key.column not in _UIDS and key.keyword != "ModalitiesInStudy"
)
NAME_GROUPS = {"Alphabetic": "", "Ideographic": "_ideographic", "Phonetic": "_phonetic"}
"""The component groups of a name in their order (PS3.5 6.2.1.2), and what its column's name ends in for each."""


def name_columns(key: MatchKey) -> tuple[str, ...]:
    """The columns that keep an attribute's comparable value: of a name one for each component group."""
    return tuple(key.column + suffix for suffix in NAME_GROUPS.values()) if key.vr == "PN" else (key.column,)


def text_value(attributes: Mapping[str, Any], tag: str, group: str = "Alphabetic") -> str | None:
    """The first value of an attribute in DICOM JSON as text, of a name one component group; None where there is none."""
    values = attributes.get(tag, {}).get("Value") or [None]
    value = values[0]
    if isinstance(value, dict):
        value = value.get(group)
    return None if value is None else str(value)


def comparable(vr: str, value: str) -> str:
    """A text value as it is compared: trimmed, names without regard to case (PS3.4 C.2.2.2.1), times to the microsecond."""
    value = value.replace("\0", "").strip()[:MAX_VALUE]
    if vr == "PN":
        return value.casefold().rstrip("^")
    return padded_time(value) if vr == "TM" and value else value


def padded_time(value: str, fill: str = "000000.000000") -> str:
    """A time of PS3.5 6.2 with every component, the missing ones from `fill`."""
    return value + fill[len(value) :]


def column_values(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a series that are taken from its attributes."""
    found: dict[str, Any] = {}
    for key in SERIES_COLUMNS:
        if key.vr == "PN":
            for group, suffix in NAME_GROUPS.items():
                text = text_value(attributes, key.tag, group)
                found[key.column + suffix] = None if text is None else comparable("PN", text)
            continue
        value = text_value(attributes, key.tag)
        if value is None:
            found[key.column] = None
        elif key.vr == "IS":
            found[key.column] = _whole(value)
        else:
            found[key.column] = comparable(key.vr, value)
    return found


def _whole(value: str) -> int | None:
    try:
        number = int(float(value))
    except (ValueError, OverflowError):
        return None
    return number if abs(number) < 2**31 else None
