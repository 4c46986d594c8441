"""Arrays on a series' grid as NIfTI."""

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray


def write_nifti(path: Path, array: NDArray[Any], affine: NDArray[np.float64]) -> None:
    """Write (slice, row, column) values as compressed NIfTI (`.nii.gz`).

    affine: 4x4 from (slice, row, column, 1) to patient LPS mm, as a Volume has it. Raises ValueError for another suffix.
    """
    if not path.name.endswith(".nii.gz"):
        raise ValueError(f"{path.name} does not end in .nii.gz")
    image = sitk.GetImageFromArray(np.ascontiguousarray(array))
    # SimpleITK counts (column, row, slice) and is LPS, as DICOM is.
    axes = affine[:3, [2, 1, 0]]
    spacing = np.linalg.norm(axes, axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((axes / spacing).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path), True, 1)
