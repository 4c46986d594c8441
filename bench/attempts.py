"""How often a sample shows what was asked, and what that costs: `python -m bench.attempts --phantoms 20 [--attempts 3]`.

Each held-out phantom gets all four conditions at one level, drawn as the service draws (localiser, landmark, attempts that are
judged by the bundle's own verification). What is kept is graded by what is known of the phantom (`training.evaluation.severity`),
which shares nothing with that verification; the first attempt, which is what one attempt alone gives, is graded beside it. Times
are CPU seconds. Exits with 1 where less than 95 % of what is kept falls in the class that was asked.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from spinepaint.imaging.severity import severity_of
from spinepaint.imaging.vocabulary import CONDITIONS, Fsu, Pathology
from spinepaint.models.bundle import Bundle
from spinepaint.models.inpaint import inpaint
from spinepaint.training.crops import phantom_volume
from spinepaint.training.evaluation.severity import Grader
from spinepaint.training.evaluation.shares import wilson
from spinepaint.training.phantom import make_phantom
from spinepaint.worker import steps
from spinepaint.worker.bundles import loaded_bundle
from spinepaint.worker.drawing import Drawn, draw
from spinepaint.worker.spec import resolve
from spinepaint.worker.stages import Stages

FIRST_SEED = 970_000  # far from every training seed, and from those of any fit
PROMISED = 0.95


@dataclass(frozen=True)
class Row:
    """One sample: its condition, and whether the class asked is seen in its first attempt and in the kept one, by the grader.

    degree: of the kept one, by the grader; measured: by the service. verified: whether the service says that the kept one shows
    what was asked. tries: attempts. localise_s, draw_s: CPU seconds of localising (and segmenting) a series, and of all attempts.
    """

    seed: int
    condition: int
    first: bool
    kept: bool
    degree: float
    measured: float | None
    verified: bool
    tries: int
    localise_s: float
    draw_s: float


def draw_all(models: Bundle, seed: int, attempts: int) -> list[Row]:
    """All four conditions at one level of one phantom; empty where the localiser does not find the level."""
    phantom = make_phantom(seed)
    volume, level = phantom_volume(phantom), list(Fsu)[seed % 5]
    began = time.process_time()
    discs = steps.localise_discs(models, volume)
    localise_s = time.process_time() - began
    if level not in discs.centres_lps_mm:
        return []
    grader, rows = Grader(phantom, level), []
    for condition, (pathology, severity) in enumerate(CONDITIONS):
        spec = resolve(
            {"pathology": pathology, "severity": severity, "fsu": level, "seed": seed, "attempts": attempts},
            models.config.sampling,
        )

        def graded(drawn: Drawn, pathology: Pathology = pathology) -> float:
            return grader.degree(drawn.best.required().pasted.voxels, pathology, drawn.landmark)

        began = time.process_time()
        drawn = draw(models, volume, discs, spec, Stages(None, 1), inpaint)
        draw_s, kept, degree = time.process_time() - began, drawn.best.required(), graded(drawn)
        alone = replace(spec, attempts=1)
        first = degree if kept.number == 1 else graded(draw(models, volume, discs, alone, Stages(None, 1), inpaint))
        rows.append(
            Row(
                seed=seed,
                condition=condition,
                first=severity_of(pathology, first) is severity,
                kept=severity_of(pathology, degree) is severity,
                degree=round(degree, 3),
                measured=kept.quality.degree,
                verified=kept.quality.verified,
                tries=len(drawn.best.tries),
                localise_s=round(localise_s, 3),
                draw_s=round(draw_s, 3),
            )
        )
    return rows


def share(values: Sequence[bool]) -> str:
    """A share with its 95 % interval by Wilson's score."""
    known = wilson(sum(values), len(values))
    return f"{known.value:6.1%} [{known.low:.0%}, {known.high:.0%}]"


def told(rows: Sequence[Row]) -> str:
    """The rows in words and numbers, by condition and together."""
    lines = [f"{'':<34}{'n':>4}  {'first attempt':<20}{'kept':<20}{'verified':<20}{'attempts':>8}{'CPU s':>8}"]
    groups = [(f"{p.value} {s.value}", [r for r in rows if r.condition == i]) for i, (p, s) in enumerate(CONDITIONS)]
    for name, some in [*groups, ("all", list(rows))]:
        shares = "".join(f"{share([getattr(row, field) for row in some]):<20}" for field in ("first", "kept", "verified"))
        mean = np.mean([row.tries for row in some]), np.mean([row.draw_s for row in some])
        lines.append(f"{name:<34}{len(some):>4}  {shares}{mean[0]:>8.2f}{mean[1]:>8.2f}")
    right = [row.verified == row.kept for row in rows]
    away = np.array([row.measured - row.degree for row in rows if row.measured is not None])
    lines.append(f"the service's verdict on what it keeps is the grader's in {share(right)}")
    lines.append(f"degree as the service measures it less the grader's: {away.mean():+.3f}, standard deviation {away.std():.3f}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phantoms", type=int, default=20)
    parser.add_argument("--attempts", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument("--bundle", type=Path, help="another bundle than the shipped one")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    models = loaded_bundle(arguments.bundle)
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.phantoms)
    painted = [draw_all(models, seed, arguments.attempts) for seed in seeds]
    rows = [row for some in painted for row in some]
    found = sum(map(bool, painted))
    print(f"bundle {models.config.name} {models.sha256[:12]}: {found} of {len(painted)} phantoms had the level found")
    print(told(rows))
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    return int(float(np.mean([row.kept for row in rows])) < PROMISED)


if __name__ == "__main__":
    sys.exit(main())
