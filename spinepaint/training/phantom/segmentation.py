"""Writes a phantom's exact segmentation: tissues and levels as NIfTI, and the structures of the spine as DICOM SEG."""

from pathlib import Path

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import UID

from spinepaint import __version__
from spinepaint.imaging import nifti
from spinepaint.imaging.vocabulary import FSU_CODES, VERTEBRAL_CANAL, Fsu
from spinepaint.imaging.vocabulary import Code as CodedConcept
from spinepaint.training.phantom.dicom import uid_of
from spinepaint.training.phantom.phantom import Phantom
from spinepaint.training.phantom.tissues import CANAL_TISSUES, DISC_TISSUES, L1, S1, VERTEBRAE, Tissue

_VERTEBRA_CODES = {name: getattr(codes.SCT, f"{name}Vertebra") for name in VERTEBRAE[:S1]}
# SNOMED CT's own words for these are longer than a code's meaning may be.
_THORACIC_DISC_CODES = {
    "T8": Code("9188009", "SCT", "T8/T9 disc"),
    "T9": Code("113209001", "SCT", "T9/T10 disc"),
    "T10": Code("34959001", "SCT", "T10/T11 disc"),
    "T11": Code("1537001", "SCT", "T11/T12 disc"),
    "T12": Code("76206002", "SCT", "T12/L1 disc"),
}


def _coded(code: CodedConcept) -> Code:
    return Code(code.value, code.scheme, code.meaning)


def write_nifti(phantom: Phantom, folder: Path, name: str) -> list[Path]:
    """Write `name`-tissues.nii.gz (values of `Tissue`) and `name`-levels.nii.gz (see `Phantom.levels`) on the series' grid."""
    files = []
    for what, labels in (("tissues", phantom.labels), ("levels", phantom.levels)):
        files.append(folder / f"{name}-{what}.nii.gz")
        nifti.write_nifti(files[-1], labels, phantom.affine)
    return files


def structures(phantom: Phantom) -> dict[str, tuple[Code, NDArray[np.bool_]]]:
    """Vertebral bodies, discs and canal that are in view, by name: what it is, and where (slice, row, column).

    A Schmorl node belongs to the body it lies in, a herniation to its disc. Of the sacrum S1 to S4 are one.
    """
    bodies = np.isin(phantom.labels, (Tissue.VERTEBRA, Tissue.SCHMORL_NODE))
    discs = np.isin(phantom.labels, DISC_TISSUES)
    found: dict[str, tuple[Code, NDArray[np.bool_]]] = {}
    for level in range(S1):
        vertebra = VERTEBRAE[level]
        found[vertebra] = (_VERTEBRA_CODES[vertebra], bodies & (phantom.levels == level + 1))
    found["sacrum"] = (codes.SCT.Sacrum, bodies & (phantom.levels > S1))
    for level in range(S1):
        name = f"{VERTEBRAE[level]}-{VERTEBRAE[level + 1]}"
        code = _coded(FSU_CODES[Fsu(name)]) if level >= L1 else _THORACIC_DISC_CODES[VERTEBRAE[level]]
        found[name] = (code, discs & (phantom.levels == level + 1))
    found["canal"] = (_coded(VERTEBRAL_CANAL), np.isin(phantom.labels, CANAL_TISSUES))
    return {name: item for name, item in found.items() if item[1].any()}


def write_seg(phantom: Phantom, series: list[Path], path: Path) -> Path:
    """Write `structures` as a binary Segmentation (PS3.3 A.51) of the series in `series`, as `write_series` left it."""
    images = [dcmread(file) for file in series]
    found = structures(phantom)
    algorithm = hd.AlgorithmIdentificationSequence(
        name="Spinepaint phantom", version=__version__, family=codes.DCM.DeformableModels
    )
    path.parent.mkdir(parents=True, exist_ok=True)

    def uid(what: str) -> UID:
        return uid_of(images[0].SeriesInstanceUID, what)

    segmentation = hd.seg.Segmentation(
        source_images=images,
        pixel_array=np.stack([mask for _, mask in found.values()], axis=-1).astype(np.uint8),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[
            hd.seg.SegmentDescription(
                segment_number=number,
                segment_label=name,
                segmented_property_category=codes.SCT.AnatomicalStructure,
                segmented_property_type=code,
                algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
                algorithm_identification=algorithm,
                tracking_uid=uid(f"tracking {name}"),
                tracking_id=name,
            )
            for number, (name, (code, _)) in enumerate(found.items(), start=1)
        ],
        series_instance_uid=uid("segmentation series"),
        series_number=int(images[0].SeriesNumber) + 1000,
        sop_instance_uid=uid("segmentation"),
        instance_number=1,
        manufacturer="Spinepaint",
        manufacturer_model_name="Spinepaint",
        software_versions=__version__,
        device_serial_number="0",
        content_label="TRUTH",
        content_description="Exact segmentation of the phantom",
        series_description="Exact segmentation of the phantom",
    )
    segmentation.save_as(path)
    return path
