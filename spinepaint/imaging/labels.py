"""The labels of a synthetic series: a segmentation of what was edited, and a report of what was painted."""

from collections.abc import Mapping
from pathlib import Path

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.sr.codedict import codes

from spinepaint.imaging import provenance as marks
from spinepaint.imaging.derived import DerivedSeries
from spinepaint.imaging.derived_header import later_number
from spinepaint.imaging.label_content import algorithm_items, concept, report_content
from spinepaint.imaging.label_objects import acceptable, place_in_study, rename_dimensions
from spinepaint.imaging.provenance import Provenance
from spinepaint.imaging.vocabulary import FSU_CODES, PATHOLOGY_CODES
from spinepaint.imaging.volume import Volume
from spinepaint.imaging.writing import write_dataset

SEGMENTATION_NUMBER_OFFSET = 1000
REPORT_NUMBER_OFFSET = 2000


def write_edit_segmentation(
    path: Path, derived: DerivedSeries, volume: Volume, edit: NDArray[np.bool_], provenance: Provenance
) -> None:
    """Write a binary Segmentation (PS3.3 A.51) of the edited region, on the frames of the synthetic series that have any.

    Parameters
    ----------
    path: the file; its folder is made where it does not exist.
    derived: the synthetic series, whose geometry and frame of reference the segmentation has.
    volume: the source.
    edit: (slice, row, column), True where the painter was at work.

    Raises
    ------
    ValueError where `edit` has another shape than `volume`, or is nowhere True.
    """
    if edit.shape != volume.stored.shape:
        raise ValueError(f"the edit has shape {edit.shape}, the series {volume.stored.shape}")
    if not edit.any():
        raise ValueError("the edit is empty: there is nothing to segment")
    uid = provenance.uid("segmentation", derived.series_uid)
    images = acceptable(derived.datasets, thickness_mm=volume.spacing[0])
    description = hd.seg.SegmentDescription(
        segment_number=1,
        segment_label="Edited region",
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=concept(PATHOLOGY_CODES[provenance.pathology]),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm_items(provenance),
        tracking_uid=provenance.uid("tracking", derived.series_uid),
        tracking_id=marks.printable(provenance.finding(), 64),
        anatomic_regions=[concept(FSU_CODES[provenance.fsu])],
    )
    segmentation = hd.seg.Segmentation(
        source_images=images,
        pixel_array=edit.astype(np.uint8),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[description],
        series_instance_uid=provenance.uid("segmentation series", derived.series_uid),
        series_number=_series_number(derived, SEGMENTATION_NUMBER_OFFSET),
        sop_instance_uid=uid,
        instance_number=1,
        manufacturer="Spinepaint",
        manufacturer_model_name="Spinepaint",
        software_versions=marks.printable(provenance.version, 64),
        device_serial_number="0",
        content_label="EDIT",
        content_description="Region of the synthetic edit",
        series_description=marks.series_description(provenance, "edited region"),
    )
    rename_dimensions(segmentation, lambda n: provenance.uid("dimensions", str(n), uid))
    _finish(path, segmentation, derived, provenance)


def write_measurement_report(
    path: Path,
    derived: DerivedSeries,
    volume: Volume,
    provenance: Provenance,
    measurements: Mapping[str, float],
    *,
    verified: bool | None = None,
) -> None:
    """Write a report (PS3.16 TID 1500, as Comprehensive 3D SR): pathology, severity, level, landmark and measures.

    Parameters
    ----------
    path: the file; its folder is made where it does not exist.
    derived: the synthetic series the report is about.
    volume: the source.
    measurements: lengths in mm by name and time point, such as {"canal_ap_after": 9.5}. May be empty.
    verified: whether the severity that was asked for was also measured; None where nobody looked.

    Raises
    ------
    ValueError where the landmark lies outside the volume, or a measurement has no code or is not a finite number.
    """
    low, high = -0.5, np.array(volume.stored.shape) - 0.5
    index = volume.to_index(np.array(provenance.landmark_lps_mm))
    if (index < low).any() or (index > high).any():
        raise ValueError("the landmark lies outside the series")
    if not np.isfinite(list(measurements.values())).all():
        raise ValueError("a measurement is not a finite number")
    report = hd.sr.Comprehensive3DSR(
        evidence=acceptable(derived.datasets),
        content=report_content(derived, provenance, measurements, round(float(index[0])), verified)[0],
        series_instance_uid=provenance.uid("report series", derived.series_uid),
        series_number=_series_number(derived, REPORT_NUMBER_OFFSET),
        sop_instance_uid=provenance.uid("report", derived.series_uid),
        instance_number=1,
        manufacturer="Spinepaint",
        is_complete=True,
        series_description=marks.series_description(provenance, "report"),
        manufacturer_model_name="Spinepaint",
        software_versions=marks.printable(provenance.version, 64),
    )
    _finish(path, report, derived, provenance)


def _series_number(derived: DerivedSeries, offset: int) -> int:
    return later_number(derived.datasets[0], offset)


def _finish(path: Path, label: Dataset, derived: DerivedSeries, provenance: Provenance) -> None:
    """Give a label its patient, study, marks and times, and write it."""
    place_in_study(label, derived.datasets[0])
    for keyword, value in marks.MARKS.items():
        setattr(label, keyword, value)
    label.ContributingEquipmentSequence = DicomSequence([marks.contributing_equipment_item(provenance)])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_dataset(path, label, provenance.version)
