"""Reads and checks a series: from whatever a caller handed over to a Volume, or to a refusal that says why."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from spinepaint.imaging.caps import DEFAULT_CAPS, Caps
from spinepaint.imaging.check_geometry import Stack
from spinepaint.imaging.check_report import CheckReport
from spinepaint.imaging.checks import refusal_of
from spinepaint.imaging.errors import Refusal
from spinepaint.imaging.mending import Illegal, mended_alike
from spinepaint.imaging.read_header import BadInstanceError, Header
from spinepaint.imaging.read_pixels import read_instance
from spinepaint.imaging.read_survey import Survey, report_of, report_without_series, survey
from spinepaint.imaging.unpacking import unpacked
from spinepaint.imaging.volume import Volume


@dataclass(frozen=True)
class SourceSeries:
    """A series that was accepted.

    `sha256` is over the SOP Instance UIDs and the stored values in slice order: it depends neither on the names nor the order
    of the files, nor on a lossless compression.
    """

    volume: Volume
    report: CheckReport
    study_uid: str
    series_uid: str
    sha256: str
    warnings: tuple[str, ...]


def check(
    source: Path | Sequence[Path],
    *,
    series_uid: str | None = None,
    caps: Caps = DEFAULT_CAPS,
    allow_synthetic: bool = False,
) -> CheckReport:
    """Say what `read_series` would accept, ignore or refuse, and why. Bad input is in the report and never raised.

    The arguments are those of `read_series`. The pixels of the chosen series are decoded, since unreadable ones are refused.
    """
    _, report = _attempt(source, series_uid, caps, allow_synthetic)
    return report


def read_series(
    source: Path | Sequence[Path],
    *,
    series_uid: str | None = None,
    caps: Caps = DEFAULT_CAPS,
    allow_synthetic: bool = False,
    allow_t1: bool = False,
) -> SourceSeries:
    """Read the one sagittal T2 series of a source.

    Parameters
    ----------
    source: a folder (mixed and nested content allowed), a zip, a multi-frame file, or a list of files.
    series_uid: which series to read where there are several; without it, several candidates are refused.
    caps: what the source may cost.
    allow_synthetic: take a series that says it is synthetic.
    allow_t1: take a sagittal T1 series too.

    Slices are ordered by increasing position along the normal, which is the row direction x the column direction; for a sagittal
    series with rows running to posterior and columns to caudal that is from the patient's left to the right.

    Raises Refusal with a stable `type` and, where single instances are to blame, their names, SOP Instance UIDs and reasons.
    """
    series, report = _attempt(source, series_uid, caps, allow_synthetic, allow_t1)
    if report.refusal is not None or series is None:
        raise report.refusal or Refusal("unreadable-instance", "The source cannot be read.")
    return series


def _attempt(
    source: Path | Sequence[Path], series_uid: str | None, caps: Caps, allow_synthetic: bool, allow_t1: bool = False
) -> tuple[SourceSeries | None, CheckReport]:
    """Read a source as far as it goes; the series is None exactly where the report has a refusal."""
    listing = None
    try:
        with unpacked(source, caps) as listing:
            surveyed = survey(listing, caps, series_uid=series_uid, allow_synthetic=allow_synthetic, allow_t1=allow_t1)
            if surveyed.chosen is None or surveyed.chosen.stack is None:
                return None, report_of(surveyed)
            try:
                volume, warnings = _read_volume(surveyed.chosen.stack, caps)
            except Refusal as refusal:
                return None, report_of(surveyed, refusal)
    except Refusal as refusal:
        return None, report_without_series(refusal, listing)
    except OSError as error:
        detail = f"The operating system says {type(error).__name__}."
        unopened = Refusal("unreadable-file", "A file of the source cannot be opened.", detail)
        return None, report_without_series(unopened, listing)
    series = _source_series(volume, surveyed, warnings)
    return series, series.report


def _source_series(volume: Volume, surveyed: Survey, warnings: tuple[str, ...]) -> SourceSeries:
    report = report_of(surveyed)
    report = replace(report, warnings=(*report.warnings, *warnings))
    first = volume.datasets[0]
    return SourceSeries(
        volume=volume,
        report=report,
        study_uid=str(first.StudyInstanceUID),
        series_uid=str(first.SeriesInstanceUID),
        sha256=_digest(volume),
        warnings=report.warnings,
    )


def _digest(volume: Volume) -> str:
    digest = hashlib.sha256()
    for index, stored in enumerate(volume.stored):
        ds, frame = (volume.datasets[index], 0) if volume.frames is None else (volume.datasets[0], volume.frames[index])
        digest.update(f"{ds.SOPInstanceUID}/{frame}\n".encode())
        digest.update(np.ascontiguousarray(stored).tobytes())
    return digest.hexdigest()


def _read_volume(stack: Stack, caps: Caps) -> tuple[Volume, tuple[str, ...]]:
    """Read the instances of a stack whole, decode them and put their frames in slice order; with warnings. Raises Refusal."""
    whole: dict[str, tuple[Dataset, NDArray[np.integer]]] = {}
    illegal: list[Illegal] = []
    problems: list[tuple[Header, BadInstanceError]] = []
    for header in {frame.header.sop_instance_uid or "": frame.header for frame in stack.frames}.values():
        try:
            ds, pixels, found = read_instance(header, caps)
        except BadInstanceError as problem:
            problems.append((header, problem))
        else:
            whole[header.sop_instance_uid or ""] = ds, pixels
            illegal.append(found)
    if problems:
        raise refusal_of(problems)
    warnings = mended_alike([ds for ds, _ in whole.values()], illegal)
    enhanced = stack.frames[0].header.enhanced
    sources = [whole[frame.header.sop_instance_uid or ""] for frame in stack.frames]
    stored = np.stack([pixels[frame.plane.frame] for (_, pixels), frame in zip(sources, stack.frames, strict=True)])
    slope = np.array([frame.plane.slope for frame in stack.frames], np.float64)
    intercept = np.array([frame.plane.intercept for frame in stack.frames], np.float64)
    voxels = np.empty(stored.shape, np.float32)
    for index in range(len(stored)):  # slice by slice: in double precision the whole would take eight bytes a voxel more
        voxels[index] = stored[index] * slope[index] + intercept[index]
    volume = Volume(
        voxels=voxels,
        stored=stored,
        affine=stack.affine,
        slope=slope,
        intercept=intercept,
        datasets=(sources[0][0],) if enhanced else tuple(ds for ds, _ in sources),
        frames=tuple(frame.plane.frame for frame in stack.frames) if enhanced else None,
    )
    return volume, warnings
