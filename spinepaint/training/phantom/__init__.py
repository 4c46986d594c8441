"""A digital phantom of the lumbar spine in sagittal T2 and T1: unlimited examinations with exact truth."""

from spinepaint.training.phantom.dicom import write_series
from spinepaint.training.phantom.morphometry import IntensityMeasure, Morphometry, measure_intensity
from spinepaint.training.phantom.phantom import Phantom, make_phantom
from spinepaint.training.phantom.tissues import (
    CANAL_TISSUES,
    DISC_TISSUES,
    FSU_UPPER,
    VERTEBRAE,
    Tissue,
    Weighting,
)

__all__ = [
    "CANAL_TISSUES",
    "DISC_TISSUES",
    "FSU_UPPER",
    "VERTEBRAE",
    "IntensityMeasure",
    "Morphometry",
    "Phantom",
    "Tissue",
    "Weighting",
    "make_phantom",
    "measure_intensity",
    "write_series",
]
