"""Settings of `spinepaint train segmenter`, and the data that they name: folds by patient."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spinepaint.imaging.errors import Refusal
from spinepaint.models.segmentation import SegmenterConfig, segmenter_config
from spinepaint.training.segmenter_scores import Case
from spinepaint.training.segmenter_spines import HELD_OUT_SEED, Look, Spine, read_looks, read_spine
from spinepaint.training.spider import is_held_out


@dataclass(frozen=True)
class SegmenterTraining:
    """Settings of `spinepaint train segmenter`.

    spider: the folder of SPIDER's mid-sagittal slices that lend their look, or None for phantoms alone.
    phantoms: how many spines are learnt from, each in T2 and T1; kept in `spines`, `run_dir`/spines when left out.
    fold: None to learn from every spine; 0 to `folds` − 1 to leave those patients out (seed or SPIDER patient modulo `folds`);
        "all" for each of the folds in turn, with the summary in cross_validation.json.
    pre_segmented: the share of examples whose noised masks are the plain network's, as published, and not the truth's.
    max_minutes: of each network's part of one call; calling again resumes exactly.
    held_out: how many phantoms that are not learnt from each validation segments.
    plain, denoiser, ensemble: fields of `PlainConfig`, `DenoiserConfig` and `EnsembleConfig`.

    Raises Refusal (`bad-config`) for settings that cannot be.
    """

    run_dir: str
    spider: str | None = None
    spines: str | None = None
    phantoms: int = 200
    t1_share: float = 0.4
    plain_steps: int = 3000
    diffusion_steps: int = 3000
    batch: int = 8
    plain_lr: float = 2e-3
    diffusion_lr: float = 1e-3
    pre_segmented: float = 0.5
    seed: int = 0
    fold: int | str | None = None
    folds: int = 5
    max_minutes: float | None = None
    validate_every: int = 500
    held_out: int = 4
    spacing_mm: float = 1.25
    bf16: bool = True
    plain: dict[str, Any] = field(default_factory=dict)
    denoiser: dict[str, Any] = field(default_factory=dict)
    ensemble: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.fold not in (None, "all", *range(self.folds)):
            raise Refusal("bad-config", f"There is no fold {self.fold!r} of {self.folds}.", "Choose one of them, all, or none.")
        if self.phantoms < self.folds:
            raise Refusal("bad-config", f"{self.phantoms} phantoms are too few.", f"Give at least {self.folds}.")
        try:
            self.model()
        except (TypeError, ValueError) as error:
            raise Refusal("bad-config", "There are no such networks.", f"{error}.") from error

    def model(self) -> SegmenterConfig:
        """The networks' sizes."""
        parts = {"plain": self.plain, "denoiser": self.denoiser, "ensemble": self.ensemble}
        return segmenter_config({**parts, "spacing_mm": self.spacing_mm})

    def judges(self, fold: int | None, patient: int) -> bool:
        """Whether a SPIDER patient's slices judge a fold; those that are held out from every training judge the whole."""
        held_out = is_held_out(patient)
        return held_out if fold is None else not held_out and patient % self.folds == fold


@dataclass(frozen=True)
class Material:
    """What a fold learns from, and what it is judged by."""

    spines: list[Spine]
    looks: list[Look]
    cases: list[Case]


def gather(config: SegmenterTraining, fold: int | None) -> Material:
    """Read, or make, a fold's data."""
    seeds = [config.seed + k for k in range(config.phantoms)]
    outside = [seed for seed in seeds if fold is not None and seed % config.folds == fold]
    folder = Path(config.spines) if config.spines else Path(config.run_dir) / "spines"
    spines = [read_spine(seed, folder) for seed in seeds if seed not in outside]

    def learnt_from(patient: int) -> bool:
        return not is_held_out(patient) and not config.judges(fold, patient)

    judged = outside or [HELD_OUT_SEED + k for k in range(config.held_out)]
    cases = [Case(seed, "T1" if k % 3 == 2 else "T2") for k, seed in enumerate(judged[: config.held_out])]
    return Material(spines, read_looks(Path(config.spider), learnt_from) if config.spider else [], cases)
