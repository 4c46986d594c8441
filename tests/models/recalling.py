"""A segmenter that stands in for a fitted one: it looks at nothing and says label volumes that it was given, one a series."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from spinepaint.models.localiser import to_grid
from spinepaint.models.segmentation import STRUCTURES, DenoiserConfig, DiffusionNetwork, PlainConfig, SegmenterConfig, Segmenters

CONFIG = SegmenterConfig(PlainConfig(filters=(16, 16, 16)), DenoiserConfig(widths=(16, 16)))


class Recalling(nn.Module):
    """Logits of the next slices of `volumes`, uint8 (slice, row, column) on the series' grid, one volume after the other."""

    def __init__(self, volumes: list[np.ndarray], spacing_mm: tuple[float, float, float]) -> None:
        super().__init__()
        self.series = 0
        self._slices = [
            to_grid(torch.from_numpy(np.stack([volume == k + 1 for k in range(len(STRUCTURES))], axis=1).astype(np.float32)),
                    spacing_mm[1:], CONFIG.spacing_mm, CONFIG.multiple)
            for volume in volumes
        ]  # fmt: skip
        self._next = 0

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) → (B, structures, H, W)."""
        slices = self._slices[self.series]
        part = slices[self._next : self._next + len(image)]
        assert part.shape[2:] == image.shape[2:]
        self._next += len(image)
        if self._next == len(slices):
            self.series, self._next = self.series + 1, 0
        return 16 * (functional.interpolate(part, size=image.shape[2:]) - 0.5)


def recalling(volumes: list[np.ndarray], spacing_mm: tuple[float, float, float]) -> Segmenters:
    """A segmenter that has one volume of labels for each series that it will be shown."""
    return Segmenters(CONFIG, Recalling(volumes, spacing_mm), DiffusionNetwork(CONFIG.denoiser))  # type: ignore[arg-type]
