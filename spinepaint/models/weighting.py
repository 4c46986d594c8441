"""How much each voxel may change, by its distance from the landmark in millimetres."""

import torch
from torch import Tensor

ROI_THRESHOLD = 0.1


def cell_centres_mm(shape: tuple[int, int, int], extent_mm: tuple[float, float, float]) -> Tensor:
    """Centres of a grid's cells, (X, Y, Z, 3) in mm from the outer corner of the first cell."""
    axes = [(torch.arange(n, dtype=torch.float64) + 0.5) * (length / n) for n, length in zip(shape, extent_mm, strict=True)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)


def gaussian_weight(
    shape: tuple[int, int, int],
    extent_mm: tuple[float, float, float],
    landmark_mm: tuple[float, float, float],
    sigma_mm: float = 16.0,
) -> Tensor:
    """W = exp(−‖x − μ‖² / 2σ²) at the cells' centres; float32 (1, 1, X, Y, Z), 1 at the landmark.

    arXiv 2406.02477 prints a prefactor 1/(σ√2π), which would cap W at 0.025 and leave the paper's own
    region {W > 0.1} empty; it is peak-normalised here. `landmark_mm` is in the crop's own frame, from
    the outer corner of its first cell.
    """
    offset = cell_centres_mm(shape, extent_mm) - torch.tensor(landmark_mm, dtype=torch.float64)
    return torch.exp(-offset.square().sum(-1) / (2 * sigma_mm**2)).float()[None, None]


def roi(weight: Tensor) -> Tensor:
    """The binary region {W > 0.1} of the masked and repaint baselines, as `weight`'s dtype."""
    return (weight > ROI_THRESHOLD).to(weight.dtype)
