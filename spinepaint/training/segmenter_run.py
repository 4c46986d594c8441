"""What a run of `train segmenter` leaves in its folder, or a bundle holds."""

import json
from pathlib import Path

from safetensors.torch import load_file

from spinepaint.models.bundle import SUMS, load_bundle
from spinepaint.models.memory import channels_last
from spinepaint.models.segmentation import DiffusionNetwork, PlainSegmenter, Segmenters, segmenter_config

PLAIN, DIFFUSION = "plain", "diffusion"


def read_segmenter(run: Path) -> Segmenters:
    """The segmenter of a run or of a bundle, in evaluation mode. Raises ValueError where the bundle has none."""
    if (run / SUMS).exists():
        segmenter = load_bundle(run).segmenter
        if segmenter is None:
            raise ValueError(f"bundle {run.name!r} has no segmenter")
        return segmenter
    config = segmenter_config(json.loads((run / "config.json").read_text()))
    plain, diffusion = PlainSegmenter(config.plain), DiffusionNetwork(config.denoiser)
    for name, network in ((PLAIN, plain), (DIFFUSION, diffusion)):
        network.load_state_dict(load_file(run / f"{name}.safetensors"))
        channels_last(network.eval().requires_grad_(False))
    return Segmenters(config, plain, diffusion)
