"""From checkpoints to a bundle that the service can load."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from spinepaint.models.autoencoder import AutoencoderConfig, SliceAutoencoder
from spinepaint.models.bundle import (
    SUMS,
    BundleConfig,
    CropConfig,
    PasteConfig,
    SamplingConfig,
    load_bundle,
    save_bundle,
    segmenter_networks,
    tuples,
)
from spinepaint.models.localiser import DiscLocaliser, LocaliserConfig
from spinepaint.models.memory import channels_last
from spinepaint.models.rl_localiser import RlLocaliser, RlLocaliserConfig
from spinepaint.models.unet import ConditionalUNet, UNetConfig
from spinepaint.training.segmenter_run import read_segmenter


@dataclass(frozen=True)
class BundleTraining:
    """Settings of `spinepaint train bundle`: the runs whose weights belong together, and the defaults to serve them with.

    `autoencoder`, `localiser`, `rl_localiser` and `segmenter` (a bundle may do without the last two) are runs' folders, or
    bundles to take them from; `card` is the model card's text file.
    """

    name: str
    folder: str
    autoencoder: str
    inpainter: str
    localiser: str
    card: str
    autoencoder_model: dict[str, Any] = field(default_factory=dict)
    inpainter_model: dict[str, Any] = field(default_factory=dict)
    sampling: dict[str, Any] = field(default_factory=dict)
    paste: dict[str, Any] = field(default_factory=dict)
    crop: dict[str, Any] = field(default_factory=dict)
    rl_localiser: str | None = None
    segmenter: str | None = None


def read_autoencoder(run: Path, model: dict[str, Any]) -> SliceAutoencoder:
    """The autoencoder of a bundle, or of a run's checkpoint with the sizes `model` and the latent scale that the run measured.

    In evaluation mode.
    """
    if (run / SUMS).exists():
        return load_bundle(run).inpainter.autoencoder
    parts = torch.load(run / "checkpoint.pt", map_location="cpu", weights_only=True)["parts"]
    scale = json.loads((run / "latent_scale.json").read_text())["latent_scale"]
    autoencoder = SliceAutoencoder(replace(AutoencoderConfig(**model), latent_scale=scale))
    autoencoder.load_state_dict(parts["model"]["module"])
    return channels_last(autoencoder.eval().requires_grad_(False))


def denoiser_for(autoencoder: SliceAutoencoder, model: dict[str, Any]) -> ConditionalUNet:
    """A denoiser of the sizes `model`, for as many latent channels as the autoencoder has where `model` does not say."""
    return ConditionalUNet(UNetConfig(**{"latent_channels": autoencoder.config.latent_channels, **model}))


def read_localiser(run: Path) -> DiscLocaliser:
    """The localiser of a bundle or of a run."""
    if (run / SUMS).exists():
        return load_bundle(run).localiser
    localiser = DiscLocaliser(LocaliserConfig(**json.loads((run / "config.json").read_text())))
    localiser.load_state_dict({key: value.float() for key, value in load_file(run / "localiser.safetensors").items()})
    return localiser


def read_rl_localiser(run: Path) -> RlLocaliser:
    """The agents' network of a bundle or of a run; ValueError where the bundle has none."""
    if (run / SUMS).exists():
        network = load_bundle(run).rl_localiser
        if network is None:
            raise ValueError(f"bundle {run.name!r} has no agents' network")
        return network
    network = RlLocaliser(RlLocaliserConfig(**json.loads((run / "config.json").read_text())))
    network.load_state_dict({key: value.float() for key, value in load_file(run / "rl_localiser.safetensors").items()})
    return network.eval().requires_grad_(False)


def assemble(config: BundleTraining) -> dict[str, Any]:
    """Write the bundle; its name and SHA-256."""
    autoencoder = read_autoencoder(Path(config.autoencoder), config.autoencoder_model)
    unet = denoiser_for(autoencoder, config.inpainter_model)
    parts = torch.load(Path(config.inpainter) / "checkpoint.pt", map_location="cpu", weights_only=True)["parts"]
    unet.load_state_dict(parts["average"])
    localiser = read_localiser(Path(config.localiser))
    rl_localiser = read_rl_localiser(Path(config.rl_localiser)) if config.rl_localiser else None
    segmenter = read_segmenter(Path(config.segmenter)) if config.segmenter else None
    bundle = BundleConfig(
        name=config.name,
        crop=CropConfig(**config.crop),
        sampling=SamplingConfig(**tuples(config.sampling)),
        paste=PasteConfig(**config.paste),
        autoencoder=autoencoder.config,
        unet=unet.config,
        localiser=localiser.config,
        rl_localiser=rl_localiser.config if rl_localiser else None,
        segmenter=segmenter.config if segmenter else None,
    )
    networks: dict[str, nn.Module] = {"autoencoder": autoencoder, "inpainter": unet, "localiser": localiser}
    if rl_localiser:
        networks["rl_localiser"] = rl_localiser
    if segmenter:
        networks |= segmenter_networks(segmenter)
    digest = save_bundle(Path(config.folder), bundle, networks, Path(config.card).read_text())
    return {"name": config.name, "sha256": digest}
