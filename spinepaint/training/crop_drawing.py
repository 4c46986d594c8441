"""Batches of latent crops, whole or cut down to a window around the landmark."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from spinepaint.training.crops import Latents


@dataclass(frozen=True)
class CropDrawer:
    """Draws from crops of one size: `extent_mm`, and voxels of `grid` before encoding (÷4 in plane)."""

    extent_mm: tuple[float, float, float]
    grid: tuple[int, int, int]

    @property
    def cell_mm(self) -> tuple[float, float, float]:
        """Size of a latent cell."""
        (x, y, z), (rows, columns, slices) = self.extent_mm, self.grid
        return 4 * x / rows, 4 * y / columns, z / slices

    def draw(self, rng: np.random.Generator, sources: Sequence[Latents], count: int) -> dict[str, Tensor]:
        """`count` crops, each from a source drawn evenly, half of them mirrored left to right."""
        rows = []
        for _ in range(count):
            source = sources[int(rng.integers(len(sources)))]
            row = {name: value[int(index)] for index in [rng.integers(len(source))] for name, value in vars(source).items()}
            if rng.random() < 0.5:
                # Slices are apart in the latent, so a mirrored latent is the latent of the mirrored crop.
                row |= {name: row[name].flip(-1) for name in ("latent", "donor", "slice_weight")}
                row["landmark_mm"] = row["landmark_mm"] * torch.tensor([1, 1, -1]) + torch.tensor([0, 0, self.extent_mm[2]])
            rows.append(row)
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}

    def windowed(self, batch: dict[str, Tensor], rng: np.random.Generator, window: tuple[int, int, int]) -> dict[str, Tensor]:
        """Each crop cut down to the window around its landmark, give or take two cells."""
        cell, shape = np.array(self.cell_mm), np.array(batch["latent"].shape[2:])
        side = np.minimum(window, shape)
        cut: dict[str, list[Tensor]] = {"latent": [], "donor": [], "slice_weight": [], "landmark_mm": []}
        for n, landmark in enumerate(batch["landmark_mm"]):
            wanted = (landmark.numpy() / cell - side / 2 + rng.integers(-2, 3, 3)).round().astype(int)
            first = np.clip(wanted, 0, shape - side)
            x, y, z = (slice(int(start), int(start + length)) for start, length in zip(first, side, strict=True))
            cut["latent"].append(batch["latent"][n, :, x, y, z])
            cut["donor"].append(batch["donor"][n, :, x, y, z])
            cut["slice_weight"].append(batch["slice_weight"][n, z])
            cut["landmark_mm"].append(landmark - torch.from_numpy(cell * first).float())
        return {**batch, **{name: torch.stack(values) for name, values in cut.items()}}
