"""Fits the segmenter: the plain network, then the diffusion network that starts from its masks; one fold or five.

`spinepaint train segmenter`. Losses and cross-validation as in arXiv 2411.10755, on phantoms that look like real slices.
"""

import json
from dataclasses import asdict
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from safetensors.torch import save_file

from spinepaint.training import fitting
from spinepaint.training.segmenter_run import DIFFUSION, PLAIN
from spinepaint.training.segmenter_scores import score_looks, score_phantoms
from spinepaint.training.segmenter_settings import SegmenterTraining, gather
from spinepaint.training.segmenter_tasks import DiffusionTask, PlainTask, assembled


def train_segmenter(config: SegmenterTraining) -> dict[str, Any]:
    """Fit, or resume, what `config.fold` says; the last figures."""
    run = Path(config.run_dir)
    if config.fold != "all":
        return fit_fold(config, None if config.fold is None else int(config.fold), run)
    found = [fit_fold(config, fold, run / f"fold-{fold}") for fold in range(config.folds)]
    summary = {
        name: {"mean": fmean(values), "sd": stdev(values) if len(values) > 1 else 0.0, "folds": values}
        for name in found[0]
        for values in [[figures[name] for figures in found]]
    }
    (run / "cross_validation.json").write_text(json.dumps(summary, indent=1) + "\n")
    return summary


def fit_fold(config: SegmenterTraining, fold: int | None, run: Path) -> dict[str, float]:
    """Fit one fold into `run`: `plain.safetensors`, `diffusion.safetensors`, `config.json`, `facts.json`; its figures."""
    material = gather(config, fold)

    def fit(task: PlainTask | DiffusionTask, name: str) -> None:
        fitting.fit(
            task,
            run / name,
            task.steps,
            checkpoint_minutes=3.0,
            validate_every=config.validate_every,
            max_minutes=config.max_minutes,
        )
        state = {key: value.contiguous() for key, value in task.averaged.state_dict().items()}
        save_file(state, run / f"{name}.safetensors")

    first = PlainTask(config, material)
    fit(first, PLAIN)
    second = DiffusionTask(config, material, first.averaged)
    fit(second, DIFFUSION)
    (run / "config.json").write_text(json.dumps(asdict(config.model()), indent=1) + "\n")
    models = assembled(config, first.averaged, second.averaged)
    figures = {
        **{f"plain_{name}": value for name, value in score_phantoms(models, material.cases, None).items()},
        **{f"diffusion_{name}": value for name, value in score_phantoms(models, material.cases, second.ensemble).items()},
    }
    if config.spider:
        figures |= score_looks(models, Path(config.spider), lambda patient: config.judges(fold, patient))
    (run / "facts.json").write_text(json.dumps({"fold": fold, "spines": len(material.spines), **figures}, indent=1) + "\n")
    return figures
