"""Segmentation of vertebral bodies, discs and canal on sagittal slices: a plain network, and diffusion that starts from it."""

from spinepaint.models.segmentation.config import (
    STRUCTURES,
    DenoiserConfig,
    EnsembleConfig,
    PlainConfig,
    SegmenterConfig,
    segmenter_config,
)
from spinepaint.models.segmentation.networks import DiffusionNetwork, PlainSegmenter
from spinepaint.models.segmentation.segment import Segmentation, Segmenters, segment

__all__ = [
    "STRUCTURES",
    "DenoiserConfig",
    "DiffusionNetwork",
    "EnsembleConfig",
    "PlainConfig",
    "PlainSegmenter",
    "Segmentation",
    "SegmenterConfig",
    "Segmenters",
    "segment",
    "segmenter_config",
]
