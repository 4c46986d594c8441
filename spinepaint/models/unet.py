"""The conditional 3D U-Net that denoises, on MONAI's `DiffusionModelUNet`."""

import math
from dataclasses import dataclass

import torch
from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet
from torch import Tensor, nn

from spinepaint.models.prediction import PREDICTIONS, Prediction


@dataclass(frozen=True)
class UNetConfig:
    """Sizes and conditions of the denoiser.

    `conditions` counts (pathology, severity) pairs and `fsus` the levels; one more index of each, the
    last, stands for "not told" and is what classifier-free guidance contrasts with. `degree_waves` counts the
    Fourier features of the degree; 0 for a network that is told the severity as a class alone. With `donor` the network
    also sees the untouched latent, as an editing network does: it then changes an anatomy instead of guessing one. `predicts`
    says what its output stands for (see `models.prediction`).
    """

    latent_channels: int = 3
    channels: tuple[int, ...] = (32, 96, 192)
    res_blocks: int = 1
    head_channels: int = 32
    norm_groups: int = 16
    token_channels: int = 64
    conditions: int = 4
    fsus: int = 5
    degree_waves: int = 0
    donor: bool = False
    predicts: Prediction = "noise"

    def __post_init__(self) -> None:
        """Raises ValueError for a prediction that is none."""
        if self.predicts not in PREDICTIONS:
            raise ValueError(f"unknown prediction {self.predicts!r}; choose one of: {', '.join(PREDICTIONS)}")


class ConditionEmbedding(nn.Module):
    """Class and degree as one vector: the class's own, plus what the degree adds to it.

    The degree, from 0 to 1, measures the same lesion as the severity, but finely: it lets a network learn from every
    example where on the scale it lies, and a caller stay away from the border between two classes. It starts
    without effect, so that a network that knew classes alone can be trained on.
    """

    def __init__(self, classes: int, width: int, waves: int) -> None:
        super().__init__()
        self.table = nn.Embedding(classes, width)
        self.inner = nn.Linear(2 * waves + classes, width)
        self.outer = nn.Linear(width, width)
        self.frequencies: Tensor
        self.register_buffer("frequencies", math.pi * torch.arange(1, waves + 1), persistent=False)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, told: Tensor) -> Tensor:
        """told (B, 2): class and degree, the degree nan where it is not known → (B, width)."""
        classes, degree = told[:, 0].long(), told[:, 1:]
        known = degree.isfinite()
        angles = torch.where(known, degree, 0.0) * self.frequencies
        one_hot = nn.functional.one_hot(classes, self.table.num_embeddings).to(angles.dtype)
        added = self.outer(nn.functional.silu(self.inner(torch.cat([angles.sin(), angles.cos(), one_hot], dim=1))))
        vector: Tensor = self.table(classes) + known * added
        return vector


class ConditionalUNet(nn.Module):
    """ε(x_t, W, t, condition, FSU), or what ε can be had from.

    W joins x as a channel, so the network knows each voxel's noise level; t is the global time. The
    condition enters twice: as a class embedding added to the time's, which reaches every block, and with
    the FSU as two tokens of cross-attention at the coarsest level (over a single token cross-attention is
    a spatially constant bias).
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        levels = len(config.channels)
        self.condition_token = nn.Embedding(config.conditions + 1, config.token_channels)
        self.fsu_token = nn.Embedding(config.fsus + 1, config.token_channels)
        self.net = DiffusionModelUNet(
            spatial_dims=3,
            in_channels=config.latent_channels + 1 + (config.latent_channels + 1) * config.donor,
            out_channels=config.latent_channels,
            channels=tuple(config.channels),
            attention_levels=(False,) * (levels - 1) + (True,),
            num_res_blocks=config.res_blocks,
            num_head_channels=config.head_channels,
            norm_num_groups=config.norm_groups,
            with_conditioning=True,
            cross_attention_dim=config.token_channels,
            num_class_embeds=config.conditions + 1,
        )
        if config.degree_waves:
            embedding = ConditionEmbedding(config.conditions + 1, self.net.class_embedding.embedding_dim, config.degree_waves)
            self.net.add_module("class_embedding", embedding)

    def forward(
        self,
        x: Tensor,
        weight: Tensor,
        t: Tensor,
        condition: Tensor,
        fsu: Tensor,
        degree: Tensor | None = None,
        donor: Tensor | None = None,
    ) -> Tensor:
        """x (B, C, X, Y, Z), weight (B, 1, X, Y, Z), t, condition and fsu long (B,), degree float (B,) or nan → as x.

        donor (B, C + 1, X, Y, Z): the untouched latent and a channel of ones; zeros, or None, where it is not to be seen.
        X, Y and Z must be multiples of 2^(levels − 1). A network without `degree_waves` does not look at the degree,
        one without `donor` not at the donor.
        """
        tokens = torch.stack([self.condition_token(condition), self.fsu_token(fsu)], dim=1)
        told = condition
        if self.config.degree_waves:
            unknown = torch.full(condition.shape, math.nan, device=x.device)
            told = torch.stack([condition.float(), unknown if degree is None else degree.float()], dim=1)
        seen = [x, weight]
        if self.config.donor:
            seen.append(torch.cat([torch.zeros_like(x), torch.zeros_like(weight)], dim=1) if donor is None else donor)
        predicted: Tensor = self.net(torch.cat(seen, dim=1), t, context=tokens, class_labels=told)
        return predicted
