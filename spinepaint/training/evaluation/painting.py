"""Painting one level of one volume by each of the methods that are compared, all with the same networks and budget."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from spinepaint.imaging.crop import Vector, cut
from spinepaint.imaging.paste import Pasted, paste_blend, paste_difference, paste_mask
from spinepaint.imaging.vocabulary import Fsu, fsu_index
from spinepaint.imaging.volume import Volume
from spinepaint.models.bundle import Bundle, draw_degree, guidance_for
from spinepaint.models.inpaint import METHODS, Decoded, Draw, Inpainter, begin, denoiser, finish, inpaint
from spinepaint.models.intensity import IntensityRange
from spinepaint.models.placement import half_precision
from spinepaint.models.samplers import SAMPLERS, StepHook
from spinepaint.models.schedule import add_noise

DIFFERENTIAL = "differential"
BLIND = ":blind"
VARIANTS = tuple(method + suffix for method in (*METHODS, DIFFERENTIAL) for suffix in ("", BLIND))
"""Methods by name; those that end in `:blind` do not show the network the untouched donor, as in the paper."""


@dataclass(frozen=True)
class Order:
    """What to paint: a condition's index, a level, a landmark in patient LPS mm, by which variant, and how finely."""

    condition: int
    fsu: Fsu
    landmark_lps_mm: Vector
    variant: str
    seed: int
    steps: int


@dataclass(frozen=True)
class Painted:
    """The edited series, the grey values that its crop's range stands for, and the degree that was asked for."""

    pasted: Pasted
    intensity: IntensityRange
    degree: float | None


def paint(models: Bundle, volume: Volume, order: Order) -> Painted:
    """Cut, paint and paste back by the bundle's own settings, as a caller of the service would have it done.

    Raises ValueError for an unknown variant.
    """
    if order.variant not in VARIANTS:
        raise ValueError(f"unknown method {order.variant!r}; choose from: {', '.join(VARIANTS)}")
    config, method = models.config, order.variant.removesuffix(BLIND)
    crop = cut(volume, order.landmark_lps_mm, config.crop.extent_mm, config.crop.grid)
    intensity = IntensityRange.of(crop.voxels)
    degree = draw_degree(config.sampling, order.condition, order.seed)
    draw = Draw(
        condition=order.condition,
        fsu=fsu_index(order.fsu),
        landmark_mm=crop.to_corner_mm(order.landmark_lps_mm),
        sigma_mm=config.sampling.sigma_mm,
        method="weighted" if method == DIFFERENTIAL else method,  # type: ignore[arg-type]
        solver=config.sampling.solver,
        steps=order.steps,
        guidance=guidance_for(config.sampling, order.condition),
        seed=order.seed,
        degree=degree,
        see_donor=not order.variant.endswith(BLIND),
    )
    normalised = torch.from_numpy(np.ascontiguousarray(intensity.normalise(crop.voxels)))
    decoded = (differential if method == DIFFERENTIAL else inpaint)(models.inpainter, normalised, draw)
    mask = paste_mask(volume, order.landmark_lps_mm, config.paste.inner_mm, config.paste.outer_mm)
    edit, original = decoded.edit.numpy(), decoded.original.numpy()
    if config.paste.mode == "blend":
        return Painted(paste_blend(volume, crop, intensity.restore(edit), mask), intensity, degree)
    return Painted(paste_difference(volume, crop, intensity.restore_difference(edit - original), mask), intensity, degree)


def differential(models: Inpainter, crop: Tensor, draw: Draw) -> Decoded:
    """Differential Diffusion (Levin and Fried 2023, alg. 1) with W as its change map.

    A whole-image model: every voxel is at the global time, but until that time has fallen to W·T the voxel is the original
    noised to it. crop (X, Y, Z), normalised; `draw.method` is not looked at.
    """
    begun = begin(models, crop, draw)
    device = begun.latent.device
    with torch.inference_mode(), half_precision(device):
        alpha_bar = models.alpha_bar.to(device)
        everywhere = torch.ones_like(begun.gaussian)
        start = add_noise(begun.latent, begun.noise, alpha_bar[-1]).float()
        hook = held_until_due(begun.latent, begun.noise, begun.gaussian, alpha_bar)
        denoise = denoiser(models.unet, begun.latent, everywhere, alpha_bar, draw)
        sampled = SAMPLERS[draw.solver](denoise, start, everywhere, alpha_bar, draw.steps, hook)
    return finish(models, begun, sampled)


def held_until_due(latent: Tensor, noise: Tensor, change: Tensor, alpha_bar: Tensor) -> StepHook:
    """The step hook that puts the noised original wherever the change map is under the share of time that is left."""
    total = len(alpha_bar) - 1

    def hold(x: Tensor, t: int) -> Tensor:
        return torch.where(change < t / total, add_noise(latent, noise, alpha_bar[t]).float(), x)

    return hold
