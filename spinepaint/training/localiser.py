"""Fits the disc localiser on SPIDER slices and phantoms."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel

from spinepaint.models.localiser import SPOTS, DiscLocaliser, LocaliserConfig, localise
from spinepaint.training import fitting
from spinepaint.training.localiser_data import Targets, example
from spinepaint.training.localiser_scenes import SCENE_MM, Scene, phantom_scenes, read_scenes
from spinepaint.training.spider_points import read_pointed_scenes

WINDOWS = ((288, 192), (256, 224), (224, 240), (304, 176))
_HELD_OUT_PHANTOM_SEED = 1_000_000


@dataclass(frozen=True)
class LocaliserTraining:
    """How to fit. `spider` is the folder of SPIDER's mid-sagittal slices, or None to learn from phantoms alone.

    `points`: whether to learn from its slices whose discs are points (`spider_points`) too. `weights`: a
    `localiser.safetensors` of the same sizes to start from. `max_minutes` bounds one call; calling again with the same
    `run_dir` resumes exactly.
    """

    run_dir: Path
    spider: Path | None = None
    phantoms: int = 100
    phantom_share: float = 0.4
    steps: int = 1200
    batch: int = 12
    lr: float = 2e-3
    points: bool = True
    weights: str | None = None
    seed: int = 0
    max_minutes: float | None = None
    validate_every: int = 200
    held_out_phantoms: int = 6
    bf16: bool = True
    model: LocaliserConfig = field(default_factory=LocaliserConfig)


def _exponential_average(kept: Tensor, new: Tensor, count: Tensor | int) -> Tensor:
    return torch.lerp(kept, new, 0.01)


class LocaliserTask:
    """The localiser's steps and validation for `fitting.fit`."""

    def __init__(self, config: LocaliserTraining) -> None:
        self.config = config
        torch.manual_seed(config.seed)
        self.network = DiscLocaliser(config.model)
        if config.weights:
            self.network.load_state_dict({name: value.float() for name, value in load_file(config.weights).items()})
        self.average = AveragedModel(self.network, avg_fn=_exponential_average)
        self.optimiser = torch.optim.AdamW(self.network.parameters(), lr=config.lr, weight_decay=1e-3)
        self.real, self.held_out = read_scenes(config.spider) if config.spider else ([], [])
        pointed, self.held_out_pointed = read_pointed_scenes(config.spider) if config.spider else ([], [])
        self.real += pointed if config.points else []
        made = (phantom_scenes(config.seed + i) for i in range(config.phantoms))
        self.phantoms = [scenes for scenes in made if scenes[0].discs]
        self.held_out_phantoms = [phantom_scenes(_HELD_OUT_PHANTOM_SEED + i) for i in range(config.held_out_phantoms)]
        if not self.real and not any(self.phantoms):
            raise ValueError("nothing to learn from: give a SPIDER folder, phantoms, or both")

    def parts(self) -> Mapping[str, fitting.Stateful]:
        """Weights, their average and the optimiser."""
        return {"network": self.network, "average": self.average, "optimiser": self.optimiser}

    def _scene(self, rng: np.random.Generator) -> Scene:
        if self.real and (not self.phantoms or rng.random() >= self.config.phantom_share):
            return self.real[int(rng.integers(len(self.real)))]
        slices = self.phantoms[int(rng.integers(len(self.phantoms)))]
        # Slices within 20 mm of the middle are drawn four times as often as those beside the spine.
        near = np.array([4.0 if min(d.off_slice_mm for d in scene.discs) < 20 else 1.0 for scene in slices])
        return slices[int(rng.choice(len(slices), p=near / near.sum()))]

    def _batch(self, number: int) -> tuple[Tensor, list[Targets]]:
        rng = fitting.generator_for(self.config.seed, number)
        window = WINDOWS[int(rng.integers(len(WINDOWS)))]
        model = self.config.model
        pairs = [example(self._scene(rng), rng, window, model.spacing_mm, len(model.levels)) for _ in range(self.config.batch)]
        return torch.from_numpy(np.stack([image for image, _ in pairs]))[:, None], [targets for _, targets in pairs]

    def step(self, number: int) -> dict[str, float]:
        """One optimiser step on one batch."""
        rate = fitting.cosine_rate(number, self.config.steps, top=self.config.lr, bottom=self.config.lr / 50, warm_up=50)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        images, targets = self._batch(number)
        self.network.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.config.bf16):
            logits = self.network(images).float()
        spots, levels = losses(logits, targets)
        self.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(spots + 0.3 * levels)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        self.average.update_parameters(self.network)
        return {"spots": spots.item(), "levels": levels.item()}

    @property
    def averaged(self) -> DiscLocaliser:
        """The network with the running average of its weights: what is validated and kept."""
        network = self.average.module
        return cast(DiscLocaliser, network)

    def validate(self) -> dict[str, float]:
        """Errors in mm and the share of discs found and rightly named, on held-out patients and phantoms.

        `spider`: patients with boxes; `pointed`: those whose discs are points that a localiser proposed: their mm flatter.
        """
        real = [score_scenes(self.averaged, (scene,), 1.0) for scene in self.held_out]
        pointed = [score_scenes(self.averaged, (scene,), 1.0) for scene in self.held_out_pointed]
        made = [score_scenes(self.averaged, scenes, thickness(scenes)) for scenes in self.held_out_phantoms]
        return {**_summary("spider", real), **_summary("pointed", pointed), **_summary("phantom", made)}


def losses(logits: Tensor, targets: list[Targets]) -> tuple[Tensor, Tensor]:
    """(heatmap loss, level loss) of (B, 3 + levels, H, W) logits.

    Binary cross-entropy against soft targets, positives weighted 20-fold since they fill a hundredth of
    the image; cross-entropy of the level over the discs' surroundings.
    """
    heat, weight = (torch.from_numpy(np.stack([getattr(t, name) for t in targets])) for name in ("heat", "weight"))
    spots = functional.binary_cross_entropy_with_logits(logits[:, :SPOTS], heat, weight * (1 + 20 * heat))
    level = torch.from_numpy(np.stack([t.level for t in targets]))
    share = torch.from_numpy(np.stack([t.level_weight for t in targets]))
    entropy = functional.cross_entropy(logits[:, SPOTS:], level, reduction="none", label_smoothing=0.03)
    return spots, (entropy * share).sum() / share.sum().clamp_min(1.0)


def thickness(scenes: tuple[Scene, ...]) -> float:
    """Slice distance in mm of a phantom's scenes, from how its discs' distances change between slices."""
    offsets = np.array([scene.discs[0].off_slice_mm for scene in scenes])
    return float(np.abs(np.diff(offsets)).max())


def score_scenes(model: DiscLocaliser, scenes: tuple[Scene, ...], slice_mm: float) -> dict[str, tuple[float, float]]:
    """Localise a series of scenes and compare: by FSU in truth, (error in mm of the nearest disc, 1 if its name is right).

    An error is infinite where no disc lies within 15 mm.
    """
    found = localise(model, np.stack([scene.image for scene in scenes]), (slice_mm, SCENE_MM, SCENE_MM))
    names = model.config.levels
    middle = min(range(len(scenes)), key=lambda i: sum(d.off_slice_mm for d in scenes[i].discs))
    result = {}
    for k, disc in enumerate(scenes[middle].discs):
        name = names[len(names) - 1 - disc.level] if disc.level < len(names) else ""
        if name not in model.config.fsus:
            continue
        place = min(range(len(scenes)), key=lambda i: scenes[i].discs[k].off_slice_mm)
        truth = np.array([place, *disc.centre])
        errors = {n: float(np.linalg.norm((c - truth) * (slice_mm, SCENE_MM, SCENE_MM))) for n, c in found.centres.items()}
        nearest = min(errors, key=errors.__getitem__, default="")
        near = bool(nearest) and errors[nearest] < 15
        result[name] = (errors[nearest] if near else float("inf"), float(near and nearest == name))
    return result


def _summary(name: str, scores: list[dict[str, tuple[float, float]]]) -> dict[str, float]:
    values = np.array([value for score in scores for value in score.values()])
    if not len(values):
        return {}
    found = np.isfinite(values[:, 0])
    return {
        f"{name}_mm": float(values[found, 0].mean()) if found.any() else float("inf"),
        f"{name}_found": float(found.mean()),
        f"{name}_named": float(values[:, 1].mean()),
    }


def fit(config: LocaliserTraining) -> Path:
    """Fit, or resume, and write `localiser.safetensors` (averaged weights), `config.json` and `facts.json` into `run_dir`.

    Returns the path of the weights. Raises ValueError where there is nothing to learn from.
    """
    task = LocaliserTask(config)
    facts = fitting.fit(
        task,
        config.run_dir,
        config.steps,
        checkpoint_minutes=3.0,
        validate_every=config.validate_every,
        max_minutes=config.max_minutes,
    )
    kept = {"seed": config.seed, "phantoms": config.phantoms, "spider_slices": len(task.real), **facts}
    return fitting.write_run(config.run_dir, "localiser", task.averaged, asdict(config.model), kept)
