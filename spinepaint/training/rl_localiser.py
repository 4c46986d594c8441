"""Fits the agents that walk to discs, by double distributional deep Q-learning on phantoms and SPIDER slices.

The replay and the walks under way are in the checkpoint, as places and moves: a run that was broken off and resumed ends with
the weights of an unbroken one.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from spinepaint.models.rl_localiser import RlLocaliser, RlLocaliserConfig
from spinepaint.models.rl_localiser_views import BYTE
from spinepaint.models.rl_localiser_walk import DOUBTS, facts, find
from spinepaint.training import fitting
from spinepaint.training.ranking import auc
from spinepaint.training.rl_localiser_data import Ground, phantom_ground, spoilt, training_grounds
from spinepaint.training.rl_localiser_field import Field
from spinepaint.training.rl_localiser_replay import Moves, Replay, Running

_HELD_OUT_PHANTOM_SEED = 1_000_000
FAILED_MM = 10.0  # further from the disc's centre than this an agent is not at its disc


@dataclass(frozen=True)
class RlLocaliserTraining:
    """How to fit. `spider` is the folder of SPIDER's mid-sagittal slices, or None to learn from phantoms alone.

    `max_minutes` bounds one call; calling again with the same `run_dir` resumes exactly.

    Attributes
    ----------
    variants: of each phantom and each SPIDER slice, turned and scaled otherwise.
    walks: side by side, each one move a step.
    batch: walks whose moves are learnt from in a step; each has up to one a disc.
    replay: moves kept.
    warm_up: moves of each walk before the first step, by experts with chance between.
    expert_share, random_share: of the moves, from the first (and at `explore_steps` last) number to the second.
    discount: of a move's worth against the one before.
    target_rate: share of the new weights in the target network's, a step. The target network is the one that is kept.
    """

    run_dir: Path
    spider: Path | None = None
    variants: int = 3
    phantoms: int = 120
    phantom_share: float = 0.6
    steps: int = 12_000
    walks: int = 24
    batch: int = 32
    replay: int = 40_000
    warm_up: int = 60
    expert_share: tuple[float, float] = (0.7, 0.1)
    random_share: tuple[float, float] = (0.2, 0.05)
    explore_steps: int = 4_000
    discount: float = 0.8
    target_rate: float = 0.005
    lr: float = 5e-4
    seed: int = 0
    max_minutes: float | None = None
    validate_every: int = 500
    held_out_phantoms: int = 24
    bf16: bool = True
    model: RlLocaliserConfig = field(default_factory=RlLocaliserConfig)


class RlLocaliserTask:
    """The agents' steps and validation for `fitting.fit`."""

    def __init__(self, config: RlLocaliserTraining) -> None:
        self.config, model = config, config.model
        torch.manual_seed(config.seed)
        self.network = RlLocaliser(model)
        self.target = deepcopy(self.network).requires_grad_(False)
        self.optimiser = torch.optim.AdamW(self.network.parameters(), lr=config.lr, weight_decay=1e-3)
        made, self.real = training_grounds(
            model, seed=config.seed, phantoms=config.phantoms, spider=config.spider, variants=config.variants
        )
        if not made and not self.real:
            raise ValueError("nothing to learn from: give a SPIDER folder, phantoms, or both")
        self.field = Field(model, made, self.real, config.phantom_share)
        seeds = range(_HELD_OUT_PHANTOM_SEED, _HELD_OUT_PHANTOM_SEED + config.held_out_phantoms)
        self.held_out = [phantom_ground(seed, model) for seed in seeds]
        self.replay = Replay(config.replay, len(model.fsus))
        rng = np.random.default_rng((config.seed, 33))
        self.running = Running(self.field.begin(rng, config.walks))
        if not (config.run_dir / "checkpoint.pt").exists():
            chance = config.random_share[0]
            for _ in range(config.warm_up):
                self.replay.add(self.field.move(self.network, self.running, rng, 1 - chance, chance))

    def parts(self) -> Mapping[str, fitting.Stateful]:
        """Weights, the target network's, the optimiser, the replay and the walks under way."""
        return {
            "network": self.network,
            "target": self.target,
            "optimiser": self.optimiser,
            "replay": self.replay,
            "running": self.running,
        }

    def step(self, number: int) -> dict[str, float]:
        """One move of every walk, and one optimiser step on moves drawn from the replay."""
        config = self.config
        rng = fitting.generator_for(config.seed, number)
        explored = min(number / max(config.explore_steps, 1), 1.0)
        expert, random = (a + (b - a) * explored for a, b in (config.expert_share, config.random_share))
        self.replay.add(self.field.move(self.network, self.running, rng, expert, random))
        rate = fitting.cosine_rate(number, config.steps, top=config.lr, bottom=config.lr / 50, warm_up=50)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        loss = self._loss(self.replay.draw(rng, config.batch), rng)
        self.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimiser.step()
        with torch.no_grad():
            for kept, new in zip(self.target.parameters(), self.network.parameters(), strict=True):
                kept.lerp_(new, config.target_rate)
        return {"loss": loss.item()}

    def _loss(self, moves: Moves, rng: np.random.Generator) -> Tensor:
        """Cross-entropy of the values' distributions against what the moves brought and the target network expects next."""
        e, a = np.nonzero(moves.counts)
        look = rng.normal(0, 0.25, len(e)).astype(np.float32), rng.uniform(0, 0.12, len(e)).astype(np.float32)
        agent = torch.from_numpy(a.astype(np.int64))
        chosen = torch.from_numpy(moves.action[e, a])
        with torch.autocast("cpu", torch.bfloat16, enabled=self.config.bf16):
            with torch.no_grad():
                later = self._seen(moves.volume, moves.after, moves.stage_after, moves.moves_after, (e, a), look, rng)
                # Double Q-learning (van Hasselt et al. 2016): the network chooses the next move, the target network values it.
                best = (self.network(*later, agent).exp() @ self.network.support).argmax(dim=1)
                then = self.target(*later, agent).exp()[torch.arange(len(e)), best]
            now = self._seen(moves.volume, moves.position, moves.stage, moves.moves, (e, a), look, rng)
            log = self.network(*now, agent)[torch.arange(len(e)), chosen]
        reward, ended = torch.from_numpy(moves.reward[e, a]), torch.from_numpy(moves.ended[e, a])
        aim = projected(then, reward, self.config.discount * (~ended).float(), self.network.support)
        loss: Tensor = -(aim * log).sum(dim=1).mean()
        return loss

    def _seen(
        self,
        volume: NDArray[np.int64],
        position: NDArray[np.int64],
        stage: NDArray[np.int64],
        moves: NDArray[np.int64],
        where: tuple[NDArray[np.intp], NDArray[np.intp]],
        look: tuple[NDArray[np.float32], NDArray[np.float32]],
        rng: np.random.Generator,
    ) -> tuple[Tensor, Tensor]:
        """Views and facts of the agents `where`, in another scanner's contrast (log of gamma, N) and noise (its range, N)."""
        model, (e, a) = self.config.model, where
        views = self.field.atlas.cut(volume[e], position[e, a], model.view, model.beside)
        gamma, noise = (torch.from_numpy(part)[:, None, None, None] for part in look)
        image = (torch.from_numpy(views).float() / BYTE) ** gamma.exp()
        image += noise * torch.from_numpy(rng.random(views.shape, dtype=np.float32) - np.float32(0.5))
        return image, torch.from_numpy(facts(model, position, stage, moves)[e, a])

    def validate(self) -> dict[str, float]:
        """Errors in mm on held-out phantoms, the share within 4 mm, and how well each doubt tells failures (AUC)."""
        seen = walked(self.target, self.held_out)
        error = seen.error_mm[seen.inside]
        if not len(error):
            return {}
        figures = {
            "phantom_mm": float(error.mean()),
            "phantom_median_mm": float(np.median(error)),
            "phantom_within_4": float((error < 4).mean()),
            "phantom_failed": float((error > FAILED_MM).mean()),
        }
        if not 0 < seen.failed.sum() < len(seen.failed):
            return figures
        return figures | {f"auc_{name}": auc(seen.doubts[:, k], seen.failed) for k, name in enumerate(DOUBTS)}


def projected(distribution: Tensor, reward: Tensor, discount: Tensor, support: Tensor) -> Tensor:
    """Distributions (N, atoms) of reward + discount × value on the support's atoms (Bellemare et al. 2017, equation 7).

    reward, discount: (N,). What falls beside the support goes to its ends.
    """
    gap = (support[-1] - support[0]) / (len(support) - 1)
    place = ((reward[:, None] + discount[:, None] * support - support[0]) / gap).clamp(0, len(support) - 1)
    # Each atom's mass goes to its two neighbours by their nearness.
    lower = place.floor().long().clamp_max(len(support) - 2)
    share = place - lower
    out = torch.zeros_like(distribution)
    out.scatter_add_(1, lower, distribution * (1 - share))
    return out.scatter_add_(1, lower + 1, distribution * share)


@dataclass(frozen=True)
class Walked:
    """How agents ended whose discs are known: mm off (N,), whether the disc is in the field of view (N,), doubts (N, 4)."""

    error_mm: NDArray[np.float64]
    inside: NDArray[np.bool_]
    doubts: NDArray[np.float64]

    @property
    def failed(self) -> NDArray[np.bool_]:
        """Which agents are not at their discs."""
        return self.error_mm > FAILED_MM


def walked(network: RlLocaliser, grounds: list[Ground]) -> Walked:
    """Let the agents walk in all grounds."""
    network.eval()
    rows: list[NDArray[np.float64]] = [np.zeros((0, 2 + len(DOUBTS)))]
    for ground in grounds:
        found, known = find(network, ground.grid), np.isfinite(ground.targets).all(axis=1)
        away = np.linalg.norm(found.places - ground.targets, axis=1) * network.config.spacing_mm
        rows.append(np.column_stack([away, ground.inside, found.doubts])[known])
    table = np.concatenate(rows)
    return Walked(table[:, 0], table[:, 1] > 0.5, table[:, 2:])


def calibrated(config: RlLocaliserConfig, seen: Walked) -> RlLocaliserConfig:
    """The configuration with the logistic curve from doubts to confidence that fits best; no doubt may raise it.

    One failure at more than the greatest doubts and one success at the least are added, so that there are both.
    """
    least, most = seen.doubts.min(axis=0), seen.doubts.max(axis=0)
    x = np.vstack([seen.doubts, most + (most - least) + 0.1, least])
    sign = np.append(np.where(seen.failed, 1.0, -1.0), [1.0, -1.0])
    scale = x.std(axis=0)

    def cost(parameters: NDArray[np.float64]) -> float:
        logit = parameters[0] - (x / scale) @ parameters[1:]
        return float(np.logaddexp(0, sign * logit).sum() + 0.05 * (parameters[1:] ** 2).sum())

    start = [1.0, *[0.5] * len(DOUBTS)]
    offset, *weights = minimize(cost, start, method="L-BFGS-B", bounds=[(None, None), *[(0, None)] * len(DOUBTS)]).x
    return replace(config, certainty=(float(offset), *(float(w) for w in weights / scale)))


def fit(config: RlLocaliserTraining) -> Path:
    """Fit, or resume; write `rl_localiser.safetensors`, `config.json` (confidence calibrated) and `facts.json` into `run_dir`.

    Returns the path of the weights. Raises ValueError where there is nothing to learn from.
    """
    task = RlLocaliserTask(config)
    figures = fitting.fit(
        task,
        config.run_dir,
        config.steps,
        checkpoint_minutes=3.0,
        validate_every=config.validate_every,
        max_minutes=config.max_minutes,
    )
    rng = np.random.default_rng((config.seed, 35))
    seen = walked(task.target, task.held_out + [spoilt(ground, rng) for ground in task.held_out])
    model = calibrated(config.model, seen) if len(seen.error_mm) else config.model
    kept = {"seed": config.seed, "phantoms": config.phantoms, "real_volumes": len(task.real), **figures}
    return fitting.write_run(config.run_dir, "rl_localiser", task.target, asdict(model), kept)
