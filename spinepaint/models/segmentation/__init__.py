"""Segmentation of vertebral bodies, discs and canal on sagittal slices: a plain network, and diffusion that starts from it."""

from spinepaint.models.segmentation.config import STRUCTURES, DenoiserConfig, EnsembleConfig, PlainConfig, SegmenterConfig
from spinepaint.models.segmentation.networks import Denoiser, ImageEncoder, PlainSegmenter
from spinepaint.models.segmentation.segment import Segmentation, Segmenters, segment

__all__ = [
    "STRUCTURES",
    "Denoiser",
    "DenoiserConfig",
    "EnsembleConfig",
    "ImageEncoder",
    "PlainConfig",
    "PlainSegmenter",
    "Segmentation",
    "SegmenterConfig",
    "Segmenters",
    "segment",
]
