"""A bundle: the weights, the sizes and the numbers that a model needs, as a folder.

`config.json`, one `*.safetensors` a network, `MODEL_CARD.md` and `SHA256SUMS`. Weights are never
pickled; a file that does not match its sum, or is not listed, is refused.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from spinepaint.models.autoencoder import AutoencoderConfig, SliceAutoencoder
from spinepaint.models.inpaint import Inpainter
from spinepaint.models.localiser import DiscLocaliser, LocaliserConfig
from spinepaint.models.memory import channels_last
from spinepaint.models.rl_localiser import RlLocaliser, RlLocaliserConfig
from spinepaint.models.schedule import alpha_bar_table
from spinepaint.models.segmentation import DiffusionNetwork, PlainSegmenter, SegmenterConfig, Segmenters, segmenter_config
from spinepaint.models.unet import ConditionalUNet, UNetConfig

SUMS = "SHA256SUMS"


class BundleError(ValueError):
    """A bundle that is missing, altered or not understood."""


@dataclass(frozen=True)
class CropConfig:
    """The FSU crop: outer size in mm and voxels, along X (feet), Y (back) and Z (left)."""

    extent_mm: tuple[float, float, float] = (80.0, 80.0, 50.0)
    grid: tuple[int, int, int] = (128, 128, 16)


@dataclass(frozen=True)
class ScheduleConfig:
    """The noise schedule (see `alpha_bar_table`)."""

    steps: int = 1000
    beta_start: float = 0.0015
    beta_end: float = 0.0195


@dataclass(frozen=True)
class SamplingConfig:
    """What a caller gets who does not say: the solver and its steps, σ in mm, and the guidance, one or one a condition.

    Guidance leads away from the average lesion: it makes large ones larger, and small ones vanish, hence one a condition.
    `degrees`: for each condition, in the vocabulary's order, the range that a sample's degree is drawn from; empty for a
    network that is not told degrees.
    """

    solver: str = "pndm"
    steps: int = 50
    sigma_mm: float = 16.0
    guidance: float | tuple[float, ...] = 1.0
    degrees: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class PasteConfig:
    """Where the edit comes back: wholly within `inner_mm` of the landmark, nothing from `outer_mm` on."""

    mode: str = "difference"
    inner_mm: float = 12.0
    outer_mm: float = 24.0


@dataclass(frozen=True)
class BundleConfig:
    """Everything in `config.json`. A part that is None is not in the bundle."""

    name: str
    crop: CropConfig = field(default_factory=CropConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    paste: PasteConfig = field(default_factory=PasteConfig)
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    unet: UNetConfig = field(default_factory=UNetConfig)
    localiser: LocaliserConfig = field(default_factory=LocaliserConfig)
    rl_localiser: RlLocaliserConfig | None = None
    segmenter: SegmenterConfig | None = None


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle: its configuration, its networks in evaluation mode, and the sum that names it."""

    config: BundleConfig
    inpainter: Inpainter
    localiser: DiscLocaliser
    sha256: str
    rl_localiser: RlLocaliser | None = None
    segmenter: Segmenters | None = None


def draw_degree(sampling: SamplingConfig, condition: int, seed: int) -> float | None:
    """How far along the asked severity a sample lies, evenly within the bundle's range; None where it has none."""
    if not sampling.degrees:
        return None
    low, high = sampling.degrees[condition]
    return float(np.random.default_rng((seed, condition)).uniform(low, high))


def guidance_for(sampling: SamplingConfig, condition: int) -> float:
    """The guidance that a condition, by its place in the vocabulary's order, is sampled with."""
    return sampling.guidance[condition] if isinstance(sampling.guidance, tuple) else sampling.guidance


def save_bundle(folder: Path, config: BundleConfig, networks: Mapping[str, nn.Module], card: str) -> str:
    """Write a bundle in half precision; its SHA-256.

    `networks`: `autoencoder`, `inpainter` and `localiser`, and where there are any `rl_localiser`, and the segmenter's two,
    `segmenter_plain` and `segmenter_diffusion`; `config` holds their sizes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, network in networks.items():
        half = {key: value.detach().contiguous().half() for key, value in network.state_dict().items()}
        weights = folder / f"{name}.safetensors"
        save_file(half, weights)
        weights.chmod(0o644)  # safetensors writes for its owner alone, but a service may run as somebody else
    (folder / "config.json").write_text(json.dumps(asdict(config), indent=1) + "\n")
    (folder / "MODEL_CARD.md").write_text(card)
    return seal(folder)


def seal(folder: Path) -> str:
    """(Re)write SHA256SUMS over every file of a bundle; the sum that names the bundle."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != SUMS)
    (folder / SUMS).write_text("".join(f"{_sha256(path)}  {path.name}\n" for path in files))
    return bundle_sha256(folder)


def bundle_sha256(folder: Path) -> str:
    """The SHA-256 of the list of sums: it changes with any file of the bundle."""
    path = folder / SUMS
    if not path.is_file():
        raise BundleError(f"no {SUMS} in bundle {folder.name!r}")
    return _sha256(path)


def verify(folder: Path) -> None:
    """Raise BundleError unless every listed file matches its sum and every weight file is listed."""
    listed = {}
    bundle_sha256(folder)
    for line in (folder / SUMS).read_text().splitlines():
        digest, _, name = line.partition("  ")
        listed[name] = digest
    for name, digest in listed.items():
        path = folder / name
        if Path(name).name != name or not path.is_file() or _sha256(path) != digest:
            raise BundleError(f"bundle {folder.name!r}: {name!r} is missing or does not match its SHA-256")
    unlisted = [path.name for path in folder.glob("*.safetensors") if path.name not in listed]
    if unlisted or "config.json" not in listed:
        raise BundleError(f"bundle {folder.name!r}: not in {SUMS}: {', '.join(unlisted) or 'config.json'}")


def read_config(folder: Path) -> BundleConfig:
    """The configuration of a bundle; BundleError where it is not one that this version understands."""
    try:
        raw: dict[str, Any] = json.loads((folder / "config.json").read_text())
        parts: dict[str, Any] = {
            "crop": CropConfig,
            "schedule": ScheduleConfig,
            "sampling": SamplingConfig,
            "paste": PasteConfig,
            "autoencoder": AutoencoderConfig,
            "unet": UNetConfig,
            "localiser": LocaliserConfig,
        }
        optional = {"rl_localiser": RlLocaliserConfig}  # bundles of earlier versions do not name it
        parts |= {name: make for name, make in optional.items() if raw.get(name) is not None}
        built = {name: make(**tuples(raw[name])) for name, make in parts.items()}
        if raw.get("segmenter") is not None:
            built["segmenter"] = segmenter_config(raw["segmenter"])
        return BundleConfig(name=str(raw["name"]), **built)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise BundleError(f"bundle {folder.name!r}: config.json cannot be read ({error})") from error


def load_bundle(folder: Path, device: str = "cpu") -> Bundle:
    """Verify and load a bundle; networks in evaluation mode, float32, on `device`."""
    verify(folder)
    config = read_config(folder)
    autoencoder, unet = SliceAutoencoder(config.autoencoder), ConditionalUNet(config.unet)
    localiser = DiscLocaliser(config.localiser)
    networks: dict[str, nn.Module] = {"autoencoder": autoencoder, "inpainter": unet, "localiser": localiser}
    rl_localiser = RlLocaliser(config.rl_localiser) if config.rl_localiser else None
    if rl_localiser is not None:
        networks["rl_localiser"] = rl_localiser
    segmenter = _empty_segmenter(config.segmenter) if config.segmenter else None
    if segmenter is not None:
        networks |= segmenter_networks(segmenter)
    for name, network in networks.items():
        try:
            state = {key: value.float() for key, value in load_file(folder / f"{name}.safetensors").items()}
        except (OSError, SafetensorError) as error:
            raise BundleError(f"bundle {folder.name!r}: {name}.safetensors cannot be read") from error
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            raise BundleError(f"bundle {folder.name!r}: {name}.safetensors does not fit config.json") from error
        channels_last(network.eval().requires_grad_(False)).to(device)
    table = alpha_bar_table(config.schedule.steps, config.schedule.beta_start, config.schedule.beta_end)
    inpainter = Inpainter(autoencoder, unet, table, config.crop.extent_mm)
    return Bundle(config, inpainter, localiser, bundle_sha256(folder), rl_localiser, segmenter)


def segmenter_networks(segmenter: Segmenters) -> dict[str, nn.Module]:
    """The segmenter's networks by the names that a bundle gives them."""
    return {"segmenter_plain": segmenter.plain, "segmenter_diffusion": segmenter.diffusion}


def _empty_segmenter(config: SegmenterConfig) -> Segmenters:
    return Segmenters(config, PlainSegmenter(config.plain), DiffusionNetwork(config.denoiser))


def tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """Lists as tuples, nested ones too: JSON and YAML have none, and the frozen configurations compare and hash by them."""
    return {key: _tuple(value) for key, value in values.items()}


def _tuple(value: Any) -> Any:
    return tuple(_tuple(item) for item in value) if isinstance(value, list) else value


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
