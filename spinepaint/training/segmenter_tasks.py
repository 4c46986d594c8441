"""The steps of the segmenter's two trainings: the plain network, and the diffusion network that starts from its masks."""

from collections.abc import Mapping
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from spinepaint.models.memory import channels_last
from spinepaint.models.segmentation import DiffusionNetwork, PlainSegmenter, Segmenters
from spinepaint.models.segmentation.diffusion import noised
from spinepaint.models.segmentation.segment import pre_segmentation
from spinepaint.training import fitting
from spinepaint.training.segmenter_losses import masks_loss
from spinepaint.training.segmenter_scores import score_phantoms
from spinepaint.training.segmenter_settings import Material, SegmenterTraining
from spinepaint.training.segmenter_windows import WINDOWS, window


class _Task:
    """What both networks' tasks share: batches, the optimiser, the moving average of the weights."""

    name: str

    def __init__(self, config: SegmenterTraining, material: Material, network: nn.Module, steps: int, lr: float) -> None:
        self.config, self.material, self.network, self.steps, self.lr = config, material, network, steps, lr
        self.average = AveragedModel(network, avg_fn=_exponential_average)
        self.optimiser = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=1e-3)

    def parts(self) -> Mapping[str, fitting.Stateful]:
        """Weights, their average and the optimiser."""
        return {"network": self.network, "average": self.average, "optimiser": self.optimiser}

    def _batch(self, number: int) -> tuple[Tensor, Tensor]:
        rng = fitting.generator_for(self.config.seed, number)
        shape, spines = WINDOWS[int(rng.integers(len(WINDOWS)))], self.material.spines
        pairs = [
            window(
                spines[int(rng.integers(len(spines)))],
                self.material.looks,
                rng,
                shape,
                self.config.spacing_mm,
                t1=bool(rng.random() < self.config.t1_share),
            )
            for _ in range(self.config.batch)
        ]
        images, masks = (torch.from_numpy(np.stack(items)) for items in zip(*pairs, strict=True))
        return images.contiguous(memory_format=torch.channels_last), masks

    def _learn(self, number: int, losses: Mapping[str, Tensor]) -> dict[str, float]:
        rate = fitting.cosine_rate(number, self.steps, top=self.lr, bottom=self.lr / 50, warm_up=50)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(torch.stack(list(losses.values())).sum())
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        self.average.update_parameters(self.network)
        return {name: loss.item() for name, loss in losses.items()}


def _exponential_average(kept: Tensor, new: Tensor, count: Tensor | int) -> Tensor:
    return torch.lerp(kept, new, 0.01)


class PlainTask(_Task):
    """The plain network: Dice + BCE, as nnU-Net's Dice + cross-entropy."""

    def __init__(self, config: SegmenterTraining, material: Material) -> None:
        torch.manual_seed(config.seed)
        network = channels_last(PlainSegmenter(config.model().plain))
        super().__init__(config, material, network, config.plain_steps, config.plain_lr)

    @property
    def averaged(self) -> PlainSegmenter:
        """The network with the running average of its weights: what is validated and kept."""
        return cast(PlainSegmenter, self.average.module)

    def step(self, number: int) -> dict[str, float]:
        """One optimiser step on one batch."""
        images, masks = self._batch(number)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.config.bf16):
            logits = self.network(images).float()
        return self._learn(number, masks_loss(logits, masks, mse=False))

    def validate(self) -> dict[str, float]:
        """Dice of phantoms that are not learnt from."""
        return score_phantoms(assembled(self.config, self.averaged, None), self.material.cases, None)


class DiffusionTask(_Task):
    """The image encoder and the denoiser: MSE + Dice + BCE of x₀ from noised masks."""

    def __init__(self, config: SegmenterTraining, material: Material, plain: PlainSegmenter) -> None:
        torch.manual_seed(config.seed + 1)
        self.plain = plain.eval().requires_grad_(False)
        self.ensemble = config.model().ensemble
        network = channels_last(DiffusionNetwork(config.model().denoiser))
        super().__init__(config, material, network, config.diffusion_steps, config.diffusion_lr)

    @property
    def averaged(self) -> DiffusionNetwork:
        """The networks with the running average of their weights."""
        return cast(DiffusionNetwork, self.average.module)

    def step(self, number: int) -> dict[str, float]:
        """One optimiser step on one batch."""
        images, masks = self._batch(number)
        rng = fitting.generator_for(self.config.seed + 1, number)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.config.bf16):
            with torch.no_grad():
                guess = pre_segmentation(torch.sigmoid(self.plain(images).float()))
            chosen = torch.from_numpy(rng.random(len(images)) < self.config.pre_segmented)[:, None, None, None]
            start = torch.where(chosen, guess, 2 * masks - 1)
            u = torch.from_numpy(rng.uniform(0.001, 1.0, len(images)).astype(np.float32))
            noise = torch.from_numpy(rng.standard_normal(start.shape, dtype=np.float32))
            x = noised(start, u, noise).contiguous(memory_format=torch.channels_last)
            logits = self.network(x, u, images).float()
        return self._learn(number, masks_loss(logits, masks, mse=True))

    def validate(self) -> dict[str, float]:
        """Dice of phantoms that are not learnt from, with the ensemble of the settings."""
        return score_phantoms(assembled(self.config, self.plain, self.averaged), self.material.cases, self.ensemble)


def assembled(config: SegmenterTraining, plain: PlainSegmenter, diffusion: DiffusionNetwork | None) -> Segmenters:
    """Networks in training as a segmenter; without `diffusion` only the plain one may be asked."""
    other = diffusion if diffusion is not None else DiffusionNetwork(config.model().denoiser)
    return Segmenters(config.model(), plain.eval(), other.eval())
