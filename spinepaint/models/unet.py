"""The conditional 3D U-Net that predicts ε, on MONAI's `DiffusionModelUNet`."""

from dataclasses import dataclass

import torch
from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet
from torch import Tensor, nn


@dataclass(frozen=True)
class UNetConfig:
    """Sizes and conditions of the denoiser.

    `conditions` counts (pathology, severity) pairs and `fsus` the levels; one more index of each, the
    last, stands for "not told" and is what classifier-free guidance contrasts with.
    """

    latent_channels: int = 3
    channels: tuple[int, ...] = (32, 96, 192)
    res_blocks: int = 1
    head_channels: int = 32
    norm_groups: int = 16
    token_channels: int = 64
    conditions: int = 4
    fsus: int = 5


class ConditionalUNet(nn.Module):
    """ε(x_t, W, t, condition, FSU).

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
            in_channels=config.latent_channels + 1,
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

    def forward(self, x: Tensor, weight: Tensor, t: Tensor, condition: Tensor, fsu: Tensor) -> Tensor:
        """x (B, C, X, Y, Z), weight (B, 1, X, Y, Z), t, condition and fsu long (B,) → ε as x.

        X, Y and Z must be multiples of 2^(levels − 1).
        """
        tokens = torch.stack([self.condition_token(condition), self.fsu_token(fsu)], dim=1)
        eps: Tensor = self.net(torch.cat([x, weight], dim=1), t, context=tokens, class_labels=condition)
        return eps
