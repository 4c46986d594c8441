"""Held-out phantoms: donors that are painted, and two sets that really have the lesions.

Seeds start at 900,000, far from those that networks are fitted on.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from spinepaint.imaging.blending import noise_ratio, seam_ratio
from spinepaint.imaging.crop import Vector, cut
from spinepaint.imaging.vocabulary import CONDITIONS, Fsu, Pathology, Severity
from spinepaint.imaging.volume import Volume
from spinepaint.models.bundle import Bundle, CropConfig
from spinepaint.models.intensity import IntensityRange
from spinepaint.models.landmarks import PARACENTRAL_MM
from spinepaint.training.crops import draw_pathologies, phantom_volume
from spinepaint.training.evaluation.cases import HEALTHY, LEVELS, Cases, seen
from spinepaint.training.evaluation.painting import Order, paint
from spinepaint.training.evaluation.severity import Grader, LevelGrid
from spinepaint.training.phantom import Phantom, make_phantom

FIRST_DONOR, FIRST_REFERENCE, SET_STRIDE = 900_000, 930_000, 30_000
UNTOUCHED = "untouched"


def donor_cases(models: Bundle, number: int, variant: str, *, samples: int, steps: int, seed: int) -> Cases:
    """Donor `number`, painted at one level with every condition by one variant, or left untouched.

    The landmark is the expert's, as in the paper: on the disc's posterior margin up to 5 mm beside the midline, or in the
    middle of the canal. Whether the localiser finds it is measured elsewhere (`bench.effects`).
    """
    donor = make_phantom(FIRST_DONOR + number)
    fsu = LEVELS[number % len(LEVELS)]
    volume, grader = phantom_volume(donor), Grader(donor, fsu)
    rows = []
    for condition in range(len(CONDITIONS)):
        landmark = _donor_landmark(donor, grader.grid, fsu, condition)
        for sample in range(1 if variant == UNTOUCHED else samples):
            order = Order(condition, fsu, landmark, variant, _seed(seed, number, condition, sample), steps)
            rows.append(_donor_row(models, volume, grader, order, donor.seed, sample))
    return Cases.of(rows)


def _seed(seed: int, number: int, condition: int, sample: int) -> int:
    """The noise's seed: the same for every variant, so that variants differ by method alone."""
    return int(np.random.default_rng((seed, number, condition, sample)).integers(2**31))


def _donor_landmark(donor: Phantom, grid: LevelGrid, fsu: Fsu, condition: int) -> Vector:
    if CONDITIONS[condition][0] is Pathology.CENTRAL_CANAL_STENOSIS:
        return donor.candidate_landmarks_lps_mm[fsu, Pathology.CENTRAL_CANAL_STENOSIS]
    rng = np.random.default_rng((donor.seed, condition))
    return grid.point(left_mm=float(rng.uniform(-PARACENTRAL_MM, PARACENTRAL_MM)))


def _donor_row(models: Bundle, volume: Volume, grader: Grader, order: Order, seed: int, sample: int) -> dict[str, Any]:
    edited, degree, noise, seam = volume, None, np.nan, np.nan
    if order.variant == UNTOUCHED:
        crop = models.config.crop
        intensity = IntensityRange.of(cut(volume, order.landmark_lps_mm, crop.extent_mm, crop.grid).voxels)
    else:
        painted = paint(models, volume, order)
        edited, intensity, degree = volume.with_voxels(painted.pasted.voxels), painted.intensity, painted.degree
        noise = noise_ratio(volume.voxels, painted.pasted.voxels, painted.pasted.mask)
        seam = seam_ratio(volume.voxels, painted.pasted.voxels, painted.pasted.mask)
    return {
        "seed": seed,
        "fsu": LEVELS.index(order.fsu),
        "condition": order.condition,
        "sample": sample,
        "asked": np.nan if degree is None else degree,
        "measured": grader.degree(edited.voxels, CONDITIONS[order.condition][0], order.landmark_lps_mm),
        "noise": noise,
        "seam": seam,
        **seen(edited, intensity, order.landmark_lps_mm, _off_centre(grader.grid, seed, order.condition)),
    }


def reference_cases(which: int, number: int, crop: CropConfig, *, graded: bool) -> Cases:
    """Phantom `number` of reference set `which` (0, 1, …): its lesions at every other level, and the healthy levels between.

    Eight phantoms in a row hold every condition at every level once. With `graded`, lesions are measured as edits are.
    """
    words = {fsu.value: (item[0].value, item[1].value) for fsu, item in reference_lesions(number)}
    return lesion_cases(FIRST_REFERENCE + which * SET_STRIDE + number, words, crop, graded=graded)


def training_cases(seed: int, crop: CropConfig) -> Cases:
    """The levels of a phantom that networks are fitted on (see `phantom_crops`)."""
    return lesion_cases(seed, draw_pathologies(np.random.default_rng((seed, 77))), crop, graded=False)


def lesion_cases(seed: int, lesions: dict[str, tuple[str, str]], crop: CropConfig, *, graded: bool) -> Cases:
    """Every level of one phantom with lesions by FSU, in the vocabulary's words."""
    phantom = make_phantom(seed, lesions)
    healthy = make_phantom(seed) if graded else phantom
    volume = phantom_volume(phantom)
    rows = []
    for index, fsu in enumerate(LEVELS):
        grid, item = LevelGrid.of(phantom, fsu), phantom.conditions[fsu]
        condition = HEALTHY if item is None else CONDITIONS.index(item)
        landmark = reference_landmark(phantom, grid, fsu)
        intensity = IntensityRange.of(cut(volume, landmark, crop.extent_mm, crop.grid).voxels)
        measured = np.nan
        if graded and item is not None:
            measured = Grader(healthy, fsu).degree(phantom.voxels, item[0], landmark)
        images = seen(volume, intensity, landmark, _off_centre(grid, seed, condition))
        row = {"seed": seed, "fsu": index, "condition": condition, "sample": 0, "noise": np.nan, "seam": np.nan}
        rows.append({**row, "asked": phantom.degrees.get(fsu.value, np.nan), "measured": measured, **images})
    return Cases.of(rows)


def reference_lesions(number: int) -> Iterator[tuple[Fsu, tuple[Pathology, Severity]]]:
    """FSU and condition of each lesion of reference phantom `number`."""
    for place, fsu in enumerate(LEVELS[number % 2 :: 2]):
        yield fsu, CONDITIONS[(number // 2 + place) % len(CONDITIONS)]


def reference_landmark(phantom: Phantom, grid: LevelGrid, fsu: Fsu) -> Vector:
    """Where an expert would have put the landmark before the lesion grew: what donors are painted at."""
    item = phantom.conditions[fsu]
    if item is not None and item[0] is Pathology.CENTRAL_CANAL_STENOSIS:
        return phantom.candidate_landmarks_lps_mm[fsu, Pathology.CENTRAL_CANAL_STENOSIS]
    return grid.point(left_mm=grid.left_of(phantom.landmarks_lps_mm[fsu]))


def _off_centre(grid: LevelGrid, seed: int, condition: int) -> Vector:
    """The disc margin, give or take 2 mm, whatever the pathology: where a patch lies must not give its class away."""
    left, down, back = np.random.default_rng((seed, condition + 1, 5)).normal(0.0, 2.0, 3)
    return grid.point(float(left), float(down), float(back))
