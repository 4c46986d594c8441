"""Takes out of a source, once, what no output may carry: values that the standard does not allow for their attribute.

Whatever is written later is a copy of what stays. The value representation is the dictionary's, not the one that a file
claims: a value that can be said in it is, any other goes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydicom import DataElement, Dataset
from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_description, dictionary_VM, dictionary_VR, tag_for_keyword
from pydicom.multival import MultiValue

from spinepaint.imaging.mr_attributes import CLASSIC, ENHANCED
from spinepaint.imaging.read_header import BadInstanceError
from spinepaint.imaging.value_rules import IllegalValueError, legal_value

_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
_RESCALE = ("RescaleSlope", "RescaleIntercept", "RescaleType")
_LOOKED_AT = CLASSIC | ENHANCED | {*_UIDS, *_RESCALE, "ImageType", "SeriesDescription"}
# Where these are not legal there is no telling what the pixels are, or where: nothing stands in for them.
_DECISIVE = frozenset({
    *_UIDS, "SOPClassUID", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "RescaleSlope", "RescaleIntercept",
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "PlanePositionSequence",
    "PlaneOrientationSequence", "PixelMeasuresSequence", "PixelValueTransformationSequence",
})  # fmt: skip
# What must have a value, and one that claims nothing: a burned-in annotation has to be thought of where it cannot be ruled out.
_REPLACED: dict[str, str | None] = {
    "BurnedInAnnotation": "YES", "Modality": "MR", "ScanningSequence": "RM", "SequenceVariant": "NONE", "PatientPosition": None,
    "SpecificCharacterSet": "ISO_IR 192",
}  # fmt: skip
# The Enhanced MR IOD asks for more (PS3.3 A.36.2).
_REPLACED_ENHANCED: dict[str, str | None] = {
    "Manufacturer": "UNKNOWN", "ManufacturerModelName": "UNKNOWN", "DeviceSerialNumber": "UNKNOWN",
    "SoftwareVersions": "UNKNOWN", "ContentDate": "19000101", "ContentTime": "000000",
}  # fmt: skip
_CHOICES: dict[str, frozenset[str]] = {
    "BurnedInAnnotation": frozenset({"YES", "NO"}),
    "LossyImageCompression": frozenset({"00", "01"}),
    "MRAcquisitionType": frozenset({"2D", "3D"}),
    "PatientIdentityRemoved": frozenset({"YES", "NO"}),
    "Laterality": frozenset({"R", "L"}),
}
"""Enumerated values (PS3.3 C.7 and C.8.3) of what others rely on."""
_POSITIVE = frozenset({"SliceThickness", "SpacingBetweenSlices", "WindowWidth"})
_WINDOW = ("WindowCenter", "WindowWidth", "WindowCenterWidthExplanation")
_LOSS = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")
_REMOVAL = ("PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence")
# What says nothing, or something wrong, without the other.
_TOGETHER: dict[str, tuple[str, ...]] = {
    "WindowCenter": _WINDOW, "WindowWidth": _WINDOW, "LossyImageCompression": _LOSS, "LossyImageCompressionRatio": _LOSS[1:],
    "LossyImageCompressionMethod": _LOSS[1:], "PatientIdentityRemoved": _REMOVAL,
}  # fmt: skip


@dataclass(frozen=True)
class Illegal:
    """Keywords of attributes that had no legal value: those of the data set itself, and those within its sequences."""

    above: frozenset[str] = frozenset()
    within: frozenset[str] = frozenset()


def mended(ds: Dataset) -> Illegal:
    """Make a source data set legal in place, and say what was not.

    Only attributes that an output may carry are looked at. Raises BadInstanceError where one that decides what the image is
    or where it lies is not legal: `missing-uid`, `unreadable-instance`.
    """
    above: set[str] = set()
    within: set[str] = set()
    for element in [element for element in ds if element.keyword in _LOOKED_AT]:
        _mend(ds, element, above, within)
    for keyword in above:
        _remedy(ds, keyword)
    return Illegal(frozenset(above), frozenset(within))


def mended_alike(datasets: Sequence[Dataset], found: Iterable[Illegal]) -> tuple[str, ...]:
    """Do to every instance of a series what `mended` did to some, so that they agree; warnings that name the attributes.

    `found`: what `mended` gave for each of the instances. Values are not quoted: they may name a person.
    """
    every = list(found)
    above = sorted({keyword for illegal in every for keyword in illegal.above})
    for keyword in above:
        for ds in datasets if keyword not in _LOSS else ():  # which slices lost something is told by each
            if keyword in ds:
                _remedy(ds, keyword)
    replaced = [keyword for keyword in above if _replacements(datasets[0]).get(keyword) is not None]
    within = {keyword for illegal in every for keyword in illegal.within}
    left = [*(keyword for keyword in above if keyword not in replaced), *sorted(within.difference(above))]
    said = {"Left out": left, "Replaced": replaced}
    return tuple(f"{what}, since DICOM does not allow the value: {_names(names)}." for what, names in said.items() if names)


def _names(keywords: Iterable[str]) -> str:
    return ", ".join(dictionary_description(tag_for_keyword(keyword) or 0) for keyword in keywords)


def _mend(ds: Dataset, element: DataElement, illegal: set[str], within: set[str]) -> None:
    """Make one element of `ds` legal, or take it out."""
    tag, keyword = element.tag, element.keyword
    if not keyword or tag.is_private:
        return  # nothing that is written has it
    try:
        legal = _legal_element(element, within)
    except IllegalValueError:
        if keyword in _DECISIVE:
            _refuse(keyword)
        illegal.add(keyword)
        del ds[tag]
    else:
        if legal is not element:
            ds[tag] = legal


def _legal_element(element: DataElement, within: set[str]) -> DataElement:
    """The element itself, or one with its value said legally. Raises IllegalValueError."""
    keyword, vrs = element.keyword, dictionary_VR(element.tag).split(" or ")
    vr = element.VR if element.VR in vrs else vrs[0]
    if (vr == "SQ") != (element.VR == "SQ"):
        raise IllegalValueError
    if vr == "SQ":
        for item in element.value:
            for nested in list(item):
                _mend(item, nested, within, within)
        return element
    value = legal_value(vr, dictionary_VM(element.tag), element.value)
    given = [each for each in (value if isinstance(value, MultiValue | list) else [value]) if each not in (None, "")]
    if keyword in _CHOICES and not _CHOICES[keyword].issuperset(map(str, given)):
        raise IllegalValueError
    if keyword in _POSITIVE and any(float(each) <= 0.0 for each in given):
        raise IllegalValueError
    if keyword == "SpecificCharacterSet" and any(str(each) not in python_encoding for each in given):
        raise IllegalValueError
    return element if value is element.value and vr == element.VR else DataElement(element.tag, vr, value)


def _refuse(keyword: str) -> None:
    name = dictionary_description(tag_for_keyword(keyword) or 0)
    raise BadInstanceError("missing-uid" if keyword in _UIDS else "unreadable-instance", f"its {name} is not a legal value")


def _remedy(ds: Dataset, keyword: str) -> None:
    for each in _TOGETHER.get(keyword, (keyword,)):
        ds.pop(each, None)
    replacements = _replacements(ds)
    if keyword in replacements:
        setattr(ds, keyword, replacements[keyword])


def _replacements(ds: Dataset) -> dict[str, str | None]:
    return _REPLACED | (_REPLACED_ENHANCED if "PerFrameFunctionalGroupsSequence" in ds else {})
