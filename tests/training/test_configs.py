"""Every configuration that ships holds settings that the code knows, and networks that can be built."""

from pathlib import Path

import pytest
import torch
import yaml

import spinepaint.training
from spinepaint.models.bundle import SamplingConfig
from spinepaint.models.unet import ConditionalUNet, UNetConfig
from spinepaint.training.autoencoder import AutoencoderTraining
from spinepaint.training.bundles import BundleTraining
from spinepaint.training.inpainter import InpainterTraining
from spinepaint.training.latent_data import LatentData
from spinepaint.training.localiser import LocaliserTraining
from spinepaint.training.rl_localiser import RlLocaliserTraining
from spinepaint.training.segmenter_settings import SegmenterTraining

FOLDER = Path(spinepaint.training.__file__).parent / "configs"
KINDS = {
    "autoencoder": AutoencoderTraining,
    "inpainter": InpainterTraining,
    "localiser": LocaliserTraining,
    "segmenter": SegmenterTraining,
    "rl-localiser": RlLocaliserTraining,
    "bundle": BundleTraining,
}


def _kind(path: Path) -> str:
    """The longest kind that the file's name ends in: `lite-rl-localiser` is no `localiser`."""
    return max((kind for kind in KINDS if path.stem.endswith(f"-{kind}")), key=len)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_configuration_is_understood(path: Path) -> None:
    settings = KINDS[_kind(path)](**yaml.safe_load(path.read_text()))
    if isinstance(settings, InpainterTraining):
        LatentData(**settings.data)
        with torch.device("meta"):
            ConditionalUNet(UNetConfig(**settings.model))
    if isinstance(settings, BundleTraining):
        SamplingConfig(**settings.sampling)
        inpainter = yaml.safe_load((path.with_name(path.name.replace("bundle", "inpainter"))).read_text())
        assert settings.inpainter_model == inpainter["model"]
        assert settings.inpainter == inpainter["run"]
