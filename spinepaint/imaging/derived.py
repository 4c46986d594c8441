"""The derived MR series: the caller's own series with the edited voxels in it, and marked as synthetic.

No time of day enters the files: Series, Content and Instance Creation dates and times stay the source's,
so the same work done twice gives the same bytes.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import UID

from spinepaint.imaging.derived_enhanced import enhanced_image
from spinepaint.imaging.derived_header import classic_header, header_digest, rescale_of
from spinepaint.imaging.mr_attributes import CLASSIC, ENHANCED
from spinepaint.imaging.pixels import representable_range, set_pixels
from spinepaint.imaging.provenance import Provenance
from spinepaint.imaging.volume import Volume
from spinepaint.imaging.writing import write_dataset

# The only value that the MR Image IOD has (PS3.3 C.8.3.1). A source of 8 bits keeps its stored values and its 8 Bits Stored.
_CLASSIC_BITS_ALLOCATED = 16


@dataclass(frozen=True)
class DerivedSeries:
    """A synthetic series as it was written.

    Attributes
    ----------
    study_uid, series_uid: where it belongs.
    datasets: the data sets with their pixels, in slice order; one alone for an Enhanced series.
    paths: the files, in the same order.
    stored: the stored values (slice, row, column), integer.
    """

    study_uid: UID
    series_uid: UID
    datasets: tuple[Dataset, ...]
    paths: tuple[Path, ...]
    stored: NDArray[np.integer]


def write_series(
    folder: Path,
    volume: Volume,
    edited: NDArray[np.float32],
    changed: NDArray[np.bool_],
    provenance: Provenance,
    *,
    new_study: bool = False,
) -> DerivedSeries:
    """Write the synthetic series into `folder` as IM0001.dcm and so on, in slice order, or one file if Enhanced.

    Parameters
    ----------
    folder: made where it does not exist.
    volume: the source.
    edited: (slice, row, column), values as in `volume.voxels`, read only where `changed`.
    changed: (slice, row, column); elsewhere the source's stored values are copied as integers.
    provenance: decides the UIDs together with the source, so that the same work has the same UIDs.
    new_study: give the series a study of its own, without the real examination's accession and request.

    Raises
    ------
    ValueError where the shapes differ, or an edited voxel that changed is not a finite number.
    """
    stored = stored_values(volume, edited, changed)
    key = (*source_key(volume), "new study" if new_study else "same study")
    study_uid = provenance.uid("study", *key) if new_study else UID(volume.datasets[0].StudyInstanceUID)
    series_uid = provenance.uid("series", *key)
    if volume.frames is None:
        datasets = _classic_images(volume, stored, provenance, study_uid, series_uid)
    else:
        datasets = (enhanced_image(volume, stored, provenance, study_uid, series_uid),)
    folder.mkdir(parents=True, exist_ok=True)
    paths = tuple(folder / f"IM{k + 1:04d}.dcm" for k in range(len(datasets)))
    for path, dataset in zip(paths, datasets, strict=True):
        write_dataset(path, dataset, provenance.version)
    return DerivedSeries(study_uid, series_uid, datasets, paths, stored)


def stored_values(volume: Volume, edited: NDArray[np.float32], changed: NDArray[np.bool_]) -> NDArray[np.integer]:
    """Stored values of the derived series, in the type of `volume.stored`.

    The source's outside `changed`; inside, round((edited - intercept) / slope) clipped to what Bits Stored
    and Pixel Representation can hold.
    """
    if not volume.stored.shape == edited.shape == changed.shape:
        raise ValueError(f"shapes differ: source {volume.stored.shape}, edited {edited.shape}, changed {changed.shape}")
    if not np.isfinite(edited[changed]).all():
        raise ValueError("an edited voxel is not a finite number")
    stored = volume.stored.copy()
    for k, mask in enumerate(changed):
        if mask.any():
            low, high = representable_range(volume.datasets[0 if volume.frames is not None else k])
            values = (edited[k][mask].astype(np.float64) - volume.intercept[k]) / volume.slope[k]
            stored[k][mask] = np.clip(np.rint(values), low, high).astype(stored.dtype)
    return stored


def source_key(volume: Volume) -> tuple[str, ...]:
    """What tells one source from another: its UIDs, what its derived series keeps of its header, and its stored values.

    Sources of one UID that differ in the patient, the study or the place so give other UIDs. Of a source that was
    de-identified only what is left of it counts, and no output tells whether a guess at the rest is right. Neither the order nor
    the names of the files count, nor how they were encoded.
    """
    headers = (header_digest(ds, CLASSIC if volume.frames is None else ENHANCED) for ds in volume.datasets)
    pixels = hashlib.sha256(np.ascontiguousarray(volume.stored).astype("<i8").tobytes()).hexdigest()
    first = volume.datasets[0]
    return (
        first.StudyInstanceUID,
        first.SeriesInstanceUID,
        *(d.SOPInstanceUID for d in volume.datasets),
        *headers,
        *(str(frame) for frame in volume.frames or ()),
        pixels,
    )


def _classic_images(
    volume: Volume,
    stored: NDArray[np.integer],
    provenance: Provenance,
    study_uid: UID,
    series_uid: UID,
) -> tuple[Dataset, ...]:
    images = []
    rescaled = rescale_of(volume.datasets)
    for k, (source, number) in enumerate(zip(volume.datasets, _instance_numbers(volume.datasets), strict=True)):
        image = classic_header(source, provenance, study_uid, series_uid, rescaled=rescaled)
        image.InstanceNumber = number
        image.BitsAllocated = _CLASSIC_BITS_ALLOCATED
        image.SOPInstanceUID = provenance.uid("instance", series_uid, str(source.SOPInstanceUID))
        set_pixels(image, stored[k])
        images.append(image)
    return tuple(images)


def _instance_numbers(sources: Sequence[Dataset]) -> list[int]:
    """The source's Instance Numbers where they are all there and all different, or 1, 2, … in slice order."""
    numbers = [source.get("InstanceNumber") for source in sources]
    if None in numbers or len(set(numbers)) < len(numbers):
        return list(range(1, len(sources) + 1))
    return [int(number) for number in numbers if number is not None]
