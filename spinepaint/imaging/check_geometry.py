"""Whether the frames of a series are evenly spaced parallel slices, and in which order."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from highdicom.spatial import get_volume_positions
from numpy.typing import NDArray

from spinepaint.imaging.errors import InstanceReason, Refusal
from spinepaint.imaging.read_header import Header
from spinepaint.imaging.read_planes import Plane

_PLAUSIBLE_MM = (0.01, 100.0)  # between pixels and between slices
PLANE_NAMES = ("sagittal", "coronal", "axial")


@dataclass(frozen=True)
class Frame:
    """One frame of a series: the instance it is in and its plane."""

    header: Header
    plane: Plane

    def reason(self, reason: str) -> InstanceReason:
        """An entry of a refusal; for a multi-frame file the frame is named too, from 1 as in DICOM."""
        where = f"frame {self.plane.frame + 1}: " if self.header.frames > 1 else ""
        return InstanceReason(self.header.file.name, where + reason, self.header.sop_instance_uid)


@dataclass(frozen=True)
class Stack:
    """The frames in slice order, increasing along the normal (row direction x column direction), and their affine."""

    frames: tuple[Frame, ...]
    affine: NDArray[np.float64]


def frames_of(headers: Sequence[Header]) -> list[Frame]:
    """Every frame of every instance."""
    return [Frame(header, plane) for header in headers for plane in header.planes]


def normal_of(orientation: Sequence[float]) -> NDArray[np.float64]:
    """Unit normal of an image plane, row direction x column direction, in LPS."""
    normal = np.cross(np.asarray(orientation[:3], float), np.asarray(orientation[3:], float))
    length = float(np.linalg.norm(normal))
    unit: NDArray[np.float64] = normal / length if length > 0.0 else normal
    return unit


def plane_name(orientation: Sequence[float]) -> str:
    """sagittal, coronal or axial: the axis along which the normal's component is largest."""
    return PLANE_NAMES[int(np.argmax(np.abs(normal_of(orientation))))]


def obliquity_deg(orientation: Sequence[float]) -> float:
    """Angle in degrees between the normal and the patient's left-right axis."""
    return float(np.degrees(np.arccos(np.clip(abs(normal_of(orientation)[0]), 0.0, 1.0))))


def common_orientation(frames: Sequence[Frame], *, decimals: int = 2) -> tuple[float, ...] | None:
    """The orientation that most frames have, to `decimals`; None where no frame has one."""
    known = [frame.plane.orientation for frame in frames if frame.plane.orientation is not None]
    if not known:
        return None
    rounded = [tuple(np.round(orientation, decimals) + 0.0) for orientation in known]
    return known[rounded.index(Counter(rounded).most_common(1)[0][0])]


def stack_frames(
    headers: Sequence[Header],
    *,
    least_slices: int = 5,
    orientation_tol: float = 1e-3,
    spacing_rtol: float = 0.01,
    pixel_spacing_rtol: float = 1e-3,
    perpendicular_tol: float = 1e-3,
    duplicate_tol_mm: float = 0.01,
    oblique_limit_deg: float = 30.0,
) -> Stack:
    """Order the frames of a series by position along the normal and give their affine (slice, row, column, 1) -> LPS mm.

    Parameters
    ----------
    orientation_tol: largest difference between direction cosines, and from orthonormal ones.
    spacing_rtol: largest difference of a slice distance from the mean, as a fraction of it.
    pixel_spacing_rtol: largest difference between pixel spacings, as a fraction.
    perpendicular_tol: 1 - |cosine| between the direction of stacking and the normal (1e-3 is 2.6 degrees).
    duplicate_tol_mm: slices nearer than this share a position.

    Raises Refusal: `missing-geometry`, `bad-geometry`, `mixed-orientation`, `mixed-matrix`, `too-oblique`, `too-few-slices`,
    `multi-echo`, `multi-temporal`, `duplicate-position`, `missing-slice`, `irregular-spacing`, `sheared`.

    Evenness is judged by highdicom's `get_volume_positions`, which `get_series_volume_positions` calls for classic series.
    """
    frames = frames_of(headers)
    orientation = _one_orientation(frames, orientation_tol)
    _one_matrix(frames, pixel_spacing_rtol)
    if obliquity_deg(orientation) > oblique_limit_deg:
        angle = obliquity_deg(orientation)
        raise Refusal(
            "too-oblique",
            f"The slices are {angle:.0f} degrees off the sagittal plane.",
            f"Series up to {oblique_limit_deg:g} degrees oblique are read.",
        )
    positions = np.array([frame.plane.position_mm for frame in frames], float)
    distances = positions @ normal_of(orientation)
    order = np.argsort(distances, kind="stable")
    ordered = [frames[i] for i in order]
    if len(frames) < least_slices:
        raise _too_few(ordered, positions[order], distances[order], least_slices, spacing_rtol)
    _no_duplicates(ordered, distances[order], duplicate_tol_mm)
    _evenly_spaced(ordered, positions[order], distances[order], orientation, spacing_rtol, perpendicular_tol)
    if np.ptp(distances) > _PLAUSIBLE_MM[1] * (len(frames) - 1):
        detail = f"They lie more than {_PLAUSIBLE_MM[1]:g} mm apart."
        raise Refusal(
            "bad-geometry", "The slices do not lie in one patient.", detail, [frame.reason("too far away") for frame in frames]
        )
    return Stack(tuple(ordered), _affine(ordered, positions[order], orientation))


def _one_orientation(frames: Sequence[Frame], tolerance: float) -> tuple[float, ...]:
    lacking = [
        frame.reason("image orientation, position or pixel spacing is missing or not a number")
        for frame in frames
        if frame.plane.orientation is None or frame.plane.position_mm is None or not frame.plane.spacing_mm
    ]
    orientation = common_orientation(frames)
    if lacking or orientation is None:
        detail = "Every instance needs Image Orientation, Image Position and Pixel Spacing."
        raise Refusal("missing-geometry", "An instance does not say where it lies in the patient.", detail, lacking)
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    lengths = np.array([row @ row, column @ column])
    if np.any(np.abs(lengths - 1.0) > 2 * tolerance) or abs(row @ column) > tolerance:
        detail = "The direction cosines are not two perpendicular unit vectors."
        raise Refusal("bad-geometry", "The image orientation is not a rotation.", detail, [frames[0].reason(detail)])
    odd = [f for f in frames if np.max(np.abs(np.subtract(f.plane.orientation or (), orientation))) > tolerance]
    if odd:
        raise Refusal(
            "mixed-orientation",
            "The slices of the series are not parallel.",
            "Send one series without its localizer, or give another series UID.",
            [frame.reason(f"{plane_name(frame.plane.orientation or orientation)}, not parallel to the others") for frame in odd],
        )
    return orientation


def _one_matrix(frames: Sequence[Frame], tolerance: float) -> None:
    def grid(frame: Frame) -> tuple[int | None, int | None, float, float]:
        row_mm, column_mm = frame.plane.spacing_mm or (0.0, 0.0)
        return frame.header.rows, frame.header.columns, row_mm, column_mm

    common = Counter(grid(frame) for frame in frames).most_common(1)[0][0]
    low, high = _PLAUSIBLE_MM
    reason = f"its pixel spacing is not between {low:g} and {high:g} mm"
    bad = [frame.reason(reason) for frame in frames if not low <= min(grid(frame)[2:]) <= max(grid(frame)[2:]) <= high]
    if bad:
        raise Refusal("bad-geometry", "The pixel spacing is not one of a patient.", "It cannot be placed in one.", bad)
    odd = [f for f in frames if grid(f)[:2] != common[:2] or not np.allclose(grid(f)[2:], common[2:], rtol=tolerance, atol=0.0)]
    if odd:
        raise Refusal(
            "mixed-matrix",
            "The slices of the series differ in matrix or pixel spacing.",
            f"Most have {common[0]} rows and {common[1]} columns of {common[2]:g} x {common[3]:g} mm.",
            [f.reason(f"{f.header.rows} x {f.header.columns} of {grid(f)[2]:g} x {grid(f)[3]:g} mm") for f in odd],
        )


def _no_duplicates(ordered: Sequence[Frame], distances: NDArray[np.float64], tolerance_mm: float) -> None:
    near = np.flatnonzero(np.diff(distances) < tolerance_mm).tolist()
    if not near:
        return
    pairs = [(ordered[i], ordered[i + 1]) for i in near]
    named = [ordered[i].reason("at the position of another") for i in sorted({*near, *(i + 1 for i in near)})]
    if all(a.plane.echo != b.plane.echo for a, b in pairs):
        raise Refusal("multi-echo", "The series has several echoes at each position.", "Send the T2 echo alone.", named)
    if all(a.plane.time != b.plane.time for a, b in pairs):
        detail = "Send one time point or acquisition alone."
        raise Refusal("multi-temporal", "The series has several time points at each position.", detail, named)
    raise Refusal("duplicate-position", "Two slices lie at the same position.", "Send each slice once.", named)


def _evenly_spaced(
    ordered: Sequence[Frame],
    positions: NDArray[np.float64],
    distances: NDArray[np.float64],
    orientation: Sequence[float],
    spacing_rtol: float,
    perpendicular_tol: float,
) -> None:
    spacing, _ = get_volume_positions(
        positions.tolist(), list(orientation), rtol=spacing_rtol, perpendicular_tol=perpendicular_tol
    )
    if spacing is not None:
        return
    gaps = np.diff(distances)
    usual = _usual_gap(gaps, spacing_rtol)
    wide = np.flatnonzero(np.abs(gaps - usual) > spacing_rtol * usual)
    if wide.size == 0:
        detail = "The direction of stacking is not the normal of the slices."
        raise Refusal(
            "sheared", "The slices are shifted against each other.", detail, [f.reason("shifted") for f in ordered[1:2]]
        )
    named = [frame.reason(f"next to a gap of {gaps[i]:.3f} mm") for i in wide.tolist() for frame in (ordered[i], ordered[i + 1])]
    lacking = _lacking(positions, gaps, spacing_rtol)
    if lacking:
        count = len(lacking)
        detail = (
            f"{len(ordered)} were found, {usual:.3f} mm apart but for the gap{'s' if wide.size > 1 else ''}. "
            f"Missing: those at {_at_x(lacking)}. Send the whole series."
        )
        raise Refusal("missing-slice", f"{count} slice{'s are' if count > 1 else ' is'} missing.", detail, named)
    detail = f"Most are {usual:.3f} mm apart; gaps run from {gaps.min():.3f} to {gaps.max():.3f} mm."
    raise Refusal("irregular-spacing", "The slices are not evenly spaced.", detail, named)


def _too_few(
    ordered: Sequence[Frame],
    positions: NDArray[np.float64],
    distances: NDArray[np.float64],
    least_slices: int,
    spacing_rtol: float,
) -> Refusal:
    """What there is of a series that is only a part, and as far as that can be told what is not."""
    named = [frame.reason(f"one of {len(ordered)}, at {_at_x([at])}") for frame, at in zip(ordered, positions, strict=True)]
    needed = f"at least {least_slices} slices of a series are needed. Send the whole series."
    if len(ordered) == 1:
        detail = f"Only the slice at {_at_x(positions)} was found; {needed}"
        return Refusal("too-few-slices", "One slice is no volume.", detail, named)
    lacking = _lacking(positions, np.diff(distances), spacing_rtol)
    between = f" Missing between them: those at {_at_x(lacking)}." if lacking else ""
    detail = f"{len(ordered)} were found, at {_at_x(positions)}; {needed}{between}"
    return Refusal("too-few-slices", "The series has too few slices.", detail, named)


def _usual_gap(gaps: NDArray[np.float64], tolerance: float) -> float:
    """The most common gap in mm; of equally common ones the smallest, since slices get lost and none are added."""
    ascending = np.sort(gaps)
    first = np.searchsorted(ascending, ascending * (1.0 - tolerance), side="left")
    after = np.searchsorted(ascending, ascending * (1.0 + tolerance), side="right")
    most = int(np.argmax(after - first))
    return float(np.median(ascending[first[most] : after[most]]))


def _lacking(positions: NDArray[np.float64], gaps: NDArray[np.float64], tolerance: float) -> list[NDArray[np.float64]]:
    """Image positions in LPS mm of the slices without which the others are not even; none where the gaps have another cause."""
    usual = _usual_gap(gaps, tolerance)
    low, high = _PLAUSIBLE_MM
    if gaps.min() < low or gaps.max() > high:
        return []
    steps = np.round(gaps / usual)
    if np.any(steps < 1) or np.any(np.abs(gaps - steps * usual) > tolerance * steps * usual):
        return []
    return [
        positions[i] + (positions[i + 1] - positions[i]) * step / count
        for i, count in enumerate(steps.astype(int).tolist())
        for step in range(1, count)
    ]


def _at_x(positions: Sequence[NDArray[np.float64]] | NDArray[np.float64], *, most: int = 8) -> str:
    """Where slices lie, as their headers say it: the first value of Image Position (Patient)."""
    shown = [f"{position[0] + 0.0:.1f}" for position in positions[:most]]
    more = f" and {len(positions) - most} more" if len(positions) > most else ""
    return f"x {', '.join(shown)}{more} mm"


def _affine(ordered: Sequence[Frame], positions: NDArray[np.float64], orientation: Sequence[float]) -> NDArray[np.float64]:
    """PS3.3 C.7.6.2.1.1, with the mean step between slices as the third direction."""
    row_mm, column_mm = ordered[0].plane.spacing_mm or (0.0, 0.0)
    affine = np.eye(4)
    affine[:3, 0] = (positions[-1] - positions[0]) / (len(positions) - 1)
    affine[:3, 1] = np.array(orientation[3:]) * row_mm
    affine[:3, 2] = np.array(orientation[:3]) * column_mm
    affine[:3, 3] = positions[0]
    return affine
