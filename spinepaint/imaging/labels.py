"""The labels of a synthetic series: a segmentation of what was edited, and a report of what was painted."""

from collections.abc import Iterator, Mapping
from copy import copy
from pathlib import Path

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.sr.codedict import codes
from pydicom.uid import UID
from pydicom.valuerep import DSfloat

from spinepaint.imaging import provenance as marks
from spinepaint.imaging.derived import DerivedSeries
from spinepaint.imaging.label_content import algorithm_items, concept, report_content
from spinepaint.imaging.provenance import Provenance
from spinepaint.imaging.vocabulary import FSU_CODES, PATHOLOGY_CODES
from spinepaint.imaging.volume import Volume
from spinepaint.imaging.writing import write_dataset

SEGMENTATION_NUMBER_OFFSET = 1000
REPORT_NUMBER_OFFSET = 2000

# Copied from the series as they are: highdicom takes only some values of them, and sources have others.
_PATIENT_AND_STUDY = (
    "SpecificCharacterSet", "TimezoneOffsetFromUTC", "PatientName", "PatientID", "PatientBirthDate", "PatientSex",
    "PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence",
    "LongitudinalTemporalInformationModified",
    "StudyDate", "StudyTime", "StudyID", "StudyDescription", "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip


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
    images = _acceptable(derived)
    for image in images:
        # A segmentation must have a thickness. Where the source lost its own, the voxels reach from slice to slice.
        if "NumberOfFrames" not in image and not image.get("SliceThickness"):
            image.SliceThickness = DSfloat(volume.spacing[0], auto_format=True)
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
    for n, old in enumerate(_organizations(segmentation)):
        _replace_uid(segmentation, "DimensionOrganizationUID", old, provenance.uid("dimensions", str(n), uid))
    _finish(path, segmentation, derived, provenance)


def write_measurement_report(
    path: Path, derived: DerivedSeries, volume: Volume, provenance: Provenance, measurements: Mapping[str, float]
) -> None:
    """Write a report (PS3.16 TID 1500, as Comprehensive 3D SR): pathology, severity, level, landmark and measures.

    Parameters
    ----------
    path: the file; its folder is made where it does not exist.
    derived: the synthetic series the report is about.
    volume: the source.
    measurements: lengths in mm by name and time point, such as {"canal_ap_after": 9.5}. May be empty.

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
        evidence=_acceptable(derived),
        content=report_content(derived, provenance, measurements, round(float(index[0])))[0],
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


def _acceptable(derived: DerivedSeries) -> list[Dataset]:
    """The series without its pixels and without the patient and study values that highdicom may not take."""
    images = []
    for dataset in derived.datasets:
        image = Dataset()
        image.update({e.tag: e for e in dataset if e.keyword not in ("PixelData", *_PATIENT_AND_STUDY)})
        for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime"):
            setattr(image, keyword, None)
        for keyword in ("StudyID", "AccessionNumber", "ReferringPhysicianName"):
            setattr(image, keyword, None)
        image.file_meta = copy(dataset.file_meta)
        if "SharedFunctionalGroupsSequence" in image:
            image.SharedFunctionalGroupsSequence = [_with_plane(dataset)]
        images.append(image)
    return images


def _with_plane(image: Dataset) -> Dataset:
    """The shared functional groups with the plane's measures and orientation, where highdicom looks for them.

    Vendors may give them frame by frame; in a volume they are the same for all.
    """
    groups: Dataset = copy(image.SharedFunctionalGroupsSequence[0])
    for keyword in ("PixelMeasuresSequence", "PlaneOrientationSequence"):
        if keyword not in groups:
            groups[keyword] = image.PerFrameFunctionalGroupsSequence[0][keyword]
    return groups


def _series_number(derived: DerivedSeries, offset: int) -> int:
    return int(derived.datasets[0].SeriesNumber) + offset


def _finish(path: Path, label: Dataset, derived: DerivedSeries, provenance: Provenance) -> None:
    """Give a label its patient, study, marks and times, and write it."""
    first = derived.datasets[0]
    for keyword in _PATIENT_AND_STUDY:
        label.pop(keyword, None)
        if keyword in first:
            label.add(first[keyword])
    for keyword, value in marks.MARKS.items():
        setattr(label, keyword, value)
    label.ContributingEquipmentSequence = DicomSequence([marks.contributing_equipment_item(provenance)])
    # Content Date and Time must have a value; no clock is read, so that a repeat gives the same bytes.
    label.ContentDate = _first_value(first, ("ContentDate", "SeriesDate", "AcquisitionDate", "StudyDate"), "19000101")
    label.ContentTime = _first_value(first, ("ContentTime", "SeriesTime", "AcquisitionTime", "StudyTime"), "000000")
    label.InstanceCreationDate, label.InstanceCreationTime = label.ContentDate, label.ContentTime
    path.parent.mkdir(parents=True, exist_ok=True)
    write_dataset(path, label, provenance)


def _first_value(dataset: Dataset, keywords: tuple[str, ...], default: str) -> str:
    return next((str(dataset[keyword].value) for keyword in keywords if dataset.get(keyword)), default)


def _organizations(dataset: Dataset) -> list[UID]:
    return [UID(item.DimensionOrganizationUID) for item in dataset.DimensionOrganizationSequence]


def _replace_uid(dataset: Dataset, keyword: str, old: UID, new: UID) -> None:
    """Replace `old` in every `keyword` of the data set, at any depth."""
    for item in _items(dataset):
        if item.get(keyword) == old:
            setattr(item, keyword, new)


def _items(dataset: Dataset) -> Iterator[Dataset]:
    yield dataset
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield from _items(item)
