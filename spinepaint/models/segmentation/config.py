"""Sizes of the segmenter's two networks, and how it is sampled. JSON-able, as a bundle keeps them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

STRUCTURES = ("vertebrae", "discs", "canal")
"""The mask channels in order; in a label volume they are 1, 2 and 3. Vertebrae are vertebral bodies, those of the sacrum too."""

NEIGHBOURS = 3  # a slice is seen with the one before and the one after


@dataclass(frozen=True)
class PlainConfig:
    """The plain network: `filters` of its levels, from fine to coarse; `unshuffle` pixels a side become channels first.

    Unshuffling by two lets every convolution work on a quarter of the pixels and costs no detail, since the output is
    shuffled back.
    """

    filters: tuple[int, ...] = (32, 48, 64, 96)
    unshuffle: int = 2

    def __post_init__(self) -> None:
        # Of fewer than sixteen channels oneDNN's strided 1x1 convolution writes beyond its memory on the way back.
        if len(self.filters) < 3 or any(width < 16 or width % 8 for width in self.filters):
            raise ValueError("filters must be at least three multiples of 8, none below 16")


@dataclass(frozen=True)
class DenoiserConfig:
    """The image encoder and the denoiser, of the same widths. arXiv 2411.10755 has (64, 64, 128, 256, 512) with `unshuffle` 1."""

    widths: tuple[int, ...] = (32, 48, 64, 96)
    unshuffle: int = 2
    time_channels: int = 64


@dataclass(frozen=True)
class EnsembleConfig:
    """How masks are drawn unless a caller says otherwise.

    steps: T, the noise levels between the noised pre-segmentation and the mask; more than `most_evaluations` are strided over,
    as DDIM does. samples: S. last_steps: T_s, how many of the last steps each sample is averaged over.
    """

    steps: int = 10
    samples: int = 2
    last_steps: int = 4
    most_evaluations: int = 50

    def __post_init__(self) -> None:
        if min(self.steps, self.samples, self.last_steps, self.most_evaluations) < 1:
            raise ValueError("steps, samples, last_steps and most_evaluations must be at least 1")


@dataclass(frozen=True)
class SegmenterConfig:
    """Everything that a bundle says of its segmenter. `spacing_mm`: of the pixels that the networks see."""

    plain: PlainConfig = field(default_factory=PlainConfig)
    denoiser: DenoiserConfig = field(default_factory=DenoiserConfig)
    ensemble: EnsembleConfig = field(default_factory=EnsembleConfig)
    spacing_mm: float = 1.25

    @property
    def multiple(self) -> int:
        """What the sides of an image must be multiples of."""
        halvings = (len(self.plain.filters) - 1, len(self.denoiser.widths) - 1)
        return max(4, self.plain.unshuffle << halvings[0], self.denoiser.unshuffle << halvings[1])


def segmenter_config(raw: Mapping[str, Any]) -> SegmenterConfig:
    """The configuration that JSON or YAML holds. Raises KeyError, TypeError or ValueError for another."""
    parts: dict[str, dict[str, Any]] = {
        name: {key: tuple(value) if isinstance(value, list) else value for key, value in raw[name].items()}
        for name in ("plain", "denoiser")
    }
    return SegmenterConfig(
        plain=PlainConfig(**parts["plain"]),
        denoiser=DenoiserConfig(**parts["denoiser"]),
        ensemble=EnsembleConfig(**raw["ensemble"]),
        spacing_mm=float(raw["spacing_mm"]),
    )
