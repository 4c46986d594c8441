"""Fitting the conditional denoiser on latents with a noise level per voxel."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from spinepaint.models.bundle import CropConfig, ScheduleConfig
from spinepaint.models.inpaint import METHODS, Draw, Inpainter, inpaint, noise_weight
from spinepaint.models.memory import channels_last
from spinepaint.models.prediction import target_of
from spinepaint.models.schedule import alpha_bar_table, voxel_times
from spinepaint.models.unet import ConditionalUNet
from spinepaint.models.weighting import gaussian_weight
from spinepaint.training import parallel
from spinepaint.training.bundles import denoiser_for, read_autoencoder
from spinepaint.training.crop_drawing import CropDrawer
from spinepaint.training.crops import load_latents
from spinepaint.training.fitting import Patience, Stateful, cosine_rate, fit, generator_for
from spinepaint.training.latent_data import HELD_OUT, LatentData, prepare
from spinepaint.training.noising import draw_times, noise_towards
from spinepaint.training.starting_weights import starting_weights


@dataclass(frozen=True)
class InpainterTraining:
    """Settings of `spinepaint train inpainter`.

    `data`: the crops to learn from and to validate on (see `LatentData`).
    `masked`, `repaint`: shares of steps that see the baselines' weights, so that one network serves all three methods.
    `forget`, `forget_degree`, `forget_donor`: shares of conditions hidden, for guidance; of degrees alone; and of donors, so
    that one network also paints from the surround alone.
    `window`: what a step looks at around the landmark, in latent cells, at a fraction of the whole crop's cost; `whole` is the
    share of steps that see whole crops, `whole_batch` of them.
    `time_power`, `late_weight`: the lesion's shape is decided at late times. A power under 1 draws more of them, t = T·uᵖ; the
    weight caps how much more they count (1 for the plain loss in ε; a network that predicts the change needs none).
    `untouched`: share of steps' crops that are noised from the untouched donor, wholly or in part, at times over `untouched_from`
    of the whole: what sampling starts from is the donor, and what little of it shines through the noise tells a network that
    only ever saw noised lesions that there is none (see `docs/3-training.md`).
    `focus`: how many times as much an error counts at the landmark than by W alone, falling off as W⁴ (σ halved).
    `accumulate`: batches a step takes, from each process that torchrun started.
    `patience`: the run stops early after so many validations (one every 500 steps) without a better one.
    `weights`: a file of weights to start from, by the network's names; a network without a degree embedding or a donor may
    teach one that has it.
    """

    run: str
    data: dict[str, Any]
    steps: int = 4000
    batch: int = 8
    accumulate: int = 1
    rate: float = 4e-4
    final_rate: float = 2e-5
    masked: float = 0.1
    repaint: float = 0.1
    forget: float = 0.1
    forget_degree: float = 0.15
    forget_donor: float = 0.15
    window: tuple[int, int, int] = (24, 24, 16)
    whole: float = 0.15
    whole_batch: int = 8
    time_power: float = 1.0
    late_weight: float = 1.0
    untouched: float = 0.0
    untouched_from: float = 0.6
    focus: float = 0.0
    sigma_mm: float = 16.0
    landmark_jitter_mm: float = 1.5
    ema: float = 0.999
    seed: int = 0
    threads: int = 2
    max_minutes: float | None = None
    patience: int | None = None
    weights: str | None = None
    model: dict[str, Any] = field(default_factory=dict)
    crop: dict[str, Any] = field(default_factory=dict)


class Average:
    """Exponential moving average of a network's weights, warmed up so that the first steps do not linger."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.shadow = {name: value.detach().clone() for name, value in network.state_dict().items()}

    def update(self, network: nn.Module, number: int) -> None:
        """Take one step's weights in."""
        decay = min(self.decay, (1 + number) / (10 + number))
        for name, value in network.state_dict().items():
            self.shadow[name].lerp_(value.detach(), 1 - decay)

    def state_dict(self) -> dict[str, Any]:
        """The averaged weights by name."""
        return self.shadow

    def load_state_dict(self, state_dict: Any) -> None:
        """Take averaged weights over from a checkpoint."""
        # A checkpoint is read on the CPU; what is averaged lives where the network is.
        self.shadow = {name: value.to(self.shadow[name].device, copy=True) for name, value in state_dict.items()}


class InpainterTask:
    """Denoising where t_v > 0, weighted by W, so that the capacity goes to where the edit is."""

    def __init__(self, config: InpainterTraining) -> None:
        parallel.start()
        torch.set_num_threads(config.threads)
        self.config = config
        self.device = parallel.training_device()
        crop = CropConfig(**config.crop)
        self.crops = CropDrawer(crop.extent_mm, crop.grid)
        schedule = ScheduleConfig()
        self.alpha_bar = alpha_bar_table(schedule.steps, schedule.beta_start, schedule.beta_end)
        data = LatentData(**config.data)
        self.autoencoder = read_autoencoder(Path(data.autoencoder), data.autoencoder_model).to(self.device)
        torch.manual_seed(config.seed)
        self.unet = channels_last(denoiser_for(self.autoencoder, config.model))
        if config.weights:
            self.unet.load_state_dict(starting_weights(Path(config.weights), self.unet))
        self.unet.to(self.device)
        self.average = Average(self.unet, config.ema)
        self.optimizer = torch.optim.AdamW(self.unet.parameters(), config.rate, weight_decay=1e-4)
        if parallel.rank() == 0:
            prepare(data)
        parallel.wait_for_first()
        shards = prepare(data)
        self.sources = [load_latents(paths) for kind, paths in shards.items() if not kind.endswith(HELD_OUT)]
        self.held_out = {
            kind.removesuffix(HELD_OUT): load_latents(paths) for kind, paths in shards.items() if kind.endswith(HELD_OUT)
        }

    def parts(self) -> dict[str, Stateful]:
        """Weights, their average and the optimiser."""
        return {"unet": self.unet, "average": self.average, "optimizer": self.optimizer}

    def step(self, number: int) -> dict[str, float]:
        """One optimiser step."""
        config, rng = self.config, generator_for(self.config.seed, number)
        for group in self.optimizer.param_groups:
            group["lr"] = cosine_rate(number, config.steps, top=config.rate, bottom=config.final_rate)
        self.optimizer.zero_grad()
        total = 0.0
        for _ in range(config.accumulate):
            whole = rng.random() < config.whole
            batch = self.crops.draw(rng, self.sources, config.whole_batch if whole else config.batch)
            if not whole:
                batch = self.crops.windowed(batch, rng, config.window)
            loss = self._loss(self.unet, batch, rng) / config.accumulate
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        parallel.average_gradients(self.unet)
        nn.utils.clip_grad_norm_(self.unet.parameters(), 1.0)
        self.optimizer.step()
        self.average.update(self.unet, number)
        return {"loss": total}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """The loss of the averaged weights on held-out crops, with the same noise each time."""
        figures = {}
        with self._averaged():
            for kind, held_out in self.held_out.items():
                rng = np.random.default_rng((self.config.seed + 1, 0))
                losses = [float(self._loss(self.unet, self.crops.draw(rng, [held_out], 8), rng)) for _ in range(6)]
                figures[kind] = float(np.mean(losses))
        return figures

    @torch.no_grad()
    def pictures(self) -> dict[str, NDArray[np.float32]]:
        """Of one held-out crop of each source, the slice at the landmark: donor, sample, and what was to be painted."""
        drawn = {}
        with self._averaged():
            models = Inpainter(self.autoencoder, self.unet, self.alpha_bar, self.crops.extent_mm)
            for kind, held_out in self.held_out.items():
                row = {name: value[0] for name, value in vars(held_out).items()}
                known = bool(row["donor"][-1].any())  # annotated data have no donor: the lesion itself is painted over then
                both = torch.stack([row["donor"][:-1] if known else row["latent"], row["latent"]]).float().to(self.device)
                donor, wanted = self.autoencoder.decode(both)[:, 0].float()
                x, y, z = (float(value) for value in row["landmark_mm"])
                draw = Draw(
                    int(row["condition"]), int(row["fsu"]), (x, y, z), solver="ddim", steps=20, degree=float(row["degree"])
                )
                k = min(int(z / self.crops.cell_mm[2]), donor.shape[2] - 1)
                slices = [image[:, :, k].cpu() for image in (donor, inpaint(models, donor, draw).edit, wanted)]
                drawn[kind] = ((torch.cat(slices, dim=1) + 1) / 2).clamp(0, 1).numpy()
        return drawn

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The network with the averaged weights in it."""
        keep = {name: value.clone() for name, value in self.unet.state_dict().items()}
        self.unet.load_state_dict(self.average.shadow)
        try:
            yield
        finally:
            self.unet.load_state_dict(keep)

    def _loss(self, unet: ConditionalUNet, batch: dict[str, Tensor], rng: np.random.Generator) -> Tensor:
        config = self.config
        clean = batch["latent"].float()
        count, _, x, y, z = clean.shape
        extent = (x * self.crops.cell_mm[0], y * self.crops.cell_mm[1], z * self.crops.cell_mm[2])
        gaussians = []
        for landmark in batch["landmark_mm"].numpy():
            a, b, c = landmark + rng.normal(0, config.landmark_jitter_mm, 3)
            gaussians.append(gaussian_weight((x, y, z), extent, (float(a), float(b), float(c)), config.sigma_mm))
        shares = (1 - config.masked - config.repaint, config.masked, config.repaint)
        weight = noise_weight(torch.cat(gaussians), METHODS[int(rng.choice(3, p=shares))])
        times, mixed = draw_times(rng, batch["donor"], config.time_power, config.untouched, config.untouched_from)
        t = torch.ceil(times * (len(self.alpha_bar) - 1)).long()
        alpha_bar = self.alpha_bar[voxel_times(weight, t[:, None, None, None, None])].float()
        drawn = torch.from_numpy(rng.standard_normal(clean.shape, dtype=np.float32))
        noisy, noise = noise_towards(clean, batch["donor"][:, :-1].float(), mixed, drawn, alpha_bar)
        hidden = torch.from_numpy(rng.random(count) < config.forget)
        condition = torch.where(hidden, _untold(unet), batch["condition"])
        unknown = hidden | torch.from_numpy(rng.random(count) < config.forget_degree)
        degree = torch.where(unknown, torch.nan, batch["degree"].float())
        shown = torch.from_numpy(rng.random(count) >= config.forget_donor).float()
        donor = batch["donor"].float() * shown[:, None, None, None, None]
        predicts = unet.config.predicts
        wanted = target_of(noise, clean, donor[:, :-1], alpha_bar, predicts)
        noisy, donor = (image.contiguous(memory_format=torch.channels_last_3d) for image in (noisy, donor))
        told = (noisy, weight, t, condition, batch["fsu"], degree, donor)
        with torch.autocast(self.device.type, torch.bfloat16):
            said = unet(*(value.to(self.device) for value in told))
        # An error in ε is √(ᾱ/(1−ᾱ)) of one in x₀: where all is noise, a wrong lesion costs almost nothing. Dividing by ᾱ makes
        # it the loss of v-prediction (Salimans and Ho 2022, app. D), in which every time counts.
        late = (1 / alpha_bar).clamp(max=config.late_weight) if predicts == "noise" else 1.0
        near = weight + config.focus * torch.cat(gaussians) ** 4
        counted = (late * near * (alpha_bar < 1) * batch["slice_weight"][:, None, None, None, :]).to(self.device)
        square = (said.float() - wanted.to(self.device)).square().mean(1, keepdim=True)
        loss: Tensor = (square * counted).sum() / counted.sum()
        return loss


def _untold(unet: ConditionalUNet) -> int:
    """The index that stands for "condition not told"."""
    return unet.config.conditions


def train_inpainter(config: InpainterTraining) -> dict[str, float]:
    """Run or resume the fit; the averaged weights are then in `<run>/average.safetensors`, for another run to start from."""
    task = InpainterTask(config)
    patience = Patience(tuple(task.held_out), config.patience) if config.patience else None
    figures = fit(task, Path(config.run), config.steps, max_minutes=config.max_minutes, patience=patience)
    if parallel.rank() == 0:
        weights = {name: value.cpu().contiguous() for name, value in task.average.shadow.items()}
        save_file(weights, Path(config.run) / "average.safetensors")
    return figures
