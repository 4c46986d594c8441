"""Inpainting a crop's latent with a noise level per voxel: the three methods behind one call."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from spinepaint.models.autoencoder import SliceAutoencoder
from spinepaint.models.placement import device_of, half_precision
from spinepaint.models.prediction import noise_of
from spinepaint.models.samplers import SAMPLERS, Denoiser, StepHook, evaluations, keep
from spinepaint.models.schedule import add_noise, voxel_times
from spinepaint.models.unet import ConditionalUNet
from spinepaint.models.weighting import gaussian_weight, roi

Method = Literal["weighted", "masked", "repaint"]
Progress = Callable[[float], None]
"""Hears the share of the steps that are done, from 0 to 1; may raise to stop."""
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
    """Decoded original and decoded edit, both (X, Y, Z) in the networks' range, and the evaluations it took.

    batch: rows that were denoised as one, see `batching`.
    """

    original: Tensor
    edit: Tensor
    network_evaluations: int
    batch: int = 1


@dataclass(frozen=True)
class Begun:
    """A draw that is ready to be sampled: its latent and noise (1, C, X, Y, Z) and its weight W (1, 1, X, Y, Z)."""

    draw: Draw
    latent: Tensor
    noise: Tensor
    gaussian: Tensor


def noise_weight(gaussian: Tensor, method: Method) -> Tensor:
    """How much of the global time each voxel takes: the one difference between the methods' networks inputs.

    `weighted`: W itself (arXiv 2406.02477). `masked`: 1 inside {W > 0.1}, 0 outside, so the known region
    stays clean (Masked-LDM). `repaint`: 1 everywhere, a whole-image model.
    """
    if method == "weighted":
        return gaussian
    return roi(gaussian) if method == "masked" else torch.ones_like(gaussian)


def inpaint(models: Inpainter, crop: Tensor, draw: Draw, progress: Progress = lambda _: None) -> Decoded:
    """Encode, noise by distance from the landmark, denoise, decode.

    crop: (X, Y, Z), normalised. `progress` hears the share of steps done and may raise to stop.
    Deterministic for one `draw` on one platform. Raises ValueError for an unknown method or solver.
    """
    begun = begin(models, crop, draw)
    return finish(models, begun, sample(models, [begun], progress))


def begin(models: Inpainter, crop: Tensor, draw: Draw) -> Begun:
    """Encode a crop (X, Y, Z) and draw what is done to its latent. Raises ValueError for an unknown method or solver."""
    if draw.method not in METHODS:
        raise ValueError(f"unknown method {draw.method!r}; choose one of: {', '.join(METHODS)}")
    if draw.solver not in SAMPLERS:
        raise ValueError(f"unknown solver {draw.solver!r}; choose one of: {', '.join(SAMPLERS)}")
    device = device_of(models.unet)
    with torch.inference_mode(), half_precision(device):
        latent = models.autoencoder.encode(crop[None, None].to(device)).float()
        shape: tuple[int, int, int] = (latent.shape[2], latent.shape[3], latent.shape[4])
        gaussian = gaussian_weight(shape, models.extent_mm, draw.landmark_mm, draw.sigma_mm).to(device)
        # Drawn on the CPU whatever the device, so that a seed means the same noise everywhere.
        generator = torch.Generator().manual_seed(draw.seed)
        noise = torch.randn(latent.shape, generator=generator).to(device)
        return Begun(draw, latent, noise, gaussian)


def sample(models: Inpainter, begun: Sequence[Begun], progress: Progress = lambda _: None) -> Tensor:
    """The edited latents (B, C, X, Y, Z), sampled as one batch of draws that have one `batch_key`; as in `inpaint`."""
    draws = [each.draw for each in begun]
    method, solver, steps, _ = batch_key(draws[0])
    device = device_of(models.unet)
    with torch.inference_mode(), half_precision(device):
        latent, noise = (torch.cat(parts) for parts in zip(*((each.latent, each.noise) for each in begun), strict=True))
        gaussian = torch.cat([each.gaussian for each in begun])
        weight = noise_weight(gaussian, method)
        alpha_bar = models.alpha_bar.to(device)
        total = len(alpha_bar) - 1
        start = add_noise(latent, noise, alpha_bar[voxel_times(weight, total)]).float()
        hook = _repainting(latent, noise, roi(gaussian), alpha_bar) if method == "repaint" else keep
        hook = _reporting(hook, total, progress)
        denoise = denoiser(models.unet, latent, weight, alpha_bar, *draws)
        return SAMPLERS[solver](denoise, start, weight, alpha_bar, steps, hook)


def finish(models: Inpainter, begun: Begun, sampled: Tensor, batch: int = 1) -> Decoded:
    """Decode a draw's latent before and after, (1, C, X, Y, Z), sampled among so many; on the CPU."""
    draw = begun.draw
    with torch.inference_mode(), half_precision(sampled.device):
        both = models.autoencoder.decode(torch.cat([begun.latent, sampled])).float().cpu()
    calls = evaluations(draw.solver, draw.steps) * (1 if draw.guidance == 1.0 else 2)
    return Decoded(original=both[0, 0].clone(), edit=both[1, 0].clone(), network_evaluations=calls, batch=batch)


def batch_key(draw: Draw) -> tuple[Method, str, int, bool]:
    """What draws of one batch have in common: method, solver, steps, and whether they are guided; all else is each one's own."""
    return draw.method, draw.solver, draw.steps, draw.guidance != 1.0


def denoiser(unet: ConditionalUNet, latent: Tensor, weight: Tensor, alpha_bar: Tensor, *draws: Draw) -> Denoiser:
    """ε with classifier-free guidance (Ho and Salimans 2022, eq. 6); both halves of all draws run as one batch.

    latent (B, C, X, Y, Z) and weight (B, 1, X, Y, Z) are those of the B draws, which are all guided or none is.
    """
    device = weight.device
    condition, fsu = (torch.tensor(told, device=device) for told in zip(*((d.condition, d.fsu) for d in draws), strict=True))
    unconditional = torch.full_like(condition, unet.config.conditions)
    degree = torch.tensor([torch.nan if draw.degree is None else draw.degree for draw in draws], device=device)
    untold = torch.full_like(degree, torch.nan)
    guidance, sees = (
        torch.tensor(values, device=device)[:, None, None, None, None]
        for values in ([draw.guidance for draw in draws], [float(draw.see_donor) for draw in draws])
    )
    donor = torch.cat([latent, torch.ones_like(weight)], dim=1) * sees
    guided = draws[0].guidance != 1.0

    def noise(output: Tensor, x: Tensor, t: int) -> Tensor:
        return noise_of(output.float(), x, donor[:, :-1], alpha_bar[voxel_times(weight, t)], unet.config.predicts)

    def eps(x: Tensor, t: int) -> Tensor:
        time = torch.full_like(condition, t)
        if not guided:
            return noise(unet(x, weight, time, condition, fsu, degree, donor), x, t)
        without, told = unet(
            torch.cat([x, x]),
            torch.cat([weight, weight]),
            torch.cat([time, time]),
            torch.cat([unconditional, condition]),
            torch.cat([fsu, fsu]),
            torch.cat([untold, degree]),
            torch.cat([donor, donor]),
        ).float().chunk(2)  # fmt: skip
        return noise(without + guidance * (told - without), x, t)

    return eps


def _repainting(latent: Tensor, noise: Tensor, inside: Tensor, alpha_bar: Tensor) -> StepHook:
    """After each step the latent outside the region is the original noised to that step (RePaint, eq. 8)."""

    def replace(x: Tensor, t: int) -> Tensor:
        return (inside * x + (1 - inside) * add_noise(latent, noise, alpha_bar[t])).float()

    return replace


def _reporting(hook: StepHook, total: int, progress: Progress) -> StepHook:
    def report(x: Tensor, t: int) -> Tensor:
        progress(1.0 - t / total)
        return hook(x, t)

    return report
