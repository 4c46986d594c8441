"""Whether coded entries are ones that a receiver can look up, and come from the context group of their place (PS3.16)."""

import re
from collections.abc import Iterator
from functools import cache

from pydicom import Dataset
from pydicom.sr.codedict import codes

# Context groups by the sequence a code is in and the sequence around that; None is any. CID 7203 is extensible and has no
# code for generated content, so the artificial intelligence of CID 7162 joins it. Baseline groups of templates are left out.
_GROUPS: dict[tuple[str | None, str], tuple[int, ...]] = {
    ("ContributingEquipmentSequence", "PurposeOfReferenceCodeSequence"): (7005,),
    ("SourceImageSequence", "PurposeOfReferenceCodeSequence"): (7202,),
    (None, "DerivationCodeSequence"): (7203, 7162),
    (None, "DeidentificationMethodCodeSequence"): (7050,),
    (None, "SegmentedPropertyCategoryCodeSequence"): (7150,),
    (None, "AlgorithmFamilyCodeSequence"): (7162,),
}
_BESIDES = {("C2348792", "UMLS")}  # Time Point, of TID 1502, which pydicom's dictionary lacks
_IN_DICTIONARY = ("DCM", "SCT", "UCUM", "UMLS")
_BY_OTHERS = ("SRT", "I10", "RFC5646", "LN", "RADLEX", "NCIt", "FMA")
_PRIVATE = "a code is of a private scheme"
_LONGEST_VALUE, _LONGEST_MEANING = 16, 64


def code_findings(dataset: Dataset) -> Iterator[str]:
    """What is wrong with the coded entries of a data set, at any depth.

    An image may have codes of its source's maker; the labels are all our own, and have public codes only.
    """
    for where, words in _walk(dataset, None, None):
        if dataset.Modality != "MR" or words != _PRIVATE:
            yield f"{where}: {words}"


def _walk(item: Dataset, around: str | None, inside: str | None) -> Iterator[tuple[str, str]]:
    if inside is not None and (inside.endswith("CodeSequence") or "CodeMeaning" in item):
        yield from ((inside, words) for words in _entry(item, around, inside))
    for element in item:
        if element.VR == "SQ":
            for child in element.value:
                yield from _walk(child, inside, element.keyword)


def _entry(item: Dataset, around: str | None, inside: str) -> Iterator[str]:
    value = str(item.get("CodeValue") or item.get("LongCodeValue") or "")
    scheme, meaning = str(item.get("CodingSchemeDesignator", "")), str(item.get("CodeMeaning", ""))
    if not value or not scheme or not meaning:
        yield f"a code lacks its value, scheme or meaning ({value}, {scheme}, {meaning})"
    if len(str(item.get("CodeValue", ""))) > _LONGEST_VALUE or len(meaning) > _LONGEST_MEANING:
        yield f"the code {value} or its meaning is too long"
    if scheme.startswith("99"):
        yield _PRIVATE
    elif scheme not in (*_IN_DICTIONARY, *_BY_OTHERS):
        yield f"the scheme of ({value}, {scheme}) is unknown"
    elif scheme in _IN_DICTIONARY and not _is_known(value, scheme):
        yield f"({value}, {scheme}) is in no dictionary"
    groups = _GROUPS.get((around, inside)) or _GROUPS.get((None, inside))
    if groups and not any(value in _values(f"cid{cid}") for cid in groups):
        yield f"({value}, {scheme}) is not of CID {' or '.join(map(str, groups))}"


def _is_known(value: str, scheme: str) -> bool:
    if scheme == "UCUM" and re.fullmatch(r"\{[^{}]+\}", value):
        return True  # an annotation, such as {pixels}: a unit without dimension (UCUM 12)
    return value in _values(scheme) or (value, scheme) in _BESIDES


@cache
def _values(collection: str) -> frozenset[str]:
    """The code values of a scheme or context group of pydicom's dictionary, such as "SCT" or "cid7005"."""
    return frozenset(code.value for code in getattr(codes, collection).concepts.values())
