"""How well results are measured: `python -m bench.verification [--phantoms 30] [--bundle DIR]`.

On phantoms that nothing was fitted on, each with lesions at some levels and once more healthy, against their own truth: the
measures by their exact segmentation, by one as a network leaves it (`degraded`) and by the bundle's own where it has a segmenter,
the severity that these say, and the severity that the grey values say with the points of the bundle's localiser. Errors are in mm
(mm² for the area).
"""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from spinepaint.imaging.morphometry import Morphometry
from spinepaint.imaging.orient import Oriented, orient
from spinepaint.imaging.severity import severity_of
from spinepaint.imaging.vocabulary import Fsu, Pathology
from spinepaint.models.bundle import Bundle
from spinepaint.models.segmentation import Segmenters, segment
from spinepaint.training.crops import draw_pathologies, phantom_volume
from spinepaint.training.phantom import Phantom, make_phantom
from spinepaint.training.segmenter_spines import structure_labels
from spinepaint.worker.anatomy import Discs, localise_discs
from spinepaint.worker.bundles import loaded_bundle
from spinepaint.worker.verify import Greys, Judge, Structures

FIRST_SEED = 950_000  # far from every training seed, and from those of any fit
MEASURES = ("canal_ap_mm", "csf_area_mm2", "protrusion_mm", "disc_height_mm")
PROMISED_MM = {"canal_ap_mm": 1.0, "protrusion_mm": 1.5}  # at the median
Labels = NDArray[np.uint8]


@dataclass(frozen=True)
class Twins:
    """A phantom with lesions and without."""

    ill: Phantom
    well: Phantom

    @property
    def views(self) -> tuple[Oriented, Oriented]:
        """Both as they are measured, the healthy one first: the edit's before and after."""
        return orient(phantom_volume(self.well)), orient(phantom_volume(self.ill))

    @property
    def labels(self) -> tuple[Labels, Labels]:
        """Their exact structures, oriented likewise."""
        return oriented_labels(self.well), oriented_labels(self.ill)


def twins(count: int) -> Iterator[Twins]:
    for seed in range(FIRST_SEED, FIRST_SEED + count):
        yield Twins(make_phantom(seed, draw_pathologies(np.random.default_rng(seed))), make_phantom(seed))


def oriented_labels(phantom: Phantom) -> Labels:
    """The exact structures (slice, row, column), head up and the body's front at column 0."""
    volume = phantom_volume(phantom)
    return orient(volume.with_voxels(structure_labels(phantom).astype(np.float32))).voxels.astype(np.uint8)


def degraded(labels: Labels, spacing_mm: tuple[float, float, float], rng: np.random.Generator) -> Labels:
    """Labels as a network leaves them: rounded by 1.2 mm, borders off by 0.6 mm here and there and 0.3 mm throughout, islands."""
    soft = []
    for value in (1, 2, 3):
        p = _blurred((labels == value).astype(np.float32), 1.2, spacing_mm)
        noise = _blurred(rng.standard_normal(p.shape, dtype=np.float32), 2.0, spacing_mm)
        # A border blurred by 1.2 mm falls by a third a mm.
        soft.append(p + (0.2 * noise / noise.std() + np.float32(rng.normal(0.0, 0.1))) * (p > 0.01))
    stack = np.stack(soft)
    out = np.where(stack.max(axis=0) > 0.5, stack.argmax(axis=0) + 1, 0).astype(np.uint8)
    for _ in range(30):
        s, r, c = (int(rng.integers(n)) for n in out.shape)
        out[s, r : r + 4, c : c + 4] = rng.integers(4)
    return out


def _blurred(image: NDArray[np.float32], mm: float, spacing_mm: tuple[float, float, float]) -> NDArray[np.float32]:
    return np.asarray(ndimage.gaussian_filter(image, [0.0, mm / spacing_mm[1], mm / spacing_mm[2]]))


def true_discs(phantom: Phantom) -> Discs:
    """The phantom's discs as a localiser that is always right would give them."""
    centres = phantom.disc_centres_lps_mm
    margins = {fsu: phantom.candidate_landmarks_lps_mm[fsu, Pathology.DISC_HERNIATION.value] for fsu in centres}
    canals = {fsu: phantom.candidate_landmarks_lps_mm[fsu, Pathology.CENTRAL_CANAL_STENOSIS.value] for fsu in centres}
    return Discs(centres, margins, canals, dict.fromkeys(centres, 1.0), ())


@dataclass(frozen=True)
class Findings:
    """What one way of measuring said: errors (N, MEASURES), and (pathology, right, healthy taken for healthy) a lesion."""

    errors: NDArray[np.float64]
    classes: tuple[tuple[str, bool, bool], ...]


Labelled = Callable[[Twins], tuple[tuple[Labels, Labels], Discs]]
"""The structures of the healthy twin and of the other, and the discs, as one way of measuring has them."""


def exactly(case: Twins) -> tuple[tuple[Labels, Labels], Discs]:
    return case.labels, true_discs(case.well)


def as_a_network_might(case: Twins) -> tuple[tuple[Labels, Labels], Discs]:
    spacing, rng = case.views[0].spacing, np.random.default_rng(case.well.seed)
    before, after = (degraded(labels, spacing, rng) for labels in case.labels)
    return (before, after), true_discs(case.well)


def by_networks(bundle: Bundle, segmenter: Segmenters) -> Labelled:
    """As the service has them: the discs by the bundle's localiser, the structures by its plain segmenter."""

    def labelled(case: Twins) -> tuple[tuple[Labels, Labels], Discs]:
        discs, view = localise_discs(bundle, phantom_volume(case.well)), case.views[1]
        if discs.labels is None:
            raise ValueError("a bundle with a segmenter segments what it localises")
        return (discs.labels, segment(segmenter, view.voxels, view.spacing, diffusion=False).labels), discs

    return labelled


def by_structures(cases: Sequence[Twins], labelled: Labelled) -> Findings:
    errors, classes = [], []
    for case in cases:
        labels, discs = labelled(case)
        view = case.views[0]
        edited, untouched = Structures(view, labels, discs), Structures(view, (labels[0], labels[0]), discs)
        for fsu in discs.levels:
            for phantom, measured in zip((case.well, case.ill), edited.measure(fsu), strict=True):
                errors.append(_errors(measured, phantom, fsu))
            classes += _classes(case, fsu, edited, untouched)
    return Findings(np.array(errors), tuple(classes))


def by_grey_values(cases: Sequence[Twins], bundle: Bundle) -> Findings:
    classes = []
    for case in cases:
        before, after = case.views
        discs = localise_discs(bundle, phantom_volume(case.well))
        for fsu in discs.levels:
            if fsu in case.ill.landmarks_lps_mm:
                landmark = case.ill.landmarks_lps_mm[fsu]
                edited, untouched = Greys((before, after), discs, landmark), Greys((before, before), discs, landmark)
                classes += _classes(case, fsu, edited, untouched)
    return Findings(np.empty((0, len(MEASURES))), tuple(classes))


def _errors(measured: Morphometry | None, phantom: Phantom, fsu: Fsu) -> list[float]:
    truth = phantom.morphometry[fsu]
    return [np.nan if measured is None else getattr(measured, name) - getattr(truth, name) for name in MEASURES]


def _classes(case: Twins, fsu: Fsu, edited: Judge, untouched: Judge) -> list[tuple[str, bool, bool]]:
    condition = case.ill.conditions[fsu]
    if condition is None:
        return []
    pathology, severity = condition
    degrees = edited.degree(fsu, pathology), untouched.degree(fsu, pathology)
    found, before = (None if degree is None else severity_of(pathology, degree) for degree in degrees)
    return [(pathology.value, found is severity, degrees[1] is not None and before is None)]


def table(found: dict[str, Findings]) -> dict[str, dict[str, float]]:
    """The figures, by way of measuring."""
    figures: dict[str, dict[str, float]] = {}
    for way, findings in found.items():
        row = figures.setdefault(way, {})
        if len(findings.errors):
            row["levels"] = len(findings.errors)
            row["not_measured"] = float(np.isnan(findings.errors).any(axis=1).mean())
            for name, column in zip(MEASURES, findings.errors.T, strict=True):
                away = np.abs(column[~np.isnan(column)])
                row |= {f"{name}_median": float(np.median(away)), f"{name}_95": float(np.percentile(away, 95))}
        row["lesions"] = len(findings.classes)
        for pathology in Pathology:
            right = [hit for name, hit, _ in findings.classes if name == pathology.value]
            row[f"{pathology.value}_severity_right"] = float(np.mean(right)) if right else float("nan")
        row["healthy_taken_for_healthy"] = float(np.mean([healthy for _, _, healthy in findings.classes]))
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phantoms", type=int, default=30)
    parser.add_argument("--bundle", type=Path, help="another bundle than the shipped one")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    cases, bundle = list(twins(arguments.phantoms)), loaded_bundle(arguments.bundle)
    found = {
        "exact segmentation": by_structures(cases, exactly),
        "degraded segmentation": by_structures(cases, as_a_network_might),
        "grey values": by_grey_values(cases, bundle),
    }
    if bundle.segmenter is not None:
        found["the bundle's localiser and segmenter"] = by_structures(cases, by_networks(bundle, bundle.segmenter))
    figures = table(found)
    for way, row in figures.items():
        print(f"\n{way}")
        for name, value in row.items():
            promised = PROMISED_MM.get(name.removesuffix("_median"))
            print(f"  {name:<44} {value:>10.3f}{f'   promised {promised}' if promised and name.endswith('median') else ''}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
