"""What every object that is made about a series has in common with it, and how highdicom is given a series."""

from collections.abc import Callable, Iterator, Sequence
from copy import copy

from pydicom import Dataset
from pydicom.uid import UID
from pydicom.valuerep import DSfloat

# Copied from the series as they are: highdicom takes only some values of them, and sources have others.
_PATIENT_AND_STUDY = (
    "SpecificCharacterSet", "TimezoneOffsetFromUTC", "PatientName", "PatientID", "PatientBirthDate", "PatientSex",
    "PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence",
    "LongitudinalTemporalInformationModified",
    "StudyDate", "StudyTime", "StudyID", "StudyDescription", "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip


def acceptable(datasets: Sequence[Dataset], *, thickness_mm: float | None = None) -> list[Dataset]:
    """A series without its pixels and without the patient and study values that highdicom may not take.

    thickness_mm: of slices that say none. A segmentation must have one; where a source lost its own, its voxels reach from
    slice to slice.
    """
    images = []
    for dataset in datasets:
        image = Dataset()
        image.update({e.tag: e for e in dataset if e.keyword not in ("PixelData", *_PATIENT_AND_STUDY)})
        for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime"):
            setattr(image, keyword, None)
        for keyword in ("StudyID", "AccessionNumber", "ReferringPhysicianName"):
            setattr(image, keyword, None)
        image.file_meta = copy(dataset.file_meta)
        if "SharedFunctionalGroupsSequence" in image:
            image.SharedFunctionalGroupsSequence = [_with_plane(dataset)]
        if thickness_mm and "NumberOfFrames" not in image and not image.get("SliceThickness"):
            image.SliceThickness = DSfloat(thickness_mm, auto_format=True)
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


def place_in_study(label: Dataset, first: Dataset) -> None:
    """Give an object the patient, the study and the times of the series whose first data set is `first`.

    No clock is read, so that a repeat gives the same bytes.
    """
    for keyword in _PATIENT_AND_STUDY:
        label.pop(keyword, None)
        if keyword in first:
            label.add(first[keyword])
    # Content Date and Time must have a value.
    label.ContentDate = _first_value(first, ("ContentDate", "SeriesDate", "AcquisitionDate", "StudyDate"), "19000101")
    label.ContentTime = _first_value(first, ("ContentTime", "SeriesTime", "AcquisitionTime", "StudyTime"), "000000")
    label.InstanceCreationDate, label.InstanceCreationTime = label.ContentDate, label.ContentTime


def rename_dimensions(label: Dataset, uid: Callable[[int], UID]) -> None:
    """Replace the dimension organizations' UIDs, which highdicom draws, everywhere; `uid` names them by their number."""
    for n, item in enumerate(label.DimensionOrganizationSequence):
        _replace_uid(label, "DimensionOrganizationUID", UID(item.DimensionOrganizationUID), uid(n))


def _first_value(dataset: Dataset, keywords: tuple[str, ...], default: str) -> str:
    return next((str(dataset[keyword].value) for keyword in keywords if dataset.get(keyword)), default)


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
