"""Where each frame lies in the patient and how it was weighted, from classic and from Enhanced MR headers."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom import Dataset

from spinepaint.imaging.read_values import first_item, integer, items, number, numbers, text, texts


@dataclass(frozen=True)
class Plane:
    """One frame: its place (PS3.3 C.7.6.2), the rescale of its stored values, and what tells repeats of a place apart."""

    frame: int
    orientation: tuple[float, ...] | None
    position_mm: tuple[float, ...] | None
    spacing_mm: tuple[float, ...] | None
    slope: float | None
    intercept: float | None
    echo: tuple[float | None, ...]
    time: tuple[float | str | None, ...]
    thickness_mm: float | None


@dataclass(frozen=True)
class Weighting:
    """What tells T2 from other contrasts. Times in ms, None where absent; the texts are in capitals."""

    echo_time_ms: float | None = None
    repetition_time_ms: float | None = None
    inversion: bool = False
    inversion_time_ms: float | None = None
    gradient_echo: bool = False
    echo_planar: bool = False
    fat_suppressed: bool = False
    names: tuple[str, ...] = ()


def classic_plane(ds: Dataset) -> Plane:
    """The plane of a single-frame instance."""
    return Plane(
        frame=0,
        orientation=numbers(ds, "ImageOrientationPatient", 6),
        position_mm=numbers(ds, "ImagePositionPatient", 3),
        spacing_mm=numbers(ds, "PixelSpacing", 2),
        slope=_default(ds, "RescaleSlope", 1.0),
        intercept=_default(ds, "RescaleIntercept", 0.0),
        echo=(number(ds, "EchoTime"), number(ds, "EchoNumbers")),
        time=(number(ds, "TemporalPositionIdentifier"), number(ds, "TriggerTime"), number(ds, "AcquisitionNumber")),
        thickness_mm=number(ds, "SliceThickness"),
    )


def classic_weighting(ds: Dataset) -> Weighting:
    """MR Image module (PS3.3 C.8.3.1)."""
    sequence = set(texts(ds, "ScanningSequence"))
    return Weighting(
        echo_time_ms=number(ds, "EchoTime"),
        repetition_time_ms=number(ds, "RepetitionTime"),
        inversion="IR" in sequence or (number(ds, "InversionTime") or 0.0) > 0.0,
        inversion_time_ms=number(ds, "InversionTime"),
        gradient_echo="GR" in sequence and "SE" not in sequence,
        echo_planar="EP" in sequence,
        fat_suppressed="FS" in texts(ds, "ScanOptions"),
        names=_names(ds),
    )


def enhanced_planes(ds: Dataset) -> tuple[Plane, ...]:
    """The planes of an Enhanced MR image in the order of its frames, from its functional groups (PS3.3 C.7.6.16).

    The dimension index is not read: some makers fill it unreliably, and positions say the same.
    """
    shared = items(ds, "SharedFunctionalGroupsSequence")[:1]
    return tuple(
        _enhanced_plane(frame, (group, *shared)) for frame, group in enumerate(items(ds, "PerFrameFunctionalGroupsSequence"))
    )


def enhanced_weighting(ds: Dataset) -> Weighting:
    """Timing, Modifier and Pulse Sequence of the first frame and the longest echo time of all (PS3.3 C.8.13)."""
    shared = items(ds, "SharedFunctionalGroupsSequence")[:1]
    groups = (*items(ds, "PerFrameFunctionalGroupsSequence")[:1], *shared)
    timing = first_item(groups, "MRTimingAndRelatedParametersSequence")
    modifier = first_item(groups, "MRModifierSequence")
    frames = items(ds, "PerFrameFunctionalGroupsSequence")
    echo_times = [number(first_item((frame, *shared), "MREchoSequence"), "EffectiveEchoTime") for frame in frames]
    return Weighting(
        echo_time_ms=max((time for time in echo_times if time is not None), default=None),
        repetition_time_ms=number(timing, "RepetitionTime"),
        inversion=text(modifier, "InversionRecovery").upper() == "YES",
        inversion_time_ms=number(modifier, "InversionTimes"),
        gradient_echo=text(ds, "EchoPulseSequence").upper() == "GRADIENT",
        echo_planar=text(ds, "EchoPlanarPulseSequence").upper() == "YES",
        fat_suppressed="FAT" in text(ds, "SpectrallySelectedSuppression").upper(),
        names=_names(ds),
    )


def _enhanced_plane(frame: int, groups: Sequence[Dataset]) -> Plane:
    content = first_item(groups, "FrameContentSequence")
    rescale = first_item(groups, "PixelValueTransformationSequence")
    measures = first_item(groups, "PixelMeasuresSequence")
    return Plane(
        frame=frame,
        orientation=numbers(first_item(groups, "PlaneOrientationSequence"), "ImageOrientationPatient", 6),
        position_mm=numbers(first_item(groups, "PlanePositionSequence"), "ImagePositionPatient", 3),
        spacing_mm=numbers(measures, "PixelSpacing", 2),
        slope=_default(rescale, "RescaleSlope", 1.0),
        intercept=_default(rescale, "RescaleIntercept", 0.0),
        echo=(number(first_item(groups, "MREchoSequence"), "EffectiveEchoTime"),),
        time=(integer(content, "TemporalPositionIndex"), text(content, "FrameAcquisitionDateTime")),
        thickness_mm=number(measures, "SliceThickness"),
    )


def _names(ds: Dataset) -> tuple[str, ...]:
    """Descriptions that may say what the contrast is, in capitals."""
    keywords = ("SeriesDescription", "ProtocolName", "SequenceName", "PulseSequenceName")
    return tuple(name for name in (text(ds, keyword).upper() for keyword in keywords) if name)


def _default(ds: Dataset, keyword: str, value: float) -> float | None:
    """The number, `value` where the element is absent, None where it is there but is no number."""
    return number(ds, keyword) if keyword in ds else value
