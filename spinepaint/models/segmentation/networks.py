"""The plain network and the diffusion network of SpineSegDiff (arXiv 2411.10755), on MONAI's parts.

Both see a slice with its neighbours as channels and give one logit a structure and pixel.
"""

from itertools import pairwise
from typing import cast

import torch
from monai.networks.blocks.convolutions import Convolution
from monai.networks.nets.basic_unet import Down, TwoConv
from monai.networks.nets.diffusion_model_unet import get_timestep_embedding
from monai.networks.nets.dynunet import DynUNet
from torch import Tensor, nn
from torch.nn import functional

from spinepaint.models.segmentation.config import NEIGHBOURS, STRUCTURES, DenoiserConfig, PlainConfig

MASKS = len(STRUCTURES)
_ACT = ("leakyrelu", {"negative_slope": 0.1, "inplace": True})
_FIRST_LOGIT = -3.0  # most of an image is of no structure: networks that start there learn the structures at once
_SHOWN = NEIGHBOURS + 1
_COARSE = 4  # pixels a side over which local means are taken, and nine of those
_TIME_SCALE = 1000.0  # the embedding's frequencies are made for times up to 1000


def _norm(width: int) -> tuple[str, dict[str, int]]:
    # Groups instead of the published instances: the same on a CPU in half the time, in channels-last memory.
    return "group", {"num_groups": min(8, width // 4), "num_channels": width}


def seen(image: Tensor, factor: int) -> Tensor:
    """What a network is shown of an image (B, 3, H, W): its slices and the middle one evened, `factor` pixels a side unshuffled.

    Evened: local mean 0 and deviation 1, so that the spine is found also where a surface coil hardly reaches.
    """
    middle = image[:, NEIGHBOURS // 2 : NEIGHBOURS // 2 + 1].float()
    small = functional.avg_pool2d(middle, _COARSE)
    mean, square = (functional.avg_pool2d(x, 9, 1, 4, count_include_pad=False) for x in (small, small * small))
    deviation = (square - mean * mean).clamp_min(0).sqrt()
    mean, deviation = (functional.interpolate(x, scale_factor=_COARSE, mode="bilinear") for x in (mean, deviation))
    evened = ((middle - mean) / (deviation + 0.05)).clamp(-3, 3)
    return functional.pixel_unshuffle(torch.cat([image, evened.to(image.dtype)], dim=1), factor)


class PlainSegmenter(nn.Module):
    """A residual U-Net in the manner of nnU-Net (MONAI's `DynUNet`): the pre-segmentation, and the comparison."""

    def __init__(self, config: PlainConfig) -> None:
        super().__init__()
        self.config = config
        levels, factor = len(config.filters), config.unshuffle
        net = DynUNet(
            spatial_dims=2,
            in_channels=_SHOWN * factor**2,
            out_channels=MASKS * factor**2,
            kernel_size=[3] * levels,
            strides=[1] + [2] * (levels - 1),
            upsample_kernel_size=[2] * (levels - 1),
            filters=list(config.filters),
            norm_name=("group", {"num_groups": 8}),
            res_block=True,
        )
        # Its parts alone: DynUNet itself holds each of them twice, and so would a file of its weights.
        self.enter, self.down, self.deep, self.up, self.leave = (
            net.input_block, net.downsamples, net.bottleneck, net.upsamples, net.output_block,
        )  # fmt: skip
        nn.init.constant_(self.leave.conv.conv.bias, _FIRST_LOGIT)

    def forward(self, image: Tensor) -> Tensor:
        """image (B, 3, H, W) → logits (B, structures, H, W)."""
        kept: list[Tensor] = [self.enter(seen(image, self.config.unshuffle))]
        for down in self.down:
            kept.append(down(kept[-1]))
        x = self.deep(kept[-1])
        for up, fine in zip(self.up, reversed(kept), strict=True):
            x = up(x, fine)
        return functional.pixel_shuffle(self.leave(x), self.config.unshuffle)


class ImageEncoder(nn.Module):
    """What the denoiser is told of the image at each of its levels; it is run once an image, whatever the number of steps."""

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        self.unshuffle = config.unshuffle
        first = config.widths[0]
        self.enter = TwoConv(2, _SHOWN * config.unshuffle**2, first, _ACT, _norm(first), True)
        self.down = nn.ModuleList(Down(2, a, b, _ACT, _norm(b), True) for a, b in pairwise(config.widths))

    def forward(self, image: Tensor) -> list[Tensor]:
        """image (B, 3, H, W) → features (B, width, H / 2^k, W / 2^k), from fine to coarse."""
        features: list[Tensor] = [self.enter(seen(image, self.unshuffle))]
        for down in self.down:
            features.append(down(features[-1]))
        return features


class _TimedConvs(nn.Module):
    """Two convolutions with the time added between them: (B, a, H, W), (B, time) → (B, b, H, W)."""

    def __init__(self, a: int, b: int, time_channels: int) -> None:
        super().__init__()
        self.first = Convolution(2, a, b, act=_ACT, norm=_norm(b), adn_ordering="NDA")
        self.time = nn.Linear(time_channels, b)
        self.second = Convolution(2, b, b, act=_ACT, norm=_norm(b), adn_ordering="NDA")

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        out: Tensor = self.second(self.first(x) + self.time(time)[:, :, None, None])
        return out


class Denoiser(nn.Module):
    """The denoising U-Net: logits of the clean masks from noised masks, the image and the time.

    The image joins the masks as channels, and the image encoder's features are added at every level (arXiv 2411.10755, fig. 1).
    """

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        self.config = config
        widths, time = config.widths, config.time_channels
        self.embed = nn.Sequential(nn.Linear(time, time), nn.SiLU(), nn.Linear(time, time), nn.SiLU())
        self.enter = _TimedConvs((MASKS + NEIGHBOURS) * config.unshuffle**2, widths[0], time)
        self.down = nn.ModuleList(_TimedConvs(a, b, time) for a, b in pairwise(widths))
        self.narrow = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairwise(widths))
        self.up = nn.ModuleList(_TimedConvs(2 * a, a, time) for a in widths[:-1])
        self.head = nn.Conv2d(widths[0], MASKS * config.unshuffle**2, 1)
        nn.init.constant_(cast(Tensor, self.head.bias), _FIRST_LOGIT)

    def forward(self, x: Tensor, u: Tensor, image: Tensor, features: list[Tensor]) -> Tensor:
        """x (B, structures, H, W) noised masks, u (B,) time from 0 (clean) to 1 (noise), image (B, 3, H, W) → logits as x."""
        time = self.embed(get_timestep_embedding(_TIME_SCALE * u, self.config.time_channels).to(x.dtype))
        h = self.enter(functional.pixel_unshuffle(torch.cat([x, image], dim=1), self.config.unshuffle), time) + features[0]
        kept = [h]
        for down, feature in zip(self.down, features[1:], strict=True):
            h = down(functional.max_pool2d(h, 2), time) + feature
            kept.append(h)
        for up, narrow, fine in zip(reversed(self.up), reversed(self.narrow), reversed(kept[:-1]), strict=True):
            h = up(torch.cat([fine, functional.interpolate(narrow(h), scale_factor=2, mode="nearest")], dim=1), time)
        logits: Tensor = functional.pixel_shuffle(self.head(h), self.config.unshuffle)
        return logits


class DiffusionNetwork(nn.Module):
    """The image encoder and the denoiser, which are trained and kept together."""

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        self.encoder = ImageEncoder(config)
        self.denoiser = Denoiser(config)

    def forward(self, x: Tensor, u: Tensor, image: Tensor) -> Tensor:
        """Logits of the clean masks; the arguments are those of `Denoiser.forward`."""
        logits: Tensor = self.denoiser(x, u, image, self.encoder(image))
        return logits
