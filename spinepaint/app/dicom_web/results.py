"""What a search returns, as DICOM JSON (PS3.18 10.6.3.3)."""

from collections.abc import Mapping
from typing import Any

from spinepaint.app.dicom_web.query import Query
from spinepaint.store.dicom_book import FoundStudy, Located
from spinepaint.store.dicom_keys import BY_NAME
from spinepaint.store.dicom_models import DicomSeries

Json = dict[str, Any]
_STUDY = ["00080020", "00080030", "00080050", "00080090", "00080201", "00100010", "00100020", "00100030", "00100040", "00200010"]
_STUDY_MORE = ["00081030", "00081032", "00081048", "00081060", "00081080", "00101010", "00101020", "00101030"]
_SERIES = ["00080060", "0008103E", "00080201", "00200011", "00400244", "00400245", "00400275"]
# General Series (PS3.3 C.7.3.1) with Clinical Trial Series, General Equipment (C.7.5.1), Frame of Reference (C.7.4.1).
_SERIES_MORE = frozenset([
    "00080021", "00080031", "0008103F", "00081050", "00081052", "00081070", "00081072", "00081111", "00081250",
    "00120060", "00120071", "00120072", "00120073", "00180015", "00181030", "00185100", "00102210", "00200060",
    "00280108", "00280109", "00400250", "00400251", "00400253", "00400254", "00400260", "00400280", "00080070",
    "00080080", "00080081", "00080082", "00081010", "00081040", "00081041", "00081090", "00181000", "00181002",
    "00181008", "0018100A", "0018100B", "00181020", "00181050", "00181200", "00181201", "00181204", "00280120",
    "00200052", "00201040",
])  # fmt: skip
_INSTANCE = ["00200013", "00280008", "00280010", "00280011", "00280100"]


def attribute(vr: str, *values: Any) -> Json:
    """One attribute in DICOM JSON."""
    return {"vr": vr, "Value": list(values)} if values else {"vr": vr}


def study_result(study: FoundStudy, query: Query, root: str) -> Json:
    """A study: its attributes, what it holds and where it is retrieved."""
    known = {tag: value for tag, value in study.attributes.items() if tag in _STUDY or _of_patient_or_study(tag)}
    found = _chosen(known, _STUDY, query)
    found["0020000D"] = attribute("UI", study.study_uid)
    found["00080061"] = attribute("CS", *study.modalities)
    found["00201206"] = attribute("IS", study.series)
    found["00201208"] = attribute("IS", study.instances)
    return _available(found, f"{root}/studies/{study.study_uid}")


def series_result(series: DicomSeries, query: Query, root: str, *, with_study: bool) -> Json:
    """A series; with what is known of its study, where the search was not within one."""
    # What all instances of a series have in common is no attribute of the series for that.
    known = {tag: value for tag, value in series.attributes.items() if of_series(tag) or tag in query.include}
    found = _chosen(known, [*_SERIES, *(_STUDY if with_study else ())], query)
    found["0020000D"] = attribute("UI", series.study_uid)
    found["0020000E"] = attribute("UI", series.series_uid)
    found["00201209"] = attribute("IS", series.instances)
    return _available(found, f"{root}/studies/{series.study_uid}/series/{series.series_uid}")


def instance_result(at: Located, query: Query, root: str, *, with_study: bool, with_series: bool) -> Json:
    """An instance; with what is known of its study and series, where the search was not within them."""
    more = [*(_STUDY if with_study else ()), *(_SERIES if with_series else ())]
    found = _chosen(at.instance.attributes, [*_INSTANCE, *more], query)
    found["00080016"] = attribute("UI", *([at.instance.sop_class_uid] if at.instance.sop_class_uid else []))
    found["00080018"] = attribute("UI", at.instance.sop_instance_uid)
    found["0020000D"] = attribute("UI", at.study_uid)
    found["0020000E"] = attribute("UI", at.series_uid)
    found["00083002"] = attribute("UI", at.instance.transfer_syntax_uid)
    return _available(found, instance_url(at, root))


def instance_url(at: Located, root: str) -> str:
    """Where an instance is."""
    return f"{root}/studies/{at.study_uid}/series/{at.series_uid}/instances/{at.instance.sop_instance_uid}"


def of_series(tag: str) -> bool:
    """Whether an attribute belongs to the series, its study or its patient, and not to single instances (PS3.3 A.1.4)."""
    return tag in _STUDY or _of_patient_or_study(tag) or tag in _SERIES or tag in _SERIES_MORE


def _of_patient_or_study(tag: str) -> bool:
    return tag.startswith("0010") or tag in _STUDY_MORE


def _chosen(known: Mapping[str, Json], always: list[str], query: Query) -> Json:
    """Those that are always returned, empty where they are not known, and those that were asked for."""
    if query.include_all:
        return dict(known)
    found = {}
    for tag in {*always, *query.include}:
        if tag in known:
            found[tag] = known[tag]
        elif tag in BY_NAME:
            found[tag] = attribute(BY_NAME[tag].vr)
    return found


def _available(found: Json, url: str) -> Json:
    found["00080005"] = attribute("CS", "ISO_IR 192")
    found["00080056"] = attribute("CS", "ONLINE")
    found["00081190"] = attribute("UR", url)
    return dict(sorted(found.items()))
