"""Fitting the vector-quantised autoencoder on 2D slices, real ones and the phantom's."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional

from spinepaint.models.autoencoder import AutoencoderConfig, SliceAutoencoder, commitment
from spinepaint.models.intensity import IntensityRange
from spinepaint.models.memory import channels_last
from spinepaint.training.fitting import Stateful, cosine_rate, fit, generator_for
from spinepaint.training.spider import is_held_out, read_slices
from spinepaint.training.vqgan import Adversary, Perceptual

GRID = 128
_HELD_OUT = range(10**6, 10**6 + 6)


@dataclass(frozen=True)
class AutoencoderTraining:
    """Settings of `spinepaint train autoencoder`.

    `spider` is the folder of real slices (None: phantoms alone); `phantoms` how many phantoms give
    slices; `quantise_from` the step at which the codebook comes in. `perceptual` and `adversarial` are the weights of the
    VQGAN's terms (0 for none), which come in at the step `sharpen_from`: late, or they hinder the pixels' own loss. `start`
    is a finished run to begin from; where this model has more latent channels, the new ones begin unheard by the decoder.
    """

    run: str
    start: str | None = None
    spider: str | None = None
    phantoms: int = 40
    phantom_share: float = 0.3
    spacing_mm: float = 0.625
    steps: int = 4000
    quantise_from: int = 1500
    perceptual: float = 0.0
    adversarial: float = 0.0
    sharpen_from: int = 3000
    batch: int = 16
    rate: float = 1e-3
    final_rate: float = 5e-5
    seed: int = 0
    threads: int = 2
    max_minutes: float | None = None
    model: dict[str, Any] = field(default_factory=dict)


def resample(image: NDArray[np.float32], spacing: tuple[float, float], wanted_mm: float) -> NDArray[np.float32]:
    """A 2D image at an isotropic spacing, low-passed first where it is made coarser."""
    zoom = (spacing[0] / wanted_mm, spacing[1] / wanted_mm)
    if min(zoom) < 1:
        image = ndimage.gaussian_filter(image, [max(0.0, 0.4 * (1 / z - 1)) for z in zoom])
    return np.asarray(ndimage.zoom(image, zoom, order=3, mode="nearest"), dtype=np.float32)


def real_slices(folder: Path, spacing_mm: float, *, held_out: bool) -> list[NDArray[np.float32]]:
    """SPIDER's T2 slices of one split at `spacing_mm`."""
    return [
        resample(item.image, item.spacing, spacing_mm) for item in read_slices(folder) if is_held_out(item.patient) == held_out
    ]


def phantom_slices(seeds: Sequence[int], spacing_mm: float) -> list[NDArray[np.float32]]:
    """Three sagittal slices (middle, paramedian, lateral) of each phantom at `spacing_mm`."""
    if not seeds:
        return []
    from spinepaint.training.phantom import make_phantom

    slices = []
    for seed in seeds:
        phantom = make_phantom(seed)
        spacing = np.linalg.norm(phantom.affine[:3, 1:3], axis=0)
        middle = len(phantom.voxels) // 2
        for index in (middle, middle + 2, middle - 4):
            slices.append(resample(phantom.voxels[index], (float(spacing[0]), float(spacing[1])), spacing_mm))
    return slices


def random_crop(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """A normalised, flipped and contrast-jittered 128² crop; near-empty places (air) are drawn again."""
    padded = np.pad(image, [(0, max(0, GRID - n)) for n in image.shape], mode="edge")
    for _ in range(4):
        row, column = (int(rng.integers(0, n - GRID + 1)) for n in padded.shape)
        crop = padded[row : row + GRID, column : column + GRID]
        if crop.std() > 0.15 * image.std():
            break
    if rng.random() < 0.3:
        crop = ndimage.gaussian_filter(crop, rng.uniform(0.3, 0.9))
    crop = IntensityRange.of(crop).normalise(crop)
    crop = crop[:: rng.choice((-1, 1)), :: rng.choice((-1, 1))]
    if rng.random() < 0.5:
        crop = crop.T
    gamma = np.exp(rng.uniform(-0.3, 0.3))
    crop = np.sign(crop + 1) * np.abs((crop + 1) / 2) ** gamma * 2 - 1
    return np.ascontiguousarray(crop * rng.uniform(0.9, 1.1) + rng.uniform(-0.1, 0.1), dtype=np.float32)


class AutoencoderTask:
    """L1 + ½ MSE + commitment; the codebook follows by moving averages once it has come in."""

    def __init__(self, config: AutoencoderTraining) -> None:
        torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        self.config = config
        self.model = channels_last(SliceAutoencoder(AutoencoderConfig(**config.model)))
        if config.start:
            _begin_from(self.model, Path(config.start))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), config.rate, weight_decay=1e-4)
        self.perceptual = Perceptual() if config.perceptual else None
        self.adversary = Adversary(config.rate / 4) if config.adversarial else None
        self.real = real_slices(Path(config.spider), config.spacing_mm, held_out=False) if config.spider else []
        self.phantom = phantom_slices(range(config.phantoms), config.spacing_mm)
        held_out = real_slices(Path(config.spider), config.spacing_mm, held_out=True) if config.spider else []
        rng = np.random.default_rng(config.seed)
        self.validation = {
            "real": [_centre(image) for image in held_out],
            "phantom": [random_crop(image, rng) for image in phantom_slices(_HELD_OUT[: config.phantoms], config.spacing_mm)],
        }
        self.share = 1.0 if not self.real else config.phantom_share if self.phantom else 0.0

    def parts(self) -> dict[str, Stateful]:
        """Weights with the codebook's averages, and the optimiser."""
        kept: dict[str, Stateful] = {"model": _WithBuffers(self.model), "optimizer": self.optimizer}
        return kept | ({"adversary": self.adversary} if self.adversary else {})

    def step(self, number: int) -> dict[str, float]:
        """One optimiser step."""
        config, rng = self.config, generator_for(self.config.seed, number)
        rate = cosine_rate(number, config.steps, top=config.rate, bottom=config.final_rate)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        crops = []
        for _ in range(config.batch):
            pool = self.phantom if rng.random() < self.share else self.real
            crops.append(random_crop(pool[int(rng.integers(len(pool)))], rng))
        target = torch.from_numpy(np.stack(crops))[:, None].to(memory_format=torch.channels_last)
        quantise = number >= config.quantise_from
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        with torch.autocast("cpu", torch.bfloat16):
            latents = self.model.encoder(target)
            use = self.model.codebook.update(latents, generator) if quantise else 0.0
            decoded = self.model.decoder(self.model.codebook(latents) if quantise else latents).float()
        loss = functional.l1_loss(decoded, target) + 0.5 * functional.mse_loss(decoded, target)
        if quantise:
            loss = loss + 0.25 * commitment(latents, self.model.codebook)
        sharpening = number >= config.sharpen_from
        if self.perceptual and sharpening:
            loss = loss + config.perceptual * self.perceptual(decoded, target)
        if self.adversary and sharpening:
            loss = loss + config.adversarial * self.adversary.generator_term(decoded)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        judged = {"adversary": self.adversary.learn(decoded, target)} if self.adversary and sharpening else {}
        return {"loss": loss.item(), "codes": use, **judged}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """PSNR in dB on held-out slices, with the quantisation that serving has."""
        quantise = bool(self.model.codebook.started)
        return {
            f"psnr_{name}": float(np.mean([_psnr(self.model, crop, quantise) for crop in crops]))
            for name, crops in self.validation.items()
            if crops
        }


class _WithBuffers:
    """A module whose checkpoint also holds the buffers that its shipped weights leave out."""

    def __init__(self, module: SliceAutoencoder) -> None:
        self.module = module

    def state_dict(self) -> dict[str, Any]:
        extra = {name: buffer.clone() for name, buffer in self.module.codebook.named_buffers()}
        return {"module": self.module.state_dict(), "codebook": extra}

    def load_state_dict(self, state_dict: Any) -> None:
        self.module.load_state_dict(state_dict["module"])
        for name, buffer in self.module.codebook.named_buffers():
            buffer.copy_(state_dict["codebook"][name])


@torch.no_grad()
def _begin_from(model: SliceAutoencoder, run: Path) -> None:
    """Weights of a finished run, which may have had fewer latent channels."""
    given = torch.load(run / "checkpoint.pt", map_location="cpu", weights_only=True)["parts"]["model"]["module"]
    for name, parameter in model.named_parameters():
        if parameter.shape == given[name].shape:
            parameter.copy_(given[name])
            continue
        fits = tuple(slice(0, n) for n in given[name].shape)
        if name.startswith("decoder"):
            parameter.zero_()
        parameter[fits] = given[name]


def _centre(image: NDArray[np.float32]) -> NDArray[np.float32]:
    row, column = ((n - GRID) // 2 for n in image.shape)
    crop = image[row : row + GRID, column : column + GRID]
    return IntensityRange.of(crop).normalise(crop)


def _psnr(model: SliceAutoencoder, crop: NDArray[np.float32], quantise: bool) -> float:
    # Range 2: the normalised range is [-1, 1].
    target = torch.from_numpy(np.ascontiguousarray(crop))[None, None]
    decoded = model.reconstruct(target, quantise=quantise)[0]
    return float(10 * torch.log10(4.0 / functional.mse_loss(decoded, target)))


def train_autoencoder(config: AutoencoderTraining) -> dict[str, float]:
    """Run or resume the fit; the weights are in `<run>/checkpoint.pt`, their latent scale in `latent_scale.json`."""
    task = AutoencoderTask(config)
    figures = fit(task, Path(config.run), config.steps, max_minutes=config.max_minutes)
    figures["latent_scale"] = 1.0 / latent_std(task)
    (Path(config.run) / "latent_scale.json").write_text(json.dumps({"latent_scale": figures["latent_scale"]}))
    return figures


@torch.no_grad()
def latent_std(task: AutoencoderTask, crops: int = 256) -> float:
    """Standard deviation of the raw latents of training crops: diffusion wants them at unit variance."""
    rng, pool = np.random.default_rng(task.config.seed), [*task.real, *task.phantom]
    slices = np.stack([random_crop(pool[int(rng.integers(len(pool)))], rng) for _ in range(crops)])
    return float(task.model.encoder(torch.from_numpy(slices)[:, None]).std())
