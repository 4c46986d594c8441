"""Reads the headers of everything in a source, judges each series and chooses one."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from pydicom.uid import UID, MediaStorageDirectoryStorage

from spinepaint.imaging.caps import Caps
from spinepaint.imaging.check_pixels import MR_IMAGES, is_mr_image
from spinepaint.imaging.check_report import CheckReport, FileVerdict, SeriesVerdict
from spinepaint.imaging.checks import TITLES, Judgement, judge_series, not_an_image
from spinepaint.imaging.errors import InstanceReason, Refusal
from spinepaint.imaging.read_header import BadInstanceError, Header, has_prefix, looks_like_bare_dicom, read_header, sop_class_of
from spinepaint.imaging.read_zip import BAD_ZIP
from spinepaint.imaging.unpacking import Listing, SourceFile

_CHUNK = 2**20


@dataclass
class Survey:
    """Everything that was found: files passed over, files that could not be read, the verdict over each series, the choice.

    `broken` files are in no series and refuse the source; `contradicted` ones are in a series, and others claim to be them.
    """

    ignored: list[InstanceReason]
    unopened: list[InstanceReason]
    broken: list[tuple[str, InstanceReason]] = field(default_factory=list)
    contradicted: list[InstanceReason] = field(default_factory=list)
    judgements: list[Judgement] = field(default_factory=list)
    chosen: Judgement | None = None
    refusal: Refusal | None = None


def survey(
    listing: Listing, caps: Caps, *, series_uid: str | None = None, allow_synthetic: bool = False, allow_t1: bool = False
) -> Survey:
    """Judge every series of a listing and choose the sagittal T2 (or T1) one, or the one that `series_uid` names.

    A file that starts as DICOM but cannot be read refuses the whole source: it may be a slice of the series.
    """
    found = Survey(list(listing.ignored), list(listing.unopened), [(BAD_ZIP, entry) for entry in listing.damaged])
    headers = _read_headers(listing, caps, found)
    groups: dict[str, list[Header]] = {}
    for header in _without_copies(headers, found):
        groups.setdefault(header.series_uid or "", []).append(header)
    found.judgements = [
        judge_series(group, asked=uid == series_uid, allow_synthetic=allow_synthetic, allow_t1=allow_t1, caps=caps)
        for uid, group in groups.items()
    ]
    try:
        if found.broken:
            raise _refuse_broken(found)
        found.chosen = _choose(found.judgements, series_uid)
    except Refusal as refusal:
        found.refusal = refusal
    return found


def report_of(found: Survey, refusal: Refusal | None = None) -> CheckReport:
    """The report over a survey; `refusal` where the chosen series turned out to be unreadable after all."""
    final = refusal or found.refusal
    chosen = found.chosen if final is None else None
    series = [_final_verdict(judgement, found, refusal) for judgement in found.judgements]
    files = [FileVerdict(entry.file, "ignored", entry.reason) for entry in [*found.ignored, *found.unopened]]
    files += [FileVerdict(entry.file, "refused", entry.reason) for _, entry in found.broken]
    for judgement, verdict in zip(found.judgements, series, strict=True):
        blame = refusal if judgement is found.chosen else judgement.refusal
        files += _file_verdicts(judgement, verdict, chosen, blame or final)
    warnings = list(chosen.warnings) if chosen else []
    if chosen:
        warnings += [f"Another sagittal T2 series was refused: {v.reason}" for v in series if v.verdict == "refused"]
        warnings += [f"{entry.file} was not opened ({entry.reason}); a slice in it would be missing." for entry in found.unopened]
    uid = chosen.verdict.series_uid if chosen else None
    return CheckReport(uid, tuple(series), tuple(files), tuple(warnings), final)


def report_without_series(refusal: Refusal, listing: Listing | None = None) -> CheckReport:
    """The report over a source that was refused before its series were told apart; `listing` where it was listed."""
    named = [FileVerdict(entry.file, "refused", entry.reason) for entry in refusal.instances]
    if listing is None:
        return CheckReport(None, (), tuple(named), (), refusal)
    blamed = {entry.file for entry in refusal.instances}
    files = [FileVerdict(entry.file, "ignored", entry.reason) for entry in [*listing.ignored, *listing.unopened]]
    reason = f"not judged: {refusal.title}"
    files += [FileVerdict(file.name, "refused", reason) for file in listing.files if file.name not in blamed]
    return CheckReport(None, (), (*named, *files), (), refusal)


def _read_headers(listing: Listing, caps: Caps, found: Survey) -> list[Header]:
    headers = []
    for file in listing.files:
        try:
            header = _header_or_reason(file, caps)
        except BadInstanceError as problem:
            found.broken.append((problem.type, InstanceReason(file.name, problem.reason)))
        except Refusal as refusal:
            if refusal.type != BAD_ZIP:
                raise
            found.broken += [(BAD_ZIP, entry) for entry in refusal.instances]
        else:
            if isinstance(header, Header):
                headers.append(header)
            else:
                found.ignored.append(InstanceReason(file.name, header))
    return headers


def _header_or_reason(file: SourceFile, caps: Caps) -> Header | str:
    """The header of a file, or why the file can be no slice. Raises BadInstanceError where it may be one but cannot be read."""
    certain = has_prefix(file)
    if not certain and not looks_like_bare_dicom(file):
        return "not DICOM"
    try:
        header = read_header(file, caps)
        if header.sop_class_uid == MediaStorageDirectoryStorage:
            return "a DICOMDIR, which only lists other files"
        if header.series_uid is None:
            raise BadInstanceError("missing-uid", "its Series Instance UID is missing or not valid")
        return header
    except BadInstanceError as problem:
        if not certain:
            return "not DICOM"
        foreign = _foreign_kind(sop_class_of(file))
        if foreign:
            return f"{foreign}, not an MR image that is read; {problem.reason}"
        raise


def _foreign_kind(sop_class: str | None) -> str | None:
    """The name of a SOP Class that no slice can have; None where it is missing, made up, or an MR image's."""
    known = UID(sop_class or "")
    return known.name if sop_class not in MR_IMAGES and known.type == "SOP Class" else None


def _without_copies(headers: Sequence[Header], found: Survey) -> list[Header]:
    """Pass over second copies of the same file; two different files of one SOP Instance UID are both kept as broken."""
    first: dict[str, Header] = {}
    kept = []
    for header in headers:
        earlier = first.setdefault(header.sop_instance_uid or "", header)
        if earlier is header or header.sop_instance_uid is None:
            kept.append(header)
        elif _content_digest(earlier.file) == _content_digest(header.file):
            found.ignored.append(InstanceReason(header.file.name, f"a copy of {earlier.file.name}", header.sop_instance_uid))
        elif foreign := _foreign_kind(header.sop_class_uid):
            found.ignored.append(InstanceReason(header.file.name, f"{foreign}, not an MR image that is read"))
        else:
            found.broken.append(("duplicate-instance", _contradicted(header, earlier)))
            if all(entry.sop_instance_uid != earlier.sop_instance_uid for entry in found.contradicted):
                found.contradicted.append(_contradicted(earlier, header))
    return kept


def _contradicted(header: Header, other: Header) -> InstanceReason:
    reason = f"another file, {other.file.name}, has the same SOP Instance UID and other content"
    return InstanceReason(header.file.name, reason, header.sop_instance_uid)


def _content_digest(file: SourceFile) -> bytes:
    digest = hashlib.sha256()
    with file.open() as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.digest()


def _refuse_broken(found: Survey) -> Refusal:
    kind = found.broken[0][0]
    detail = "It may belong to the series, so nothing is taken. Leave it out, or export it again."
    if kind == "duplicate-instance":
        detail = "Which of them belongs to the series cannot be known, so nothing is taken. Leave one out, or export it again."
    return Refusal(kind, TITLES[kind], detail, [*(named for _, named in found.broken), *found.contradicted])


def _choose(judgements: Sequence[Judgement], series_uid: str | None) -> Judgement:
    """The one series to read.

    Raises Refusal: the series' own, `series-not-found`, `several-series`, `no-dicom`, `no-sagittal-t2`.
    """
    if not judgements:
        raise Refusal("no-dicom", "There is no DICOM file in it.", "Give a folder, a zip or files of one MR study.")
    if series_uid is not None:
        named = [judgement for judgement in judgements if judgement.verdict.series_uid == series_uid]
        if not named:
            raise Refusal("series-not-found", "The series UID that was given is not in it.", _listed(judgements))
        if named[0].refusal is not None:
            raise named[0].refusal
        return named[0]
    sound = [judgement for judgement in judgements if judgement.verdict.verdict == "accepted"]
    if len(sound) > 1:
        detail = f"Name one by its series UID. {_listed(sound)}"
        raise Refusal("several-series", f"There are {len(sound)} sagittal {_wanted(sound)} series in it.", detail)
    if sound:
        return sound[0]
    refused = [judgement.refusal for judgement in judgements if judgement.verdict.verdict == "refused"]
    if refused and refused[0] is not None:
        raise refused[0]
    raise Refusal("no-sagittal-t2", "There is no sagittal T2 series in it.", _listed(judgements))


def _wanted(judgements: Sequence[Judgement]) -> str:
    return "T1 and T2" if any("T1" in (judgement.verdict.reason or "") for judgement in judgements) else "T2"


def _listed(judgements: Sequence[Judgement]) -> str:
    """The series of a source in words, for a person who has to choose."""
    series = [judgement.verdict for judgement in judgements]
    return "It holds " + "; ".join(f"{v.series_uid} ({v.description or 'no description'}): {v.reason}" for v in series) + "."


def _final_verdict(judgement: Judgement, found: Survey, refusal: Refusal | None) -> SeriesVerdict:
    """The verdict over a series once it is known what became of the source: a sound one is refused with what is broken in it."""
    verdict = judgement.verdict
    against = refusal if judgement is found.chosen else None
    if found.broken and verdict.verdict == "accepted":
        against = found.refusal
    if against is not None:
        return SeriesVerdict(verdict.series_uid, verdict.description, verdict.instances, "refused", str(against))
    return verdict


def _file_verdicts(
    judgement: Judgement, verdict: SeriesVerdict, chosen: Judgement | None, refusal: Refusal | None
) -> list[FileVerdict]:
    """The verdict over each file of a series; an instance that a refusal names keeps its own reason."""
    named = {entry.sop_instance_uid: entry.reason for entry in refusal.instances} if refusal else {}
    files = []
    for header in judgement.headers:
        if verdict.verdict != "ignored" and not is_mr_image(header):
            files.append(FileVerdict(header.file.name, "ignored", not_an_image(header)))
        elif judgement is chosen:
            files.append(FileVerdict(header.file.name, "accepted", "a slice of the series"))
        elif verdict.verdict == "accepted":
            files.append(FileVerdict(header.file.name, "ignored", "of a series that was not chosen"))
        else:
            reason = named.get(header.sop_instance_uid, f"its series: {verdict.reason}")
            files.append(FileVerdict(header.file.name, verdict.verdict, reason))
    return files
