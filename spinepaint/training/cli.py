"""`spinepaint train KIND --config FILE`: a YAML file becomes settings, settings become a run."""

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import yaml

from spinepaint.imaging.errors import Refusal


def train(kind: str, config: Path) -> dict[str, Any]:
    """Run or resume a training; its last figures.

    kind: autoencoder, inpainter, localiser, rl-localiser, segmenter or bundle. Raises Refusal for a file that does not hold the
    settings.
    """
    settings_type, run = _task(kind)
    try:
        raw = yaml.safe_load(config.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise Refusal("bad-config", f"{config.name} cannot be read as YAML.", type(error).__name__) from error
    names = {item.name for item in fields(settings_type)}
    if not isinstance(raw, dict) or set(raw) - names:
        unknown = sorted(set(raw) - names) if isinstance(raw, dict) else []
        title = f"Unknown settings for {kind}: {', '.join(map(str, unknown))}."
        raise Refusal("bad-config", title, f"Known: {', '.join(sorted(names))}.")
    try:
        return run(settings_type(**raw))
    except TypeError as error:
        raise Refusal("bad-config", f"{config.name} lacks a setting or holds a wrong one.", str(error)) from error


def _task(kind: str) -> tuple[Any, Callable[[Any], dict[str, Any]]]:
    # Imported here: one training does not need the libraries of the others.
    if kind == "autoencoder":
        from spinepaint.training.autoencoder import AutoencoderTraining, train_autoencoder

        return AutoencoderTraining, train_autoencoder
    if kind == "inpainter":
        from spinepaint.training.inpainter import InpainterTraining, train_inpainter

        return InpainterTraining, train_inpainter
    if kind == "localiser":
        from spinepaint.training.localiser import LocaliserTraining, fit

        return LocaliserTraining, _in_folders(fit)
    if kind == "rl-localiser":
        from spinepaint.training.rl_localiser import RlLocaliserTraining
        from spinepaint.training.rl_localiser import fit as fit_agents

        return RlLocaliserTraining, _in_folders(fit_agents)
    if kind == "segmenter":
        from spinepaint.training.segmenter import train_segmenter
        from spinepaint.training.segmenter_settings import SegmenterTraining

        return SegmenterTraining, train_segmenter
    if kind == "bundle":
        from spinepaint.training.bundles import BundleTraining, assemble

        return BundleTraining, assemble
    raise Refusal(
        "unknown-training",
        f"There is no training {kind!r}.",
        "Choose: autoencoder, inpainter, localiser, rl-localiser, segmenter or bundle.",
    )


def _in_folders(fit: Callable[[Any], Path]) -> Callable[[Any], dict[str, Any]]:
    """A localiser's training from settings as YAML has them, whose folders are text."""

    def run(settings: Any) -> dict[str, Any]:
        folders = {"run_dir": Path(settings.run_dir), "spider": Path(settings.spider) if settings.spider else None}
        return {"weights": str(fit(replace(settings, **folders)))}

    return run
