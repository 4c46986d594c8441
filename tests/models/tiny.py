"""A small inpainter with weights that matter."""

import torch

from spinepaint.models.autoencoder import AutoencoderConfig, SliceAutoencoder
from spinepaint.models.inpaint import Inpainter
from spinepaint.models.schedule import alpha_bar_table
from spinepaint.models.unet import ConditionalUNet, UNetConfig

CROP = (32, 32, 8)
EXTENT_MM = (80.0, 80.0, 50.0)


def tiny_inpainter() -> Inpainter:
    """The same weights every time."""
    generator = torch.Generator().manual_seed(3)
    autoencoder = SliceAutoencoder(AutoencoderConfig(channels=8, encoder_blocks=1, decoder_blocks=1, codes=32)).eval()
    autoencoder.codebook.vectors.copy_(torch.randn(32, 3, generator=generator))
    config = UNetConfig(channels=(16, 32), head_channels=16, norm_groups=8, degree_waves=2, donor=True, predicts="change")
    unet = ConditionalUNet(config).eval()
    with torch.no_grad():
        # MONAI starts with zeroed output layers, and torch with weights that differ from run to run.
        for network in (autoencoder, unet):
            for parameter in network.parameters():
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return Inpainter(autoencoder, unet, alpha_bar_table(), EXTENT_MM)
