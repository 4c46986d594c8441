"""Opening a series of a data set, in whatever format it is released."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from spinepaint.imaging.errors import Refusal
from spinepaint.imaging.reading import read_series
from spinepaint.imaging.volume import Volume

IMAGE_SUFFIXES = (".nii", ".nii.gz", ".mha", ".mhd")


def is_image_file(path: Path) -> bool:
    """Whether the name is that of a NIfTI or MetaImage file."""
    return path.name.lower().endswith(IMAGE_SUFFIXES)


@lru_cache(maxsize=2)  # neighbouring cases are of one series
def open_volume(path: Path) -> Volume:
    """A DICOM folder or zip through the product's own checks, or a NIfTI or MetaImage file as it is.

    A file without DICOM has no header to check: that it shows a sagittal T2 lumbar spine is the data set's word.
    Raises Refusal where it cannot be read.
    """
    if not is_image_file(path):
        return read_series(path).volume
    image = read_image(path)
    voxels = np.asarray(sitk.GetArrayFromImage(image), dtype=np.float32)
    ones = np.ones(len(voxels))
    return Volume(voxels, voxels.astype(np.int32), image_affine(image), ones, 0 * ones, ())


def read_image(path: Path) -> sitk.Image:
    """A 3D image file. Raises Refusal `unreadable-file`."""
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise Refusal(
            "unreadable-file", f"{path.name} cannot be read.", "It is missing, damaged or of another format."
        ) from error
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise Refusal("unreadable-file", f"{path.name} is not a 3D grey-value image.")
    return image


def image_affine(image: sitk.Image) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """4x4 from array indices (the reverse of SimpleITK's) to LPS mm, in which SimpleITK keeps every format."""
    directions = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine = np.eye(4)
    affine[:3, :3] = directions[:, ::-1]
    affine[:3, 3] = image.GetOrigin()
    return affine
