"""Fitting the conditional denoiser on latents with a noise level per voxel."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from spinepaint.models.bundle import CropConfig, ScheduleConfig
from spinepaint.models.inpaint import METHODS, noise_weight
from spinepaint.models.memory import channels_last
from spinepaint.models.schedule import add_noise, alpha_bar_table, voxel_times
from spinepaint.models.unet import ConditionalUNet, UNetConfig
from spinepaint.models.weighting import gaussian_weight
from spinepaint.training.crops import Latents, load_latents
from spinepaint.training.fitting import Stateful, cosine_rate, fit, generator_for
from spinepaint.training.latent_data import LatentData, prepare


@dataclass(frozen=True)
class InpainterTraining:
    """Settings of `spinepaint train inpainter`.

    `data`: the crops to learn from (see `LatentData`); the last `held_out` crops of each source are the validation set.
    `masked` and `repaint` are the shares of steps that see the baselines' weights, so that one network
    serves all three methods. `forget` is the share of conditions hidden, for guidance; `forget_degree` of the degrees alone.
    `window` is what a step looks at around the landmark, in latent cells, at a fraction of the whole crop's cost; `whole` the
    share of steps that see whole crops, `whole_batch` of them. `time_power` under 1 draws more of the late times, where the
    lesion's shape is decided: t = T·uᵖ. `weights` is a file of weights to start from, by the network's names; a
    network without a degree embedding or a donor may teach one that has it. `forget_donor` is the share of donors hidden, so that
    one network also paints from the surround alone.
    """

    run: str
    data: dict[str, Any]
    steps: int = 4000
    batch: int = 8
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
    sigma_mm: float = 16.0
    landmark_jitter_mm: float = 1.5
    ema: float = 0.999
    held_out: int = 64
    seed: int = 0
    threads: int = 2
    max_minutes: float | None = None
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
        self.shadow = {name: value.clone() for name, value in state_dict.items()}


class InpainterTask:
    """ε-prediction where t_v > 0, weighted by W, so that the capacity goes to where the edit is."""

    def __init__(self, config: InpainterTraining) -> None:
        torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        self.config = config
        crop = CropConfig(**config.crop)
        self.extent = crop.extent_mm
        sides = (crop.grid[0] / 4, crop.grid[1] / 4, crop.grid[2])
        self.cell_mm = tuple(extent / side for extent, side in zip(crop.extent_mm, sides, strict=True))
        schedule = ScheduleConfig()
        self.alpha_bar = alpha_bar_table(schedule.steps, schedule.beta_start, schedule.beta_end)
        self.unet = channels_last(ConditionalUNet(UNetConfig(**config.model)))
        if config.weights:
            self.unet.load_state_dict(_starting_weights(Path(config.weights), self.unet))
        self.average = Average(self.unet, config.ema)
        self.optimizer = torch.optim.AdamW(self.unet.parameters(), config.rate, weight_decay=1e-4)
        shards = prepare(LatentData(**config.data))
        splits = {kind: _split(load_latents(paths), config.held_out) for kind, paths in shards.items()}
        self.sources = [train for train, _ in splits.values()]
        self.held_out = {kind: held_out for kind, (_, held_out) in splits.items()}

    def parts(self) -> dict[str, Stateful]:
        """Weights, their average and the optimiser."""
        return {"unet": self.unet, "average": self.average, "optimizer": self.optimizer}

    def step(self, number: int) -> dict[str, float]:
        """One optimiser step."""
        config, rng = self.config, generator_for(self.config.seed, number)
        for group in self.optimizer.param_groups:
            group["lr"] = cosine_rate(number, config.steps, top=config.rate, bottom=config.final_rate)
        whole = rng.random() < config.whole
        batch = self._draw(rng, self.sources, config.whole_batch if whole else config.batch)
        if not whole:
            batch = self._windowed(batch, rng)
        loss = self._loss(self.unet, batch, rng)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.unet.parameters(), 1.0)
        self.optimizer.step()
        self.average.update(self.unet, number)
        return {"loss": loss.item()}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """The loss of the averaged weights on held-out crops, with the same noise each time."""
        keep = {name: value.clone() for name, value in self.unet.state_dict().items()}
        self.unet.load_state_dict(self.average.shadow)
        figures = {}
        for kind, held_out in self.held_out.items():
            rng = generator_for(self.config.seed + 1, 0)
            losses = [float(self._loss(self.unet, self._draw(rng, [held_out], 8), rng)) for _ in range(6)]
            figures[kind] = float(np.mean(losses))
        self.unet.load_state_dict(keep)
        return figures

    def _draw(self, rng: np.random.Generator, sources: list[Latents], count: int) -> dict[str, Tensor]:
        """`count` crops, each from a source drawn evenly, half of them mirrored left to right."""
        rows = []
        for _ in range(count):
            source = sources[int(rng.integers(len(sources)))]
            row = {name: value[int(index)] for index in [rng.integers(len(source))] for name, value in vars(source).items()}
            if rng.random() < 0.5:
                # Slices are apart in the latent, so a mirrored latent is the latent of the mirrored crop.
                row |= {name: row[name].flip(-1) for name in ("latent", "donor", "slice_weight")}
                row["landmark_mm"] = row["landmark_mm"] * torch.tensor([1, 1, -1]) + torch.tensor([0, 0, self.extent[2]])
            rows.append(row)
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}

    def _windowed(self, batch: dict[str, Tensor], rng: np.random.Generator) -> dict[str, Tensor]:
        """Each crop cut down to the window around its landmark, give or take two cells."""
        cell, shape = np.array(self.cell_mm), np.array(batch["latent"].shape[2:])
        side = np.minimum(self.config.window, shape)
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

    def _loss(self, unet: ConditionalUNet, batch: dict[str, Tensor], rng: np.random.Generator) -> Tensor:
        config, total = self.config, len(self.alpha_bar) - 1
        clean = batch["latent"].float()
        count, _, x, y, z = clean.shape
        extent = (x * self.cell_mm[0], y * self.cell_mm[1], z * self.cell_mm[2])
        gaussians = []
        for landmark in batch["landmark_mm"].numpy():
            a, b, c = landmark + rng.normal(0, config.landmark_jitter_mm, 3)
            gaussians.append(gaussian_weight((x, y, z), extent, (float(a), float(b), float(c)), config.sigma_mm))
        shares = (1 - config.masked - config.repaint, config.masked, config.repaint)
        weight = noise_weight(torch.cat(gaussians), METHODS[int(rng.choice(3, p=shares))])
        late = (1 - rng.random(count)) ** config.time_power
        t = torch.from_numpy(np.ceil(total * late).astype(np.int64))
        times = voxel_times(weight, t[:, None, None, None, None])
        noise = torch.from_numpy(rng.standard_normal(clean.shape, dtype=np.float32))
        noisy = add_noise(clean, noise, self.alpha_bar[times].float())
        hidden = torch.from_numpy(rng.random(count) < config.forget)
        condition = torch.where(hidden, _untold(unet), batch["condition"])
        unknown = hidden | torch.from_numpy(rng.random(count) < config.forget_degree)
        degree = torch.where(unknown, torch.nan, batch["degree"].float())
        shown = torch.from_numpy(rng.random(count) >= config.forget_donor).float()
        donor = batch["donor"].float() * shown[:, None, None, None, None]
        noisy, donor = (image.contiguous(memory_format=torch.channels_last_3d) for image in (noisy, donor))
        with torch.autocast("cpu", torch.bfloat16):
            eps = unet(noisy, weight, t, condition, batch["fsu"], degree, donor)
        counted = weight * (times > 0) * batch["slice_weight"][:, None, None, None, :]
        loss: Tensor = ((eps.float() - noise).square().mean(1, keepdim=True) * counted).sum() / counted.sum()
        return loss


def _untold(unet: ConditionalUNet) -> int:
    """The index that stands for "condition not told"."""
    return unet.config.conditions


def _starting_weights(path: Path, unet: ConditionalUNet) -> dict[str, Tensor]:
    """Weights by name; those of a network that knew less (no degrees, no donor) fit too, the new parts without effect."""
    state = {name: value.float() for name, value in load_file(path).items()}
    old, new = "net.class_embedding.weight", "net.class_embedding.table.weight"
    own = unet.state_dict()
    if old in state and new in own:
        state[new] = state.pop(old)
        state |= {name: value for name, value in own.items() if name.startswith("net.class_embedding.") and name != new}
    first = "net.conv_in.conv.weight"
    more = own[first].shape[1] - state[first].shape[1]
    state[first] = torch.nn.functional.pad(state[first], (0, 0, 0, 0, 0, 0, 0, more))
    return state


def _split(latents: Latents, held_out: int) -> tuple[Latents, Latents]:
    cut = len(latents) - min(held_out, len(latents) // 4)
    parts = [{name: value[piece] for name, value in vars(latents).items()} for piece in (slice(cut), slice(cut, None))]
    return Latents(**parts[0]), Latents(**parts[1])


def train_inpainter(config: InpainterTraining) -> dict[str, float]:
    """Run or resume the fit; the averaged weights are in `<run>/checkpoint.pt` under `average`."""
    return fit(InpainterTask(config), Path(config.run), config.steps, max_minutes=config.max_minutes)
