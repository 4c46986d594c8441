"""A segmentation as DICOM: the structures as a Segmentation, the uncertainty as a Parametric Map."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.sr.codedict import codes
from pydicom.uid import UID

from spinepaint.imaging.derived_header import later_number
from spinepaint.imaging.label_content import concept
from spinepaint.imaging.label_objects import acceptable, place_in_study, rename_dimensions
from spinepaint.imaging.provenance import code_item, printable
from spinepaint.imaging.segment_names import CODES, VALUES
from spinepaint.imaging.uids import canonical_json, uid_from
from spinepaint.imaging.vocabulary import LUMBAR_SPINE, Code
from spinepaint.imaging.volume import Volume
from spinepaint.imaging.writing import write_dataset

SEGMENTATION_NUMBER_OFFSET, UNCERTAINTY_NUMBER_OFFSET = 3000, 4000
MOST_UNCERTAIN = 1 / np.e  # the greatest −p ln p
_PROCESSING_EQUIPMENT = Code("109102", "DCM", "Processing Equipment")  # CID 7005


@dataclass(frozen=True)
class SegmentationOrigin:
    """What made a segmentation: this software's version, the bundle, the ensemble's settings as JSON values, the source's sum."""

    version: str
    bundle_name: str
    bundle_sha256: str
    source_sha256: str
    spec: Mapping[str, Any]

    def uid(self, *names: str) -> UID:
        """UID of the object that `names` tell apart from the others of this origin."""
        own = (self.version, self.bundle_name, self.bundle_sha256, self.source_sha256, canonical_json(self.spec))
        return uid_from("segmentation", *own, *names)


def write_segmentation(path: Path, volume: Volume, labels: NDArray[np.uint8], origin: SegmentationOrigin) -> list[str]:
    """Write a binary Segmentation (PS3.3 A.51) with a segment for each structure; the structures' names, in segment order.

    labels: (slice, row, column) as `volume` has them, values of `segment_names.VALUES`.

    Raises ValueError where `labels` has another shape than the series, or holds no structure.
    """
    _check_shape(labels, volume)
    names = [name for name, value in VALUES.items() if (labels == value).any()]
    if not names:
        raise ValueError("there is no structure to write")
    numbers = np.zeros(256, np.uint8)
    for number, name in enumerate(names, start=1):
        numbers[VALUES[name]] = number
    images = acceptable(volume.datasets, thickness_mm=volume.spacing[0])
    algorithm = hd.AlgorithmIdentificationSequence(
        name=printable(f"Spinepaint {origin.bundle_name}", 64),
        family=codes.DCM.ArtificialIntelligence,
        version=printable(origin.version, 64),
        source="Spinepaint",
        parameters={"bundle_sha256": origin.bundle_sha256},
    )
    uid = origin.uid("structures")
    segmentation = hd.seg.Segmentation(
        source_images=images,
        pixel_array=_placed(numbers[labels], volume, images[0]),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[
            hd.seg.SegmentDescription(
                segment_number=number,
                segment_label=name,
                segmented_property_category=codes.SCT.AnatomicalStructure,
                segmented_property_type=concept(CODES[name]),
                algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
                algorithm_identification=algorithm,
                tracking_uid=origin.uid("tracking", name),
                tracking_id=name,
            )
            for number, name in enumerate(names, start=1)
        ],
        series_instance_uid=origin.uid("structures series"),
        series_number=later_number(images[0], SEGMENTATION_NUMBER_OFFSET),
        sop_instance_uid=uid,
        instance_number=1,
        content_label="SPINE",
        content_description="Vertebrae, discs and canal",
        series_description="Segmentation of vertebrae, discs and canal",
        **_equipment(origin),
    )
    _finish(path, segmentation, volume, origin, uid)
    return names


def write_uncertainty(path: Path, volume: Volume, uncertainty: NDArray[np.float32], origin: SegmentationOrigin) -> None:
    """Write the uncertainty as a Parametric Map (PS3.3 A.75) of 32-bit floats, −p ln p in nats.

    uncertainty: (slice, row, column) as `volume` has them, 0 to 1/e.

    Raises ValueError where it has another shape than the series, or is not finite.
    """
    _check_shape(uncertainty, volume)
    if not np.isfinite(uncertainty).all():
        raise ValueError("the uncertainty is not finite everywhere")
    images = acceptable(volume.datasets, thickness_mm=volume.spacing[0])
    uid = origin.uid("uncertainty")
    window = hd.VOILUTTransformation(
        window_center=round(MOST_UNCERTAIN / 2, 4),
        window_width=round(MOST_UNCERTAIN, 4),
        voi_lut_function=hd.VOILUTFunctionValues.LINEAR_EXACT,
    )
    mapping = hd.pm.RealWorldValueMapping(
        lut_label="UNCERTAINTY",
        lut_explanation="Highest -p ln p of any structure, in nats",
        unit=codes.UCUM.NoUnits,
        value_range=(0.0, float(MOST_UNCERTAIN)),
        slope=1.0,
        intercept=0.0,
    )
    parametric = hd.pm.ParametricMap(
        source_images=images,
        pixel_array=_placed(np.ascontiguousarray(uncertainty, np.float32), volume, images[0]),
        series_instance_uid=origin.uid("uncertainty series"),
        series_number=later_number(images[0], UNCERTAINTY_NUMBER_OFFSET),
        sop_instance_uid=uid,
        instance_number=1,
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[mapping],
        voi_lut_transformations=[window],
        content_label="UNCERTAINTY",
        content_description="Uncertainty of the segmentation",
        series_description="Uncertainty of the segmentation",
        **_equipment(origin),
    )
    parametric.SharedFunctionalGroupsSequence[0].FrameAnatomySequence = DicomSequence([_lumbar_spine()])
    _finish(path, parametric, volume, origin, uid)


def _check_shape(array: NDArray[Any], volume: Volume) -> None:
    if array.shape != volume.stored.shape:
        raise ValueError(f"the array has shape {array.shape}, the series {volume.stored.shape}")


def _placed(array: NDArray[Any], volume: Volume, first: Dataset) -> hd.Volume:
    # By place and not by frame: the frames of an Enhanced source may be in any order.
    return hd.Volume(
        array, affine=volume.affine, coordinate_system="PATIENT", frame_of_reference_uid=first.get("FrameOfReferenceUID")
    )


def _equipment(origin: SegmentationOrigin) -> dict[str, Any]:
    return {
        "manufacturer": "Spinepaint",
        "manufacturer_model_name": "Spinepaint",
        "software_versions": printable(origin.version, 64),
        "device_serial_number": "0",
    }


def _lumbar_spine() -> Dataset:
    """Frame Anatomy (PS3.3 C.7.6.16.2.8): an unpaired structure, which a Parametric Map says nowhere else."""
    item = Dataset()
    item.FrameLaterality = "U"
    item.AnatomicRegionSequence = DicomSequence([code_item(LUMBAR_SPINE)])
    return item


def _finish(path: Path, made: Dataset, volume: Volume, origin: SegmentationOrigin, uid: UID) -> None:
    """Place an object in its study, say what made it, and write it."""
    first = volume.datasets[0]
    place_in_study(made, first)
    rename_dimensions(made, lambda n: origin.uid("dimensions", str(n), uid))
    made.ContentQualification = "RESEARCH"
    if first.get("SyntheticData"):
        made.SyntheticData = first.SyntheticData
    equipment = Dataset()
    equipment.Manufacturer = equipment.ManufacturerModelName = "Spinepaint"
    equipment.SoftwareVersions = printable(origin.version, 64)
    equipment.ContributionDescription = f"Weight bundle {printable(origin.bundle_name, 64)}, SHA-256 {origin.bundle_sha256}"
    equipment.PurposeOfReferenceCodeSequence = DicomSequence([code_item(_PROCESSING_EQUIPMENT)])
    made.ContributingEquipmentSequence = DicomSequence([equipment])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_dataset(path, made, origin.version)
