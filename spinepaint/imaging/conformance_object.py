"""The rules of `conformance` that one synthetic object has to keep by itself."""

from collections.abc import Iterator

from pydicom import DataElement, Dataset
from pydicom.dataelem import RawDataElement
from pydicom.uid import UID, EnhancedMRImageStorage, ExplicitVRLittleEndian

from spinepaint.imaging.provenance import MARKS, SYNTHESIZING_EQUIPMENT

_LONGEST = {"DS": 16, "IS": 12, "CS": 16, "SH": 16, "LO": 64, "UI": 64}  # bytes of one value (PS3.5 6.2)
_NOT_IN_CLASSIC = ("PixelPresentation", "PresentationIntentType", "ConversionType", "QualityControlSubject", "IconImageSequence")
_STALE = ("SmallestImagePixelValue", "LargestImagePixelValue", "DigitalSignaturesSequence", "ReferencedImageSequence")
_DEIDENTIFIED = ("DeidentificationMethod", "DeidentificationMethodCodeSequence")  # one of them is enough (PS3.3 C.7.1.1)


def object_findings(ds: Dataset) -> Iterator[str]:
    """What is wrong with one data set, read without its pixels."""
    # First, since it looks at the bytes that were read: pydicom decodes an element when it is first asked for.
    yield from _value_findings(ds)
    yield from _mark_findings(ds)
    yield from _meta_findings(ds)
    if ds.Modality == "MR":
        yield from _image_findings(ds)
        yield from _lossy_findings(ds)
        yield from _source_findings(ds)


def _value_findings(ds: Dataset) -> Iterator[str]:
    """Lengths as they were written, UIDs, and private attributes, at any depth."""
    for tag in list(ds.keys()):
        raw = ds.get_item(tag)
        element: DataElement = ds[tag]
        if element.tag.is_private:
            yield f"{element.tag} is private"
        if isinstance(raw, RawDataElement) and isinstance(raw.value, bytes) and element.VR in _LONGEST:
            longest = max(len(part.strip(b" \0")) for part in raw.value.split(b"\\"))
            if longest > _LONGEST[element.VR]:
                yield f"{element.keyword} has a value of {longest} bytes, more than a {element.VR} may have"
        if element.VR == "UI" and element.value:
            uids = element.value if element.VM > 1 else [element.value]
            yield from (f"{element.keyword} is not a valid UID" for uid in uids if not UID(str(uid)).is_valid)
        if element.VR == "SQ":
            for item in element.value:
                yield from _value_findings(item)


def _mark_findings(ds: Dataset) -> Iterator[str]:
    for keyword, value in MARKS.items():
        if ds.get(keyword) != value:
            yield f"{keyword} is {ds.get(keyword)!r}, not {value!r}"
    synthesizers = [
        equipment
        for equipment in ds.get("ContributingEquipmentSequence", [])
        for purpose in equipment.get("PurposeOfReferenceCodeSequence", [])
        if (purpose.CodeValue, purpose.CodingSchemeDesignator) == (SYNTHESIZING_EQUIPMENT.value, SYNTHESIZING_EQUIPMENT.scheme)
    ]
    if not any("SHA-256" in str(equipment.get("ContributionDescription", "")) for equipment in synthesizers):
        yield "no synthesizing equipment is named with the SHA-256 of its bundle"
    described = any(ds.get(word) for word in _DEIDENTIFIED)
    if ds.get("PatientIdentityRemoved") == "YES" and not described:
        yield "the patient's identity was removed and nothing says how"
    if ds.get("PatientIdentityRemoved") != "YES" and described:
        yield "a de-identification is described that Patient Identity Removed denies"


def _meta_findings(ds: Dataset) -> Iterator[str]:
    meta = ds.file_meta
    if (meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID) != (ds.SOPClassUID, ds.SOPInstanceUID):
        yield "the file meta information names another object"
    if meta.TransferSyntaxUID != ExplicitVRLittleEndian:
        yield "the transfer syntax is not explicit VR little endian"


def _image_findings(ds: Dataset) -> Iterator[str]:
    enhanced = ds.SOPClassUID == EnhancedMRImageStorage
    image_type = list(ds.get("ImageType") or [])
    if image_type[:1] != ["DERIVED"] or (not enhanced and image_type != ["DERIVED", "SECONDARY", "OTHER"]):
        yield f"Image Type is {image_type}"
    if "SYNTHETIC" not in str(ds.get("SeriesDescription", "")):
        yield "Series Description does not say that the series is synthetic"
    unwanted = _STALE if enhanced else (*_STALE, *_NOT_IN_CLASSIC)
    yield from (f"{keyword} does not belong in it" for keyword in unwanted if keyword in ds)
    if not 1 < ds.BitsStored <= ds.BitsAllocated or ds.HighBit != ds.BitsStored - 1:
        yield "Bits Allocated, Bits Stored and High Bit do not go together"
    if not ds.get("FrameOfReferenceUID"):
        yield "it has no frame of reference"


def _lossy_findings(ds: Dataset) -> Iterator[str]:
    """PS3.3 C.7.6.1.1.5: a loss is never denied again, and has a ratio and a method each time."""
    said = ds.get("LossyImageCompression")
    details = [ds.get(word) for word in ("LossyImageCompressionRatio", "LossyImageCompressionMethod")]
    if said not in (None, "00", "01"):
        yield f"LossyImageCompression is {said!r}"
    if said == "01" and not all(details):
        yield "it is said to be lossy without a ratio or a method"
    if said != "01" and any(details):
        yield "it has a lossy ratio or method and does not say that it is lossy"
    if said == "01" and all(details) and ds["LossyImageCompressionRatio"].VM != ds["LossyImageCompressionMethod"].VM:
        yield "it has other numbers of lossy ratios and methods"


def _source_findings(ds: Dataset) -> Iterator[str]:
    """A derived image names its sources (PS3.3 C.7.6.1.1.2, C.7.6.16.2.6), and each of them in its common references."""
    groups = [ds]
    if ds.SOPClassUID == EnhancedMRImageStorage:
        groups = [item for frame in ds.PerFrameFunctionalGroupsSequence for item in frame.get("DerivationImageSequence", [])]
        if len(groups) != ds.NumberOfFrames:
            yield "not every frame says how it was derived"
    sources = [item for group in groups for item in group.get("SourceImageSequence", [])]
    if not sources or any(not group.get("SourceImageSequence") for group in groups):
        yield "it is derived and names no source image"
    if any(not group.get("DerivationDescription") or not group.get("DerivationCodeSequence") for group in groups):
        yield "it does not say how it was derived"
    for item in sources:
        if item.get("SpatialLocationsPreserved") != "YES" or not item.get("PurposeOfReferenceCodeSequence"):
            yield "a source image has no purpose, or its locations are not said to be preserved"
    if {str(item.ReferencedSOPInstanceUID) for item in sources} - set(_common_references(ds)):
        yield "a source image is missing from the common instance reference"


def _common_references(ds: Dataset) -> Iterator[str]:
    studies = [ds, *ds.get("StudiesContainingOtherReferencedInstancesSequence", [])]
    for series in (series for study in studies for series in study.get("ReferencedSeriesSequence", [])):
        yield from (str(item.ReferencedSOPInstanceUID) for item in series.ReferencedInstanceSequence)
