"""What the reader's process does with an upload. Imported by that process alone, so the gateway stays without pydicom."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from spinepaint.imaging.caps import Caps
from spinepaint.imaging.check_report import CheckReport
from spinepaint.imaging.dicom_index import IndexedInstance, index_instance
from spinepaint.imaging.errors import InstanceReason, Refusal
from spinepaint.imaging.read_header import BadInstanceError, Header, read_header
from spinepaint.imaging.reading import SourceSeries, check, read_series
from spinepaint.imaging.unpacking import DiskFile, SourceFile, unpacked

# Failure Reason (0008,1197) of instances that are not stored (PS3.18 I.2.2).
SOP_CLASS_NOT_SUPPORTED = 0x0122
DOES_NOT_MATCH = 0xA900  # the data set is not what its SOP class, or the request, says
ANOTHER_STUDY = 0xA901
CANNOT_UNDERSTAND = 0xC000

SHORT_TEXT = 64  # characters of a Long String, in which a client is told the reason

Found = dict[str, Any]
"""A series that was read: plain values, which cross to the gateway as JSON."""


def check_source(source: Path, series_uid: str | None, caps: Caps, *, allow_synthetic: bool = False) -> dict[str, Any]:
    """The report of `spinepaint check`."""
    return check(source, series_uid=series_uid, caps=caps, allow_synthetic=allow_synthetic).as_dict()


def read_source(source: Path, series_uid: str | None, caps: Caps, spill: Path | None, *, allow_synthetic: bool = False) -> Found:
    """A series that is accepted, with its files; what lies in a zip is copied to `spill`.

    Raises Refusal, with a reason for each file where none of them is of a series.
    """
    try:
        series = read_series(source, series_uid=series_uid, caps=caps, allow_synthetic=allow_synthetic)
    except Refusal as refusal:
        if refusal.instances:
            raise
        report = check(source, series_uid=series_uid, caps=caps, allow_synthetic=allow_synthetic)
        if report.series:
            raise
        raise replace(refusal, instances=[InstanceReason(file.file, file.reason) for file in report.files]) from None
    return _kept(source, series, caps, spill)


def store_instances(folder: Path, study_uid: str | None, caps: Caps, *, allow_synthetic: bool = False) -> dict[str, Any]:
    """Read every series of a store request: those that are accepted, and each instance that is not with a Failure Reason.

    Nothing is taken where one instance cannot be read, since it may be a slice of any of the series.
    """
    headers: dict[str, Header | None] = {}
    failures: list[dict[str, Any]] = []
    for path in sorted(folder.iterdir()):
        header = headers[path.name] = _header(path, caps)
        if header is not None and study_uid is not None and header.study_uid != study_uid:
            failures.append(_failure(path.name, header, ANOTHER_STUDY, "it is not of the study of the request"))
            path.unlink()
    if not any(folder.iterdir()):
        return {"series": [], "failures": failures}
    accepted, reasons = _accepted_series(folder, headers, caps, allow_synthetic)
    taken = {file["indexed"]["sop_instance_uid"] for series in accepted for file in series["files"]}
    for path in sorted(folder.iterdir()):
        header = headers[path.name]
        if header is None or header.sop_instance_uid not in taken:  # a second copy of what is taken has not failed
            failures.append(_failure(path.name, header, _code(header), reasons.get(path.name, "it cannot be used")))
    return {"series": accepted, "failures": failures}


def _accepted_series(
    folder: Path, headers: Mapping[str, Header | None], caps: Caps, allow_synthetic: bool
) -> tuple[list[Found], dict[str, str]]:
    """The series of a folder that are accepted and can be addressed, and why each of its files is not taken if it is not."""
    found: list[Found] = []
    try:
        series = read_series(folder, caps=caps, allow_synthetic=allow_synthetic)
        found.append(_kept(folder, series, caps, None))
        reasons = _reasons(series.report, headers)
    except Refusal as refusal:
        report = check(folder, caps=caps, allow_synthetic=allow_synthetic)
        reasons = _reasons(report, headers)
        several = [v.series_uid for v in report.series if v.verdict == "accepted" and refusal.type == "several-series"]
        for series_uid in several:
            try:
                found.append(read_source(folder, series_uid, caps, None, allow_synthetic=allow_synthetic))
            except Refusal as own:
                named = {instance.file: instance.reason for instance in own.instances}
                in_it = [name for name, header in headers.items() if header and header.series_uid == series_uid]
                reasons |= {name: _in_words(named.get(name), str(own)) for name in in_it}
    return [kept for kept in found if all(file["indexed"] for file in kept["files"])], reasons


def _reasons(report: CheckReport, headers: Mapping[str, Header | None]) -> dict[str, str]:
    """Why each file is not taken; of a series that is refused with what is the matter with the whole of it."""
    refused = {series.series_uid: series.reason for series in report.series if series.verdict == "refused"}
    reasons = {}
    for file in report.files:
        header = headers.get(file.file)
        whole = refused.get(header.series_uid) if header is not None else None
        blamed = file.verdict == "refused" and whole is not None and whole not in file.reason
        reasons[file.file] = _in_words(file.reason, whole) if blamed and whole else file.reason
    return reasons


def _in_words(own: str | None, whole: str) -> str:
    """What is the matter with a series, what with this instance of it, and then the rest.

    Where both do not fit into a short text, which shows the beginning only, the instance goes first.
    """
    if own is None:
        return f"its series: {whole}"
    title, stop, detail = whole.partition(". ")
    title = title.rstrip(".")
    both = f"{title}: {own}." if len(title) + len(own) + 3 <= SHORT_TEXT else f"{own}; its series: {title}."
    return f"{both}{stop and ' ' + detail}"


def _kept(source: Path, series: SourceSeries, caps: Caps, spill: Path | None) -> Found:
    files = _kept_files(source, series, caps, spill)
    if files is None:  # without UIDs DICOMweb cannot address it, but it can be painted into all the same
        names = [verdict.file for verdict in series.report.files if verdict.verdict == "accepted"]
        files = [{"name": name, "indexed": None} for name in ([source.name] if source.is_file() else names)]
    return _described(series) | {"files": files}


def _described(series: SourceSeries) -> dict[str, Any]:
    volume = series.volume
    return {
        "sha256": series.sha256,
        "warnings": list(series.warnings),
        "geometry": {
            "series_uid": series.series_uid,
            "instances": len(volume.datasets),
            "shape": list(volume.voxels.shape),
            "spacing_mm": list(volume.spacing),
            "affine": volume.affine.tolist(),
        },
    }


def _kept_files(source: Path, series: SourceSeries, caps: Caps, spill: Path | None) -> list[dict[str, Any]] | None:
    """The files of an accepted series, each once, with their index; None where one has no valid UIDs."""
    wanted = {str(ds.SOPInstanceUID) for ds in series.volume.datasets}
    found: list[dict[str, Any]] = []
    with unpacked(source, caps) as listing:
        for file in listing.files:
            indexed = _index(file)
            if indexed is None or indexed.series_uid != series.series_uid or indexed.sop_instance_uid not in wanted:
                continue
            wanted.discard(indexed.sop_instance_uid)
            name = file.name if isinstance(file, DiskFile) else _spilt(file, spill, len(found) + 1)
            found.append({"name": name, "indexed": indexed.as_dict()})
    return None if wanted else found


def _index(file: SourceFile) -> IndexedInstance | None:
    with file.open() as stream:
        return index_instance(stream)


def _spilt(file: SourceFile, spill: Path | None, number: int) -> str:
    if spill is None:
        raise ValueError("a zip needs a folder for its files")
    target = spill / f"{number:06d}"
    with file.open() as stream, target.open("wb") as copy:  # one that was ended may have begun it
        shutil.copyfileobj(stream, copy)
    return target.name


def _header(path: Path, caps: Caps) -> Header | None:
    try:
        return read_header(DiskFile(path, path.name), caps)
    except BadInstanceError:
        return None


def _code(header: Header | None) -> int:
    if header is None or header.sop_instance_uid is None:
        return CANNOT_UNDERSTAND
    return DOES_NOT_MATCH if header.modality in ("MR", "") else SOP_CLASS_NOT_SUPPORTED


def _failure(name: str, header: Header | None, code: int, reason: str) -> dict[str, Any]:
    return {
        "file": name,
        "sop_class_uid": header.sop_class_uid if header else None,
        "sop_instance_uid": header.sop_instance_uid if header else None,
        "code": code,
        "reason": reason,
    }
