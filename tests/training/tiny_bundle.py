"""A bundle of small, random networks: what it paints is nonsense, but everything that a bundle does happens."""

from pathlib import Path

import torch
from torch import nn

from spinepaint.models.autoencoder import AutoencoderConfig, SliceAutoencoder
from spinepaint.models.bundle import BundleConfig, CropConfig, SamplingConfig, save_bundle, segmenter_networks
from spinepaint.models.localiser import DiscLocaliser
from spinepaint.models.segmentation import (
    DenoiserConfig,
    DiffusionNetwork,
    EnsembleConfig,
    PlainConfig,
    PlainSegmenter,
    SegmenterConfig,
    Segmenters,
)
from spinepaint.models.unet import ConditionalUNet, UNetConfig

TINY_SEGMENTER = SegmenterConfig(
    PlainConfig(filters=(16, 16, 16)), DenoiserConfig(widths=(16, 16)), EnsembleConfig(steps=3, samples=1, last_steps=2)
)


def write_tiny_bundle(folder: Path, *, segmenter: bool = False) -> Path:
    """A bundle with a grid of 32 x 32 x 8, told degrees and shown the donor, 2 DDIM steps; with a segmenter where asked."""
    torch.manual_seed(0)
    autoencoder = SliceAutoencoder(AutoencoderConfig(channels=16, encoder_blocks=1, decoder_blocks=1, codes=64))
    autoencoder.codebook.vectors.copy_(torch.randn(64, 3))
    unet = ConditionalUNet(UNetConfig(channels=(16, 32), head_channels=16, norm_groups=8, degree_waves=4, donor=True))
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))  # MONAI starts with zeroed output layers
    localiser = DiscLocaliser(BundleConfig("tiny").localiser)
    config = BundleConfig(
        name="tiny",
        crop=CropConfig(grid=(32, 32, 8)),
        sampling=SamplingConfig(solver="ddim", steps=2, degrees=((0.3, 0.45), (0.55, 0.8), (0.4, 0.5), (0.7, 0.85))),
        autoencoder=autoencoder.config,
        unet=unet.config,
        localiser=localiser.config,
        segmenter=TINY_SEGMENTER if segmenter else None,
    )
    networks: dict[str, nn.Module] = {"autoencoder": autoencoder, "inpainter": unet, "localiser": localiser}
    if segmenter:
        plain, diffusion = PlainSegmenter(TINY_SEGMENTER.plain), DiffusionNetwork(TINY_SEGMENTER.denoiser)
        for bias in (plain.leave.conv.conv.bias, diffusion.denoiser.head.bias):
            nn.init.constant_(bias, 4.0)  # it finds something everywhere
        networks |= segmenter_networks(Segmenters(TINY_SEGMENTER, plain, diffusion))
    save_bundle(folder, config, networks, "Random weights.\n")
    return folder
