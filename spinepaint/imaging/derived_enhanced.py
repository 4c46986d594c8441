"""The derived Enhanced MR image (PS3.3 A.36.2): one instance, the volume's frames in slice order."""

from copy import deepcopy

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import UID

from spinepaint.imaging import provenance as marks
from spinepaint.imaging.derived_header import (
    fill_type_2,
    kept,
    mark_as_synthetic,
    referenced_instance,
    set_common_instance_reference,
    source_image_item,
)
from spinepaint.imaging.mr_attributes import ENHANCED, TYPE_2_ENHANCED
from spinepaint.imaging.pixels import set_pixels
from spinepaint.imaging.provenance import Provenance, code_item
from spinepaint.imaging.volume import Volume


def enhanced_image(
    volume: Volume,
    stored: NDArray[np.integer],
    provenance: Provenance,
    study_uid: UID,
    series_uid: UID,
) -> Dataset:
    """The derived image of an Enhanced source, with its pixels.

    Parameters
    ----------
    stored: (slice, row, column); slice k becomes frame k + 1, described by the functional groups of the
        source's frame `volume.frames[k]`. Frames that are no slice of the volume are left out.
    """
    source = volume.datasets[0]
    frames = volume.frames if volume.frames is not None else tuple(range(len(stored)))
    image = kept(source, ENHANCED)
    mark_as_synthetic(image, source, provenance, study_uid, series_uid)
    set_common_instance_reference(image, source)
    image.ImageType = _image_type(list(source.ImageType))
    image.SourceImageEvidenceSequence = DicomSequence([_evidence(source)])
    groups = [deepcopy(image.PerFrameFunctionalGroupsSequence[frame]) for frame in frames]
    for group, frame in zip(groups, frames, strict=True):
        _describe_frame(group, source_image_item(source, frame), provenance)
    for group in (image.SharedFunctionalGroupsSequence[0], *groups):
        group.pop("ReferencedImageSequence", None)
        for frame_type in group.get("MRImageFrameTypeSequence", []):
            frame_type.FrameType = _image_type(list(frame_type.FrameType))
    image.PerFrameFunctionalGroupsSequence = DicomSequence(groups)
    image.NumberOfFrames = len(frames)
    fill_type_2(image, TYPE_2_ENHANCED)
    image.SOPInstanceUID = provenance.uid("instance", series_uid, str(source.SOPInstanceUID))
    image.InstanceNumber = 1
    set_pixels(image, stored)
    return image


def _image_type(source: list[str]) -> list[str]:
    """DERIVED, keeping the rest: the Enhanced IODs define values 2 to 4 (PS3.3 C.8.16.1), OTHER is none of them."""
    return ["DERIVED", *source[1:4]]


def _evidence(source: Dataset) -> Dataset:
    """Source Image Evidence Sequence item (PS3.3 C.8.13.2): the study and series of every source image."""
    series = Dataset()
    series.SeriesInstanceUID = source.SeriesInstanceUID
    series.ReferencedSOPSequence = DicomSequence([referenced_instance(source)])
    study = Dataset()
    study.StudyInstanceUID = source.StudyInstanceUID
    study.ReferencedSeriesSequence = DicomSequence([series])
    return study


def _describe_frame(group: Dataset, source_image: Dataset, provenance: Provenance) -> None:
    """Replace the Derivation Image functional group (PS3.3 C.7.6.16.2.6) of one frame."""
    derivation = Dataset()
    derivation.DerivationDescription = marks.derivation_description(provenance)
    derivation.DerivationCodeSequence = DicomSequence([code_item(marks.DERIVATION)])
    derivation.SourceImageSequence = DicomSequence([source_image])
    group.DerivationImageSequence = DicomSequence([derivation])
