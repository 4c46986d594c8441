"""Names and codes of the spine's structures: which vertebra, which disc, by the discs that were named."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code as SctCode

from spinepaint.imaging.vocabulary import FSU_CODES, VERTEBRAL_CANAL, Code, Fsu

OTHER_VERTEBRAE, OTHER_DISCS, SACRUM, CANAL = "other vertebrae", "other discs", "sacrum", "canal"
_LUMBAR = ("L1", "L2", "L3", "L4", "L5")
_NEAR_MM = 5.0  # of a centre from a disc that it may belong to
_REACH_MM = 30.0  # of a disc's voxels from its centre

VALUES: dict[str, int] = {
    OTHER_VERTEBRAE: 1,
    OTHER_DISCS: 2,
    CANAL: 3,
    **{name: 11 + k for k, name in enumerate((*_LUMBAR, SACRUM))},
    **{fsu.value: 21 + k for k, fsu in enumerate(Fsu)},
}
"""The value of each structure in a label volume; they stay the same from version to version."""


def _from_dictionary(code: SctCode) -> Code:
    return Code(code.value, code.scheme_designator, code.meaning)


CODES: dict[str, Code] = {
    OTHER_VERTEBRAE: _from_dictionary(codes.SCT.Vertebra),
    # DICOM's own subset of SNOMED CT has single discs only.
    OTHER_DISCS: Code("360499006", "SCT", "Intervertebral disc"),
    CANAL: VERTEBRAL_CANAL,
    **{name: _from_dictionary(getattr(codes.SCT, f"{name}Vertebra")) for name in _LUMBAR},
    SACRUM: _from_dictionary(codes.SCT.Sacrum),
    **{fsu.value: FSU_CODES[fsu] for fsu in Fsu},
}


def name_structures(
    vertebrae: NDArray[np.bool_],
    discs: NDArray[np.bool_],
    canal: NDArray[np.bool_],
    centres: Mapping[str, tuple[float, float, float]],
    spacing_mm: tuple[float, float, float],
) -> NDArray[np.uint8]:
    """Label volume with `VALUES`, (slice, row, column).

    A vertebral body lies between the planes through two named discs, square to the spine; the one above the uppermost and the
    one below the lowest reach as far as the next disc would be, and what is below L5-S1 is the sacrum. A disc has the name of
    the nearest centre; a centre that has no disc near it is not used. What cannot be named is of the others: all of it where
    fewer than two discs are.

    vertebrae, discs, canal: masks (slice, row, column), rows head to foot. centres: of the discs that were found, by FSU, as
    fractional indices. spacing_mm: along (slice, row, column).
    """
    labels = np.zeros(vertebrae.shape, np.uint8)
    labels[vertebrae], labels[discs], labels[canal] = VALUES[OTHER_VERTEBRAE], VALUES[OTHER_DISCS], VALUES[CANAL]
    known = [fsu for fsu in Fsu if fsu.value in centres and _on_a_disc(discs, centres[fsu.value], spacing_mm)]
    if len(known) < 2:
        return labels
    # In the sagittal plane alone: whatever the slice, a vertebra has one level.
    points = np.array([centres[fsu.value][1:] for fsu in known]) * spacing_mm[1:]
    down = np.gradient(points, axis=0)
    pitch = np.linalg.norm(down, axis=1) / np.gradient([list(Fsu).index(fsu) for fsu in known])
    down /= np.linalg.norm(down, axis=1, keepdims=True)
    for mask, name_of in ((vertebrae, _vertebra_names), (discs, _disc_names)):
        places = np.argwhere(mask)
        values = name_of(places[:, 1:] * np.array(spacing_mm[1:]), known, points, down, pitch)
        named = values > 0
        labels[tuple(places[named].T)] = values[named]
    return labels


def _on_a_disc(discs: NDArray[np.bool_], centre: tuple[float, float, float], spacing_mm: tuple[float, float, float]) -> bool:
    """Whether a disc was found within a few mm of a centre, in any slice."""
    half = [max(1, round(_NEAR_MM / mm)) for mm in spacing_mm[1:]]
    rows, columns = (slice(max(0, round(c) - n), max(0, round(c) + n + 1)) for c, n in zip(centre[1:], half, strict=True))
    return bool(discs[:, rows, columns].any())


def _vertebra_names(
    p: NDArray[np.float64], known: list[Fsu], points: NDArray[np.float64], down: NDArray[np.float64], pitch: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Values of vertebral voxels at `p` (N, 2) in mm; 0 where there is no name."""
    below = np.stack([(p - point) @ direction for point, direction in zip(points, down, strict=True)])  # mm below each disc
    passed = (below > 0).sum(axis=0)
    values = np.zeros(len(p), np.uint8)
    for k, fsu in enumerate(known):
        upper, lower = fsu.value.split("-")
        if k == 0:
            values[(passed == 0) & (-below[0] < pitch[0])] = VALUES[upper]
        if fsu is Fsu.L5_S1:
            values[passed == k + 1] = VALUES[SACRUM]
        elif k + 1 == len(known):
            values[(passed == k + 1) & (below[k] < pitch[k])] = VALUES[lower]
        elif known[k + 1].value.startswith(lower):
            values[passed == k + 1] = VALUES[lower]
    return values


def _disc_names(
    p: NDArray[np.float64], known: list[Fsu], points: NDArray[np.float64], down: NDArray[np.float64], pitch: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Values of disc voxels at `p` (N, 2) in mm; 0 where there is no name."""
    away = np.linalg.norm(p[None] - points[:, None], axis=2)
    along = np.abs(np.einsum("kni,ki->kn", p[None] - points[:, None], down))
    away[(away > _REACH_MM) | (along > 0.5 * pitch[:, None])] = np.inf
    values = np.array([VALUES[fsu.value] for fsu in known], np.uint8)[away.argmin(axis=0)]
    return np.where(np.isfinite(away.min(axis=0)), values, 0).astype(np.uint8)
