"""The header of a derived MR image: what stays of its source, and what is said about its origin."""

from collections.abc import Iterable
from copy import deepcopy

from pydicom import Dataset
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

SERIES_NUMBER_OFFSET = 1000


def kept(source: Dataset, keywords: Iterable[str]) -> Dataset:
    """Copy of those attributes of `source` that it has, without private attributes at any depth."""
    copy = Dataset()
    for keyword in keywords:
        if keyword in source:
            copy.add(deepcopy(source[keyword]))
    copy.remove_private_tags()
    return copy


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
    header.SeriesNumber = int(header.get("SeriesNumber") or 0) + SERIES_NUMBER_OFFSET
    header.SeriesDescription = marks.series_description(provenance, str(source.get("SeriesDescription", "")))
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


def classic_header(source: Dataset, provenance: Provenance, study_uid: str, series_uid: str) -> Dataset:
    """Header of the MR Image (PS3.3 A.4) derived from `source`, short of its SOP Instance UID and its pixels."""
    header = kept(source, CLASSIC)
    mark_as_synthetic(header, source, provenance, study_uid, series_uid)
    header.ImageType = marks.IMAGE_TYPE
    header.DerivationDescription = marks.derivation_description(provenance)
    header.DerivationCodeSequence = DicomSequence([code_item(marks.DERIVATION)])
    header.SourceImageSequence = DicomSequence([source_image_item(source)])
    set_common_instance_reference(header, source)
    # The MR Image IOD has no rescale. One that says something has to stay, or the pixels would mean something else.
    rescale = kept(source, ("RescaleSlope", "RescaleIntercept", "RescaleType"))
    if (
        float(rescale.get("RescaleSlope", 1)),
        float(rescale.get("RescaleIntercept", 0)),
    ) != (1.0, 0.0):
        header.update(rescale)
    fill_type_2(header, TYPE_2_CLASSIC)
    return header
