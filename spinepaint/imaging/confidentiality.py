"""What becomes of each element of a source under the Basic Application Level Confidentiality Profile (PS3.15 E.3).

Two lists are applied, one after the other. Table E.1-1, as dicom-anonymizer holds it, says what has to go. Then only
what is known to be harmless stays: numbers, enumerated values, codes, and the texts that are named below.
"""

from collections.abc import Callable
from typing import Literal

from dicomanonymizer.dicomfields_selector import dicom_anonymization_database_selector
from pydicom import DataElement, Dataset
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import BaseTag
from pydicom.uid import UID

from spinepaint.imaging.mr_attributes import PATIENT_AND_STUDY

EDITION = "2026c"
"""Of the standard, whose Table E.1-1 is applied."""

Action = Literal["remove", "empty", "dummy", "uid"]
UidMap = Callable[[str], UID]

# The table leaves a choice to whoever knows the IOD: X/Z/D is "remove, empty or replace". Within sequences the last of
# them is taken, since an IOD may require a value there; above them what is required is filled in afterwards.
_ACTIONS: dict[str, Action] = {
    "X_TAGS": "remove", "Z_TAGS": "empty", "X_Z_TAGS": "empty", "D_TAGS": "dummy", "Z_D_TAGS": "dummy",
    "X_D_TAGS": "dummy", "X_Z_D_TAGS": "dummy", "U_TAGS": "uid", "X_Z_U_STAR_TAGS": "uid",
}  # fmt: skip


def _table() -> dict[int, Action]:
    """The action for each attribute of Table E.1-1; curves and overlays, whose tags are masked, are dropped elsewhere."""
    database = dicom_anonymization_database_selector(f"dicomfields_{EDITION}")
    return {tag[0] << 16 | tag[1]: action for name, action in _ACTIONS.items() for tag in database[name] if len(tag) == 2}


ACTIONS = _table()

DUMMIES: dict[str, str] = {
    "DA": "19000101", "TM": "000000", "DT": "19000101000000", "AS": "000Y",
    "AE": "REMOVED", "CS": "REMOVED", "LO": "REMOVED", "LT": "REMOVED", "PN": "REMOVED^", "SH": "REMOVED", "ST": "REMOVED",
    "UC": "REMOVED", "UT": "REMOVED", "DS": "0", "IS": "0",
}  # fmt: skip
"""By value representation, what stands in where an IOD requires a value."""

HARMLESS_VRS = frozenset({"AT", "CS", "DS", "FD", "FL", "IS", "SL", "SQ", "SS", "SV", "UI", "UL", "US", "UV"})
HARMLESS_TEXTS = frozenset({
    "CodeValue", "LongCodeValue", "CodingSchemeDesignator", "CodingSchemeVersion", "CodeMeaning",
    "Manufacturer", "ManufacturerModelName", "SoftwareVersions", "SequenceName", "PulseSequenceName", "ImagedNucleus",
    "RescaleType", "StackID", "ReceiveCoilName", "ReceiveCoilManufacturerName",
    "MultiCoilElementName", "TransmitCoilName", "TransmitCoilManufacturerName",
})  # fmt: skip
"""Texts that name a code, a make, a part of a machine or a way to image, and that an MR IOD may require.

Position Reference Indicator is not among them although Table E.1-1 does not list it: a person types it in, and it may be empty.
"""

# Beyond the table: whatever describes the patient or the study goes, known to it or not (body mass index, issuers, local
# procedure codes), but for what tells one study from another and who had a hand in the image.
_OF_THE_PERSON = PATIENT_AND_STUDY - {"SpecificCharacterSet", "ContributingEquipmentSequence", "StudyInstanceUID"}
_STANDARD_ROOT = "1.2.840.10008."  # of SOP classes, transfer syntaxes and well-known frames of reference: they name nobody


def cleaned(source: Dataset, uid_of: UidMap) -> Dataset:
    """Copy of a source data set with nothing in it that the profile removes; what its IOD requires may be missing.

    `uid_of` maps the UIDs that are not the standard's own. The copy has no file meta information.
    """
    return _cleaned(source, uid_of, nested=False)


def _cleaned(source: Dataset, uid_of: UidMap, *, nested: bool) -> Dataset:
    copy = Dataset()
    for element in source:
        kept = _kept(element, uid_of, nested=nested)
        if kept is not None:
            copy[kept.tag] = kept
    return copy


def _kept(element: DataElement, uid_of: UidMap, *, nested: bool) -> DataElement | None:
    """The element as it may stay, or None."""
    tag, vr, action = element.tag, element.VR, ACTIONS.get(element.tag)
    if tag.is_private or _is_repeating(tag) or (not nested and element.keyword in _OF_THE_PERSON):
        return None
    # A text is not harmless for the value representation that a file gives it; what no dictionary knows may be one.
    if not dictionary_has_tag(tag) or vr not in dictionary_VR(tag).split(" or "):
        return None
    if vr == "SQ" and action in (None, "uid"):
        return DataElement(tag, "SQ", DicomSequence([_cleaned(item, uid_of, nested=True) for item in element.value]))
    if vr == "UI" and action in (None, "uid"):
        return DataElement(tag, "UI", _mapped(element, uid_of))
    if action is not None:
        return _replaced(element, action) if nested else None
    if vr in HARMLESS_VRS or element.keyword in HARMLESS_TEXTS:
        return DataElement(tag, vr, element.value)
    return None


def _replaced(element: DataElement, action: Action) -> DataElement | None:
    if action == "empty":
        return DataElement(element.tag, element.VR, None)
    return DataElement(element.tag, element.VR, DUMMIES[element.VR]) if action == "dummy" and element.VR in DUMMIES else None


def _is_repeating(tag: BaseTag) -> bool:
    """Curves (50xx) and overlays (60xx), which may be drawn over the patient's name (PS3.5 7.6)."""
    return tag.group >> 8 in (0x50, 0x60)


def _mapped(element: DataElement, uid_of: UidMap) -> UID | list[UID] | None:
    def mapped(uid: str) -> UID:
        return UID(uid) if uid.startswith(_STANDARD_ROOT) else uid_of(uid)

    if not element.value:
        return None
    return mapped(str(element.value)) if element.VM == 1 else [mapped(str(uid)) for uid in element.value]
