"""What an evaluation looks at: painted donors, true lesions, training cases; made once and kept in files."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import track

from spinepaint.models.bundle import Bundle
from spinepaint.training.evaluation.cases import LEVELS, Cases, kept, kept_features
from spinepaint.training.evaluation.features import Extractor
from spinepaint.training.evaluation.painting import DIFFERENTIAL, VARIANTS
from spinepaint.training.evaluation.phantoms import UNTOUCHED, donor_cases, reference_cases, training_cases
from spinepaint.training.evaluation.real import RealLevels
from spinepaint.training.evaluation.tables import Set

PARTS = ("tables", "presence", "blending", "memorisation", "downstream", "real", "reconstruction")
NEED_REAL = ("real", "reconstruction")
METHODS = ("weighted", "masked", "repaint", DIFFERENTIAL)
_FORMAT = "v1"  # of the kept cases: a new one wherever what is kept changes its meaning


@dataclass(frozen=True)
class Evaluation:
    """What to evaluate, and how much of it.

    phantoms: donors, each painted at one level with every condition, `samples` times; methods: see `VARIANTS`, the first
    being the one that is served; real: SPIDER's folder, None to leave real slices out; steps: of the solver, None for the
    bundle's own; limit: at most so many phantoms, real discs and so on, for a quick look; training_phantoms: how many of the
    phantoms that networks are fitted on, from seed 0, the memorisation check compares with.
    """

    bundle: Path
    out: Path
    phantoms: int = 50
    samples: int = 1
    methods: tuple[str, ...] = METHODS
    seed: int = 0
    real: Path | None = None
    parts: tuple[str, ...] = PARTS
    steps: int | None = None
    limit: int | None = None
    training_phantoms: int = 160
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Raise ValueError for unknown parts or methods, and for real slices alone without a folder of them."""
        if self.real is None and set(self.parts) <= set(NEED_REAL):
            raise ValueError(f"the part `{self.parts[0]}` needs a folder of real slices")
        for name, given, known in (("part", self.parts, PARTS), ("method", self.methods, VARIANTS)):
            unknown = [item for item in given if item not in known]
            if unknown or not given:
                raise ValueError(f"unknown {name} {', '.join(unknown) or '(none)'}; choose from: {', '.join(known)}")

    def at_most(self, number: int) -> int:
        """`number`, or the limit where that is less."""
        return number if self.limit is None else min(number, self.limit)


class Material:
    """The cases that the parts look at, made when first asked for and kept under `<out>/cases`."""

    def __init__(self, settings: Evaluation, models: Bundle, extract: Extractor) -> None:
        self.settings, self.models, self.extract = settings, models, extract
        self.steps = settings.steps or models.config.sampling.steps
        crop = models.config.crop
        cells = "x".join(f"{value:g}" for value in (*crop.extent_mm, *crop.grid))
        root = settings.out / "cases"
        self._shared = root / f"{_FORMAT}-{cells}"
        self._own = root / f"{_FORMAT}-{models.sha256[:16]}-{self.steps}steps-seed{settings.seed}"
        self._real: dict[bool, RealLevels] = {}

    def edits(self, variant: str) -> Set:
        """Every donor painted by one variant, with features."""
        s = self.settings
        samples = 1 if variant == UNTOUCHED else s.samples

        def make(number: int) -> Cases:
            return donor_cases(self.models, number, variant, samples=samples, steps=self.steps, seed=s.seed)

        folder = self._own / f"{variant.replace(':', '-')}-{samples}"
        return self._set(folder, s.at_most(s.phantoms), make, f"Painting: {variant}")

    def references(self, which: int) -> Set:
        """A set that truly has the lesions, each condition at each level about as often as there are donors of that level.

        Set 1 is graded.
        """
        crop = self.models.config.crop
        count = -(-8 * self.settings.at_most(self.settings.phantoms) // len(LEVELS))

        def make(number: int) -> Cases:
            return reference_cases(which, number, crop, graded=which == 1)

        return self._set(self._shared / f"references-{which}", count, make, f"Reference phantoms, set {which + 1}")

    def training(self) -> Cases:
        """Phantoms that networks are fitted on, without features."""
        count = self.settings.at_most(self.settings.training_phantoms)
        return self._cases(
            self._shared / "training", count, lambda seed: training_cases(seed, self.models.config.crop), "Training phantoms"
        )

    def real_edits(self, variant: str) -> Cases:
        """Held-out real discs without a herniation, painted with both severities."""
        levels = self._levels(held_out=True)

        def make(number: int) -> Cases:
            return levels.painted(self.models, number, variant, steps=self.steps, seed=self.settings.seed)

        folder = self._own / f"real-{variant.replace(':', '-')}"
        return self._cases(folder, self.settings.at_most(levels.clean), make, f"Real slices: {variant}")

    def real_herniated(self) -> tuple[Cases, int]:
        """Really herniated discs of both splits, and how many discs of them are of held-out patients."""
        found, held = [], 0
        for held_out in (True, False):
            levels = self._levels(held_out=held_out)
            count = self.settings.at_most(levels.herniated)
            held += count * held_out
            if count:
                folder = self._shared / f"herniated-{'held-out' if held_out else 'training'}"
                found.append(self._cases(folder, count, levels.really_herniated, "Really herniated discs"))
        return Cases.joined(found), held

    def real_simulated(self, *, held_out: bool) -> Cases:
        """Lesions in real slices as networks learn them, of one split."""
        levels = self._levels(held_out=held_out)
        folder = self._shared / f"simulated-{'held-out' if held_out else 'training'}"
        return self._cases(folder, self.settings.at_most(100 if held_out else 400), levels.simulated, "Lifted training slices")

    def _levels(self, *, held_out: bool) -> RealLevels:
        if self.settings.real is None:
            raise ValueError("the part `real` needs a folder of real slices")
        if held_out not in self._real:
            self._real[held_out] = RealLevels(self.settings.real, self.models.config.crop, held_out=held_out)
        return self._real[held_out]

    def _cases(self, folder: Path, count: int, make: Callable[[int], Cases], words: str) -> Cases:
        return Cases.joined(table for _, table in self._each(folder, count, make, words))

    def _set(self, folder: Path, count: int, make: Callable[[int], Cases], words: str) -> Set:
        tables, features = [], []
        for number, table in self._each(folder, count, make, words):
            tables.append(table)
            if "tables" in self.settings.parts:
                path = folder / f"{number:06d}.features.npy"
                features.append(kept_features(path, lambda t=table: t.patch.astype(np.float32), self.extract))  # type: ignore[misc]
        return Set(Cases.joined(tables), np.concatenate(features) if features else np.zeros((0, 0, 0)))

    def _each(self, folder: Path, count: int, make: Callable[[int], Cases], words: str) -> Iterator[tuple[int, Cases]]:
        missing = any(not (folder / f"{number:06d}.npz").exists() for number in range(count))
        numbers: Iterable[int] = track(range(count), words) if missing else range(count)
        for number in numbers:
            yield number, kept(folder / f"{number:06d}.npz", lambda n=number: make(n))  # type: ignore[misc]
