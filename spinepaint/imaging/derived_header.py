"""The header of a derived MR image: what stays of its source, and what is said about its origin."""

import hashlib
import json
from collections.abc import Iterable
from copy import deepcopy

from pydicom import DataElement, Dataset
from pydicom.charset import convert_encodings, encode_string
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import UID

from spinepaint.imaging import provenance as marks
from spinepaint.imaging.lossy import LOSSY_METHODS
from spinepaint.imaging.mr_attributes import (
    CLASSIC,
    OF_A_REQUEST,
    TYPE_2_CLASSIC,
)
from spinepaint.imaging.provenance import Provenance, code_item
from spinepaint.imaging.uids import uid_from
from spinepaint.imaging.value_rules import LARGEST_WHOLE

SERIES_NUMBER_OFFSET = 1000
_RESCALE = ("RescaleSlope", "RescaleIntercept", "RescaleType")


def kept(source: Dataset, keywords: Iterable[str]) -> Dataset:
    """Copy of those attributes of `source` that it has, without private attributes at any depth."""
    copy = Dataset()
    for keyword in keywords:
        if keyword in source:
            copy.add(deepcopy(source[keyword]))
    copy.remove_private_tags()
    return copy


def header_digest(source: Dataset, keywords: Iterable[str]) -> str:
    """SHA-256 of what `kept` would copy and of what else an output has from `source`; the same for every encoding."""
    named = sorted({*keywords, "SeriesDescription", "ImageType", *_RESCALE})
    said = [_said(source[keyword]) for keyword in named if keyword in source]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def _said(element: DataElement) -> list[object]:
    """An element as plain values. Numbers count as numbers: a file may say the same one in several ways."""
    if element.VR == "SQ":
        return [int(element.tag), [[_said(each) for each in item if not each.tag.is_private] for item in element.value]]
    value = element.value
    values = [each for each in (value if isinstance(value, MultiValue | list) else [value]) if each is not None]
    numbers = element.VR in ("DS", "IS")
    return [int(element.tag), [float(each) if numbers and each != "" else str(each) for each in values]]


def referenced_instance(source: Dataset) -> Dataset:
    """SOP Instance Reference Macro item (PS3.3 10.8) that names `source`."""
    item = Dataset()
    item.ReferencedSOPClassUID = source.SOPClassUID
    item.ReferencedSOPInstanceUID = source.SOPInstanceUID
    return item


def source_image_item(source: Dataset, frame: int | None = None) -> Dataset:
    """Source Image Sequence item (PS3.3 C.12.4.1): processed from `source`, every location preserved.

    `frame` is the 0-based frame of a multi-frame source.
    """
    item = referenced_instance(source)
    if frame is not None:
        item.ReferencedFrameNumber = frame + 1
    item.PurposeOfReferenceCodeSequence = DicomSequence([code_item(marks.SOURCE_IMAGE)])
    item.SpatialLocationsPreserved = "YES"
    return item


def set_common_instance_reference(header: Dataset, source: Dataset) -> None:
    """Common Instance Reference (PS3.3 C.12.2): names the series of `source`, and its study where that is another."""
    series = Dataset()
    series.SeriesInstanceUID = source.SeriesInstanceUID
    series.ReferencedInstanceSequence = DicomSequence([referenced_instance(source)])
    if header.StudyInstanceUID == source.StudyInstanceUID:
        header.ReferencedSeriesSequence = DicomSequence([series])
        return
    study = Dataset()
    study.StudyInstanceUID = source.StudyInstanceUID
    study.ReferencedSeriesSequence = DicomSequence([series])
    header.StudiesContainingOtherReferencedInstancesSequence = DicomSequence([study])


def frame_of_reference(source: Dataset) -> UID:
    """The source's Frame of Reference UID, or where a release stripped it, one that follows from its series."""
    uid = source.get("FrameOfReferenceUID")
    return UID(uid) if uid else uid_from("frame of reference", source.StudyInstanceUID, source.SeriesInstanceUID)


def later_number(series: Dataset, offset: int) -> int:
    """A Series Number `offset` after that of `series`; beyond the largest of an IS (PS3.5 6.2) they go on from 1."""
    number = int(series.get("SeriesNumber") or 0) + offset
    return number if number <= LARGEST_WHOLE else number - LARGEST_WHOLE


def _within_bytes(text: str, character_set: str | list[str] | None, most: int = 64) -> str:
    """`text` cut at a character so that it takes `most` bytes at most in a Specific Character Set.

    An LO has 64 characters (PS3.5 6.2), but many readers count bytes.
    """
    encodings = convert_encodings(character_set or "ISO_IR 6")
    while len(encode_string(text, encodings)) > most:
        text = text[:-1].rstrip(": ")
    return text


def mark_as_synthetic(
    header: Dataset,
    source: Dataset,
    provenance: Provenance,
    study_uid: str,
    series_uid: str,
) -> None:
    """Set what both kinds of MR image say about their study, their series and their origin."""
    header.StudyInstanceUID, header.SeriesInstanceUID = study_uid, series_uid
    header.FrameOfReferenceUID = frame_of_reference(source)
    if study_uid != source.StudyInstanceUID:
        for keyword in OF_A_REQUEST:
            header.pop(keyword, None)
    header.SeriesNumber = later_number(header, SERIES_NUMBER_OFFSET)
    description = marks.series_description(provenance, str(source.get("SeriesDescription", "")))
    header.SeriesDescription = _within_bytes(description, source.get("SpecificCharacterSet"))
    for keyword, value in marks.MARKS.items():
        setattr(header, keyword, value)
    header.ContributingEquipmentSequence = DicomSequence(
        [
            *header.get("ContributingEquipmentSequence", []),
            marks.contributing_equipment_item(provenance),
        ]
    )
    transfer_syntax = getattr(source, "file_meta", Dataset()).get("TransferSyntaxUID")
    if transfer_syntax in LOSSY_METHODS and header.get("LossyImageCompression") != "01":
        header.LossyImageCompression = "01"
        header.LossyImageCompressionMethod = LOSSY_METHODS[transfer_syntax]


def fill_type_2(header: Dataset, keywords: Iterable[str]) -> None:
    """Put in, empty, what must be there and may be empty."""
    for keyword in keywords:
        if keyword not in header:
            setattr(header, keyword, None)


def rescale_of(sources: Iterable[Dataset]) -> Dataset | None:
    """What a slice of a series says of its rescale where it says nothing itself; None where the series needs no rescale.

    The MR Image IOD has none. One that says something has to stay, or the pixels would mean something else, and then the
    whole series has it: slices that differ in it could be taken for values of two kinds.
    """
    said = [kept(source, _RESCALE) for source in sources]
    if all((float(each.get("RescaleSlope", 1)), float(each.get("RescaleIntercept", 0))) == (1.0, 0.0) for each in said):
        return None
    usual = Dataset()
    usual.RescaleSlope, usual.RescaleIntercept = "1", "0"
    usual.RescaleType = next((each.RescaleType for each in said if each.get("RescaleType")), "US")  # unspecified (C.11.1.1.2)
    return usual


def classic_header(
    source: Dataset, provenance: Provenance, study_uid: str, series_uid: str, *, rescaled: Dataset | None
) -> Dataset:
    """Header of the MR Image (PS3.3 A.4) derived from `source`, short of its SOP Instance UID and its pixels.

    rescaled: `rescale_of` the series.
    """
    header = kept(source, CLASSIC)
    mark_as_synthetic(header, source, provenance, study_uid, series_uid)
    header.ImageType = marks.IMAGE_TYPE
    header.DerivationDescription = marks.derivation_description(provenance)
    header.DerivationCodeSequence = DicomSequence([code_item(marks.DERIVATION)])
    header.SourceImageSequence = DicomSequence([source_image_item(source)])
    set_common_instance_reference(header, source)
    if rescaled is not None:
        header.update(rescaled)
        header.update(kept(source, _RESCALE))
    fill_type_2(header, TYPE_2_CLASSIC)
    return header
