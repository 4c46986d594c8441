"""All localisers in one table: `python -m bench.localisers --phantoms 20 [--spider FOLDER] [--real FOLDER] [--rl RUN]`.

On phantoms that nothing was trained on, as they are and spoilt by blur and noise, on SPIDER's held-out mid-sagittal slices
(errors in plane), on those held-out slices whose discs are points that a localiser proposed and a person named (SPIDER+: their
mm flatter it), and on series of your own: a folder of DICOM files each and `disc_centres.json`
({series: {"disc_centres_lps_mm": {fsu: [x, y, z]}}}). A localiser that the bundle has no weights for is left out; `--rl` takes
the agents' network from a training run. Columns, over the discs of the truth:

found: share with a centre under their name. mean, median, 95 %: mm from that centre to the truth, a neighbour's disc included.
<3, <5: share within that many mm. named: share whose nearest centre lies within 15 mm and has their name.
AUC: how well the confidence tells centres more than 10 mm off from the others; - where there are none.
ms: median CPU time a series, so that a busy machine counts little.
"""

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from spinepaint.imaging.orient import orient
from spinepaint.imaging.reading import read_series
from spinepaint.models.bundle import Bundle
from spinepaint.models.localisers import LOCALISERS, Found, Localise, MissingNetworkError
from spinepaint.training.bundles import read_rl_localiser
from spinepaint.training.crops import phantom_volume
from spinepaint.training.localiser_scenes import SCENE_MM, Scene, random_pathologies, read_scenes
from spinepaint.training.phantom import make_phantom
from spinepaint.training.ranking import auc
from spinepaint.training.rl_localiser import FAILED_MM
from spinepaint.training.spider import FSU_OF_IVD_LABEL
from spinepaint.training.spider_points import read_pointed_scenes
from spinepaint.worker.bundles import loaded_bundle

FIRST_SEED = 900_000  # far from every training seed
NEAR_MM = 15.0
SLICE_MM = 4.0  # of SPIDER's series, whose slices are here without their neighbours


@dataclass(frozen=True)
class Case:
    """A series, oriented (slice, row, column), its spacing in mm, and its discs as fractional voxel indices by FSU."""

    voxels: NDArray[np.float32]
    spacing_mm: tuple[float, float, float]
    truth: Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Score:
    """One disc of the truth: mm to the centre under its name (nan without one), the confidence, whether rightly named."""

    error_mm: float
    confidence: float
    named: bool


@dataclass(frozen=True)
class Row:
    """A line of the table; see the module."""

    cases: str
    localiser: str
    discs: int
    found: float
    mean_mm: float
    median_mm: float
    p95_mm: float
    within_3_mm: float
    within_5_mm: float
    named: float
    auc: float
    ms: float


def phantom_cases(count: int) -> Iterator[Case]:
    """Phantoms, a quarter of whose discs have a pathology."""
    for seed in range(FIRST_SEED, FIRST_SEED + count):
        phantom = make_phantom(seed, random_pathologies(np.random.default_rng(seed)))
        view = orient(phantom_volume(phantom))
        truth = {fsu: np.array(view.to_index(point)) for fsu, point in phantom.disc_centres_lps_mm.items()}
        yield Case(view.voxels, view.spacing, truth)


def spoilt_cases(cases: Sequence[Case]) -> Iterator[Case]:
    """The same series blurred in plane by up to 2 mm, with noise of up to 0.3 of the brightest tissue: there localisers fail."""
    for number, case in enumerate(cases):
        rng = np.random.default_rng((FIRST_SEED, number))
        blur = float(rng.uniform(0, 2)) / np.array(case.spacing_mm) * (0, 1, 1)
        noise = float(rng.uniform(0, 0.3) * np.percentile(case.voxels, 99))
        voxels = gaussian_filter(case.voxels, blur) + rng.normal(0, noise, case.voxels.shape)
        yield replace(case, voxels=voxels.astype(np.float32))


def spider_cases(scenes: Sequence[Scene]) -> Iterator[Case]:
    """Slices of held-out patients, each a series of one slice."""
    for scene in scenes:
        discs = {FSU_OF_IVD_LABEL.get(disc.level + 1): np.array([0.0, *disc.centre]) for disc in scene.discs}
        yield Case(scene.image[None], (SLICE_MM, SCENE_MM, SCENE_MM), {fsu: centre for fsu, centre in discs.items() if fsu})


def real_cases(folder: Path) -> Iterator[Case]:
    """Series of DICOM files with their truth."""
    for name, item in sorted(json.loads((folder / "disc_centres.json").read_text()).items()):
        view = orient(read_series(folder / name).volume)
        truth = {fsu: np.array(view.to_index(tuple(point))) for fsu, point in item["disc_centres_lps_mm"].items()}
        yield Case(view.voxels, view.spacing, truth)


def score(case: Case, found: Found) -> list[Score]:
    """How each disc of the truth was found."""
    scores = []
    for fsu, truth in case.truth.items():
        away = {name: float(np.linalg.norm((at - truth) * case.spacing_mm)) for name, at in found.centres.items()}
        nearest = min(away, key=away.__getitem__, default="")
        named = nearest == fsu and away[nearest] < NEAR_MM
        scores.append(Score(away.get(fsu, np.nan), found.confidence.get(fsu, 0.0), named))
    return scores


def compare(name: str, localiser: str, localise: Localise, cases: Sequence[Case]) -> Row:
    """One localiser on one set of cases."""
    localise(cases[0].voxels, cases[0].spacing_mm)  # warms up
    scores, seconds = [], []
    for case in cases:
        began = time.process_time()
        found = localise(case.voxels, case.spacing_mm)
        seconds.append(time.process_time() - began)
        scores += score(case, found)
    errors = np.array([item.error_mm for item in scores])
    given = np.isfinite(errors)
    mm = errors[given] if given.any() else np.array([np.nan])
    sure = np.array([item.confidence for item in scores])
    return Row(
        cases=name,
        localiser=localiser,
        discs=len(scores),
        found=float(given.mean()),
        mean_mm=float(mm.mean()),
        median_mm=float(np.median(mm)),
        p95_mm=float(np.percentile(mm, 95)),
        within_3_mm=float((errors <= 3).mean()),  # nan is within nothing
        within_5_mm=float((errors <= 5).mean()),
        named=float(np.mean([item.named for item in scores])),
        auc=auc(-sure[given], errors[given] > FAILED_MM),
        ms=1000 * float(np.median(seconds)),
    )


def table(rows: Sequence[Row]) -> str:
    """The rows in words and numbers."""
    head = f"{'cases':<12}{'localiser':<11}{'discs':>6}{'found':>7}{'mean mm':>9}{'median':>8}{'95 %':>8}"
    head += f"{'<3 mm':>7}{'<5 mm':>7}{'named':>7}{'AUC':>7}{'ms':>8}"
    lines = [head]
    for row in rows:
        area = "-" if np.isnan(row.auc) else f"{row.auc:.3f}"
        lines.append(
            f"{row.cases:<12}{row.localiser:<11}{row.discs:>6}{row.found:>7.1%}{row.mean_mm:>9.2f}{row.median_mm:>8.2f}"
            f"{row.p95_mm:>8.2f}{row.within_3_mm:>7.1%}{row.within_5_mm:>7.1%}{row.named:>7.1%}{area:>7}{row.ms:>8.0f}"
        )
    return "\n".join(lines)


def available(bundle: Bundle) -> dict[str, Localise]:
    """The localisers that the bundle has weights for."""
    out = {}
    for name, make in LOCALISERS.items():
        try:
            out[name] = make(bundle)
        except MissingNetworkError as error:
            print(f"left out: {error}")
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phantoms", type=int, default=20)
    parser.add_argument("--spider", type=Path, help="SPIDER's mid-sagittal slices")
    parser.add_argument("--real", type=Path, help="series of your own")
    parser.add_argument("--bundle", type=Path, help="another bundle than the shipped one")
    parser.add_argument(
        "--rl", type=Path, help="a run of `spinepaint train localiser --kind rl`, in place of the bundle's agents"
    )
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    bundle = loaded_bundle(arguments.bundle)
    if arguments.rl:
        bundle = replace(bundle, rl_localiser=read_rl_localiser(arguments.rl))
    sets = {"phantoms": list(phantom_cases(arguments.phantoms)) if arguments.phantoms else []}
    sets["spoilt"] = list(spoilt_cases(sets["phantoms"]))
    if arguments.spider:
        sets["SPIDER"] = list(spider_cases(read_scenes(arguments.spider)[1]))
        sets["SPIDER+"] = list(spider_cases(read_pointed_scenes(arguments.spider)[1]))
    sets["real"] = list(real_cases(arguments.real)) if arguments.real else []
    localisers = available(bundle)
    rows = [compare(name, known, find, cases) for name, cases in sets.items() if cases for known, find in localisers.items()]
    print(table(rows))
    if arguments.json:
        # JSON has no nan.
        plain = [{key: None if value != value else value for key, value in asdict(row).items()} for row in rows]
        arguments.json.write_text(json.dumps(plain, indent=1) + "\n")


if __name__ == "__main__":
    main()
