"""Judges one series: is it a sagittal T2 series, and is it sound?"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.uid import UID

from spinepaint.imaging.caps import DEFAULT_CAPS, Caps
from spinepaint.imaging.check_geometry import Stack, common_orientation, frames_of, plane_name, stack_frames
from spinepaint.imaging.check_pixels import LOSSY, check_pixels, is_mr_image
from spinepaint.imaging.check_report import SeriesVerdict, Verdict
from spinepaint.imaging.check_weighting import is_t1, says_localizer, t2_evidence
from spinepaint.imaging.errors import InstanceReason, Refusal
from spinepaint.imaging.read_header import BadInstanceError, Header
from spinepaint.imaging.read_names import shown_text
from spinepaint.imaging.read_planes import Weighting

TITLES: dict[str, str] = {
    "already-synthetic": "The series is already synthetic.",
    "bad-zip": "The zip cannot be read.",
    "bad-rescale": "A rescale cannot be inverted.",
    "colour": "An instance is a colour image.",
    "deflated": "An instance is deflated.",
    "duplicate-instance": "Two different files carry the same SOP Instance UID.",
    "inverted-greyscale": "An instance has an inverted greyscale.",
    "missing-uid": "An instance lacks a valid UID.",
    "modality-lut": "An instance has a modality look-up table.",
    "nested-too-deep": "An instance has sequences nested too deeply.",
    "no-pixels": "An instance has no image pixels.",
    "over-cap-header-bytes": "A header is over the cap header_bytes.",
    "over-cap-header-elements": "A header is over the cap header_elements.",
    "pixel-length": "Rows and columns do not match the pixels.",
    "truncated-pixels": "The pixels of an instance are cut short.",
    "unreadable-instance": "An instance cannot be read.",
    "unreadable-pixels": "The pixels of an instance cannot be decoded.",
    "unsupported-pixels": "The pixels of an instance are of a kind that is not read.",
    "unsupported-transfer-syntax": "A transfer syntax is not read.",
}
_UNIFORM: dict[str, tuple[str, str]] = {
    "study_uid": ("mixed-study", "The series runs over several studies."),
    "patient_digest": ("mixed-patient", "The series holds instances of several patients."),
    "frame_of_reference_uid": ("mixed-frame-of-reference", "The series has several frames of reference."),
    "bits_allocated": ("mixed-pixels", "The slices of the series differ in how pixels are stored."),
    "pixel_representation": ("mixed-pixels", "The slices of the series differ in how pixels are stored."),
}


@dataclass(frozen=True)
class Judgement:
    """The verdict over one series; `stack` where it is accepted, `refusal` where it is not."""

    headers: tuple[Header, ...]
    verdict: SeriesVerdict
    stack: Stack | None = None
    refusal: Refusal | None = None
    warnings: tuple[str, ...] = ()


def refusal_of(problems: Sequence[tuple[Header, BadInstanceError]], detail: str = "") -> Refusal:
    """One Refusal that names every bad instance, of the type of the first."""
    first = problems[0][1].type
    named = [InstanceReason(header.file.name, problem.reason, header.sop_instance_uid) for header, problem in problems]
    return Refusal(first, TITLES[first], detail or "Leave it out, or export the series again.", named)


def judge_series(
    headers: Sequence[Header],
    *,
    asked: bool = False,
    allow_synthetic: bool = False,
    allow_t1: bool = False,
    caps: Caps = DEFAULT_CAPS,
) -> Judgement:
    """Judge all instances that share a Series Instance UID.

    A series that is not sagittal T2 is ignored with a reason, one that is but is broken is refused. `asked` says that the caller
    named this series: then a weighting that cannot be told from the header passes with a warning. `allow_t1` takes a T1-weighted
    series as one that is T2-weighted.
    """
    images = tuple(header for header in headers if is_mr_image(header))
    t1 = allow_t1 and bool(images) and is_t1(main_weighting(images))
    reason = _why_not_wanted(headers, images, asked, t1)
    if reason:
        refusal = Refusal("not-sagittal-t2", "The series that was named is not a sagittal T2 series.", f"It is {reason}.")
        return Judgement(tuple(headers), _verdict(headers, "ignored", reason), refusal=refusal)
    try:
        stack = _sound_stack(images, allow_synthetic, caps, t1)
    except Refusal as refusal:
        return Judgement(tuple(headers), _verdict(headers, "refused", str(refusal)), refusal=refusal)
    weighting = "T1 by its times" if t1 else t2_evidence(main_weighting(images)).reason
    accepted = _verdict(headers, "accepted", f"sagittal, {weighting}")
    return Judgement(tuple(headers), accepted, stack, warnings=_warnings(images, stack, t1))


def not_an_image(header: Header) -> str:
    """Why an instance is passed over that is no MR image of a kind that is read."""
    kind = UID(header.sop_class_uid).name if header.sop_class_uid else header.modality or "an unknown object"
    return f"{shown_text(kind)}, not an MR image that is read"


def main_weighting(images: Sequence[Header]) -> Weighting:
    """The weighting that most instances have; of equally common ones that of the longest echo time."""
    counted = Counter(header.weighting for header in images)
    return max(counted, key=lambda weighting: (counted[weighting], weighting.echo_time_ms or 0.0))


def _verdict(headers: Sequence[Header], verdict: Verdict, reason: str) -> SeriesVerdict:
    return SeriesVerdict(headers[0].series_uid, headers[0].description, len(headers), verdict, reason)


def _why_not_wanted(headers: Sequence[Header], images: Sequence[Header], asked: bool, t1: bool) -> str | None:
    """Why the series is none of ours; None where it is a sagittal T2 series (or a T1 one that is wanted), sound or not."""
    if not images:
        return not_an_image(headers[0])
    weighting = main_weighting(images)
    if any("LOCALIZER" in header.image_type for header in images[:1]) or says_localizer(weighting.names):
        return "a localizer"
    if any("PROJECTION IMAGE" in header.image_type for header in images[:1]):
        return "a projection, not slices"
    if {"FAT", "F"} & set(images[0].image_type):
        return "the fat image of a Dixon series"
    if t1:
        return _why_not_sagittal(images)
    evidence = t2_evidence(weighting)
    reasons = [_why_not_sagittal(images), evidence.reason if evidence.level == "no" else None]
    if any(reasons):
        return "; ".join(reason for reason in reasons if reason)
    if evidence.level == "unknown" and not asked:
        return f"not known to be T2: {evidence.reason}; name its series UID to take it all the same"
    return None


def _why_not_sagittal(images: Sequence[Header]) -> str | None:
    frames = frames_of(images)
    orientation = common_orientation(frames)
    if orientation is None:
        return None
    if plane_name(orientation) != "sagittal":
        return f"{plane_name(orientation)}, not sagittal"
    alike = [f for f in frames if f.plane.orientation and plane_name(f.plane.orientation) == "sagittal"]
    return "a localizer: its slices lie in several planes" if 2 * len(alike) <= len(frames) else None


def _sound_stack(images: Sequence[Header], allow_synthetic: bool, caps: Caps, t1: bool) -> Stack:
    """Check every instance, then the instances against each other, then the geometry. Raises Refusal."""
    problems: list[tuple[Header, BadInstanceError]] = []
    for header in images:
        try:
            check_pixels(header)
            if header.sop_instance_uid is None or header.study_uid is None:
                raise BadInstanceError("missing-uid", "its study or SOP Instance UID is missing or not valid")
        except BadInstanceError as problem:
            problems.append((header, problem))
    if problems:
        raise refusal_of(problems)
    synthetic = [(h, BadInstanceError("already-synthetic", "it says that it is synthetic")) for h in images if h.synthetic]
    if synthetic and not allow_synthetic:
        raise refusal_of(
            synthetic, "Synthetic series are taken only where allow_synthetic (--allow-synthetic of a command) is asked for."
        )
    caps.enforce("pixels_per_series", sum((h.rows or 0) * (h.columns or 0) * h.frames for h in images))
    if len(images) > 1 and any(header.enhanced for header in images):
        named = [InstanceReason(h.file.name, "one of several instances", h.sop_instance_uid) for h in images]
        raise Refusal("several-multiframe", "The series has several multi-frame instances.", "Send one of them alone.", named)
    for attribute, (slug, title) in _UNIFORM.items():
        _refuse_mixed(images, attribute, slug, title)
    stack = stack_frames(images)
    other = [h for h in images if t2_evidence(h.weighting).level == "no"]
    if t1:
        odd = [InstanceReason(h.file.name, "not T1", h.sop_instance_uid) for h in images if not is_t1(h.weighting)]
        if odd:
            raise Refusal("mixed-weighting", "Some slices of the series are not T1-weighted.", "Send the T1 slices alone.", odd)
    elif other:
        named = [InstanceReason(h.file.name, t2_evidence(h.weighting).reason, h.sop_instance_uid) for h in other]
        raise Refusal("mixed-weighting", "Some slices of the series are not T2-weighted.", "Send the T2 slices alone.", named)
    return stack


def _refuse_mixed(images: Sequence[Header], attribute: str, slug: str, title: str) -> None:
    values = [getattr(header, attribute) for header in images]
    usual = max(set(values), key=values.count)
    odd = [header for header, value in zip(images, values, strict=True) if value != usual]
    if odd:
        named = [InstanceReason(header.file.name, "differs from the others", header.sop_instance_uid) for header in odd]
        raise Refusal(slug, title, "Instances of one series have it in common; send one series.", named)


def _warnings(images: Sequence[Header], stack: Stack, t1: bool) -> tuple[str, ...]:
    """What a careful reader would want to know about a series that is taken."""
    first = images[0]
    weighting = main_weighting(images)
    evidence = t2_evidence(weighting)
    thickness = stack.frames[0].plane.thickness_mm
    spacing = float(sum(stack.affine[:3, 0] ** 2) ** 0.5)
    notes = {
        f"The weighting is not certain: {evidence.reason}.": evidence.level != "certain" and not t1,
        "The SOP Class is missing; the series was taken for MR images.": first.sop_class_uid is None,
        "The Modality is missing; the series was taken for MR images.": not first.modality,
        "The series is fat-suppressed; the networks learnt from series that are not.": weighting.fat_suppressed
        or "WATER" in first.image_type,
        f"Slices of {thickness} mm lie {spacing:.2f} mm apart: they overlap, as interpolated ones do.": (
            thickness is not None and spacing < 0.75 * thickness
        ),
        "The pixels were compressed with loss before they came here.": any(
            header.lossy or header.transfer_syntax in LOSSY for header in images
        ),
        "The series is a reformat of another one.": "MPR" in first.image_type,
        "The series is already synthetic.": any(header.synthetic for header in images),
    }
    return tuple(note for note, holds in notes.items() if holds)
