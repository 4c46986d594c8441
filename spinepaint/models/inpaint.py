"""Inpainting a crop's latent with a noise level per voxel: the three methods behind one call."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from spinepaint.models.autoencoder import SliceAutoencoder
from spinepaint.models.prediction import noise_of
from spinepaint.models.samplers import SAMPLERS, Denoiser, StepHook, evaluations, keep
from spinepaint.models.schedule import add_noise, voxel_times
from spinepaint.models.unet import ConditionalUNet
from spinepaint.models.weighting import gaussian_weight, roi

Method = Literal["weighted", "masked", "repaint"]
METHODS: tuple[Method, ...] = ("weighted", "masked", "repaint")


@dataclass(frozen=True)
class Inpainter:
    """The networks and the schedule that belong together."""

    autoencoder: SliceAutoencoder
    unet: ConditionalUNet
    alpha_bar: Tensor
    extent_mm: tuple[float, float, float]


@dataclass(frozen=True)
class Draw:
    """One sample to draw: what, where (mm in the crop's frame, from its outer corner), and how.

    `degree`: how far along the pathology, 0 to 1 (see `docs/2-definitions.md`); None leaves it to the class. `see_donor`:
    whether a network that can look at the untouched latent does; without, it paints from the surround alone, as in the paper.
    """

    condition: int
    fsu: int
    landmark_mm: tuple[float, float, float]
    sigma_mm: float = 16.0
    method: Method = "weighted"
    solver: str = "pndm"
    steps: int = 50
    guidance: float = 1.0
    seed: int = 0
    degree: float | None = None
    see_donor: bool = True


@dataclass(frozen=True)
class Decoded:
    """Decoded original and decoded edit, both (X, Y, Z) in the networks' range, and the evaluations it took."""

    original: Tensor
    edit: Tensor
    network_evaluations: int


def noise_weight(gaussian: Tensor, method: Method) -> Tensor:
    """How much of the global time each voxel takes: the one difference between the methods' networks inputs.

    `weighted`: W itself (arXiv 2406.02477). `masked`: 1 inside {W > 0.1}, 0 outside, so the known region
    stays clean (Masked-LDM). `repaint`: 1 everywhere, a whole-image model.
    """
    if method == "weighted":
        return gaussian
    return roi(gaussian) if method == "masked" else torch.ones_like(gaussian)


def inpaint(models: Inpainter, crop: Tensor, draw: Draw, progress: Callable[[float], None] = lambda _: None) -> Decoded:
    """Encode, noise by distance from the landmark, denoise, decode.

    crop: (X, Y, Z), normalised. `progress` hears the share of steps done and may raise to stop.
    Deterministic for one `draw` on one platform. Raises ValueError for an unknown method or solver.
    """
    if draw.method not in METHODS:
        raise ValueError(f"unknown method {draw.method!r}; choose one of: {', '.join(METHODS)}")
    if draw.solver not in SAMPLERS:
        raise ValueError(f"unknown solver {draw.solver!r}; choose one of: {', '.join(SAMPLERS)}")
    device = next(models.unet.parameters()).device
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16):
        latent = models.autoencoder.encode(crop[None, None].to(device)).float()
        shape: tuple[int, int, int] = (latent.shape[2], latent.shape[3], latent.shape[4])
        gaussian = gaussian_weight(shape, models.extent_mm, draw.landmark_mm, draw.sigma_mm).to(device)
        weight = noise_weight(gaussian, draw.method)
        alpha_bar = models.alpha_bar.to(device)
        # Drawn on the CPU whatever the device, so that a seed means the same noise everywhere.
        generator = torch.Generator().manual_seed(draw.seed)
        noise = torch.randn(latent.shape, generator=generator).to(device)
        total = len(alpha_bar) - 1
        start = add_noise(latent, noise, alpha_bar[voxel_times(weight, total)]).float()
        hook = _repainting(latent, noise, roi(gaussian), alpha_bar) if draw.method == "repaint" else keep
        hook = _reporting(hook, total, progress)
        denoise = denoiser(models.unet, latent, weight, alpha_bar, draw)
        sampled = SAMPLERS[draw.solver](denoise, start, weight, alpha_bar, draw.steps, hook)
        both = models.autoencoder.decode(torch.cat([latent, sampled])).float().cpu()
    calls = evaluations(draw.solver, draw.steps) * (1 if draw.guidance == 1.0 else 2)
    return Decoded(original=both[0, 0].clone(), edit=both[1, 0].clone(), network_evaluations=calls)


def denoiser(unet: ConditionalUNet, latent: Tensor, weight: Tensor, alpha_bar: Tensor, draw: Draw) -> Denoiser:
    """ε with classifier-free guidance (Ho and Salimans 2022, eq. 6); both halves run as one batch."""
    device = weight.device
    unconditional = torch.tensor([unet.config.conditions], device=device)
    condition = torch.tensor([draw.condition], device=device)
    fsu = torch.tensor([draw.fsu], device=device)
    untold = torch.tensor([torch.nan], device=device)
    degree = untold if draw.degree is None else torch.tensor([draw.degree], device=device)
    donor = torch.cat([latent, torch.ones_like(weight)], dim=1) * float(draw.see_donor)

    def noise(output: Tensor, x: Tensor, t: int) -> Tensor:
        return noise_of(output.float(), x, donor[:, :-1], alpha_bar[voxel_times(weight, t)], unet.config.predicts)

    def eps(x: Tensor, t: int) -> Tensor:
        time = torch.tensor([t], device=device)
        if draw.guidance == 1.0:
            return noise(unet(x, weight, time, condition, fsu, degree, donor), x, t)
        both = unet(
            x.expand(2, -1, -1, -1, -1),
            weight.expand(2, -1, -1, -1, -1),
            time.expand(2),
            torch.cat([unconditional, condition]),
            fsu.expand(2),
            torch.cat([untold, degree]),
            donor.expand(2, -1, -1, -1, -1),
        ).float()
        return noise(both[:1] + draw.guidance * (both[1:] - both[:1]), x, t)

    return eps


def _repainting(latent: Tensor, noise: Tensor, inside: Tensor, alpha_bar: Tensor) -> StepHook:
    """After each step the latent outside the region is the original noised to that step (RePaint, eq. 8)."""

    def replace(x: Tensor, t: int) -> Tensor:
        return (inside * x + (1 - inside) * add_noise(latent, noise, alpha_bar[t])).float()

    return replace


def _reporting(hook: StepHook, total: int, progress: Callable[[float], None]) -> StepHook:
    def report(x: Tensor, t: int) -> Tensor:
        progress(1.0 - t / total)
        return hook(x, t)

    return report
