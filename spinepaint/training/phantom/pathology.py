"""Herniation and stenosis: what the words mean in mm, and how a lesion is drawn from a seed.

Definitions (the phantom's ground truth; `morphometry.measure` checks them)
---------------------------------------------------------------------------
Canal AP diameter: from the line of the posterior vertebral corners to the ligamentum flavum, midline, at the disc.

- disc_herniation: a focal bump off the posterior disc margin, central or paracentral (apex within 8 mm of the
  middle), half-width 4-9 mm, which may reach up or down by up to half a disc. One moderate_large in five migrates: a
  tongue half as thick runs 4-10 mm beyond that behind a vertebra, more often down than up.
    - small: protrudes 3-5 mm beyond the line of the posterior vertebral corners and less than 1/3 of the canal.
    - moderate_large: protrudes 5-9 mm and at least 1/3 of the canal.
- central_canal_stenosis: the dural sac is narrowed at disc height by a broad bulge in front (at most 2.8 mm) and by
  thick flavum behind and large facets at the sides; it fades over about 8 mm along the spine.
    - moderate: the sac's AP diameter at the disc falls to 45-65 % of its own normal.
    - severe: to 10-35 %, and the roots crowd out the CSF.
A healthy disc bulges at most 1.8 mm. The adjective "own normal" means the same phantom without the lesion.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from spinepaint.imaging.vocabulary import SEVERITIES, Fsu, Pathology, Severity
from spinepaint.training.phantom.anatomy import Anatomy, canal_profile
from spinepaint.training.phantom.tissues import FSU_UPPER

MIGRATING = 0.2
TONGUE = 0.55
# the facets take the more of the sac's width, the more of its depth is lost
SIDE_SHARE = 0.55


@dataclass(frozen=True)
class Lesion:
    """One level's pathology, in mm; `level` is the vertebra above, a place in VERTEBRAE.

    x_mm: lateral position of the apex; up_mm and down_mm: half-extents of a herniation along the spine;
    signal: 0 as dark as annulus, 1 as bright as the nucleus of a healthy disc.
    migration_mm: how far a tongue of it runs past that end of it, down positive; 0 for none.
    sac_ratio: what is left of the sac's AP diameter; front_share: how much of the loss comes from the disc, the rest from the
    flavum; facet_mm: how much larger than before each half of a facet joint is.
    """

    level: int
    pathology: Pathology
    severity: Severity
    height_factor: float
    nucleus_factor: float
    protrusion_mm: float = 0.0
    x_mm: float = 0.0
    half_width_mm: float = 6.0
    up_mm: float = 4.0
    down_mm: float = 4.0
    migration_mm: float = 0.0
    signal: float = 0.0
    sac_ratio: float = 1.0
    front_share: float = 0.0
    fade_mm: float = 8.0
    facet_mm: float = 0.0

    @property
    def degree(self) -> float:
        """How far along its pathology the lesion is: protrusion as a share of 10 mm, or the share of the sac's depth lost."""
        return self.protrusion_mm / 10.0 if self.pathology is Pathology.DISC_HERNIATION else 1.0 - self.sac_ratio


def canal_depth(anatomy: Anatomy, level: int) -> float:
    """Canal AP diameter in mm, midline, at the disc under vertebra `level`, without a lesion."""
    profile = canal_profile(anatomy, np.array([anatomy.disc_s[level]]))
    return float(profile.gap[0] + profile.depth[0] + profile.fat[0])


def sample_lesions(seed: int, anatomy: Anatomy, pathologies: Mapping[str, tuple[str, str]] | None) -> tuple[Lesion, ...]:
    """Draw a lesion for each named FSU; each depends on the seed, its level, pathology and severity alone.

    Raises ValueError for an unknown FSU or a severity that does not go with its pathology.
    """
    lesions = []
    for name, (kind, grade) in sorted((pathologies or {}).items()):
        fsu, pathology, severity = Fsu(name), Pathology(kind), Severity(grade)
        if severity not in SEVERITIES[pathology]:
            raise ValueError(f"severity {grade!r} does not go with {kind}")
        level = FSU_UPPER[fsu]
        place = (list(Pathology).index(pathology), list(Severity).index(severity))
        rng = np.random.default_rng([seed, 2, level, *place])
        draw = _herniation if pathology is Pathology.DISC_HERNIATION else _stenosis
        extra = np.random.default_rng([seed, 17, level, *place])
        lesions.append(_more(extra, draw(rng, anatomy, level, severity)))
    return tuple(lesions)


def _more(rng: np.random.Generator, lesion: Lesion) -> Lesion:
    """Migration and facets, from a generator of their own, so that earlier draws stay as they were."""
    if lesion.pathology is Pathology.CENTRAL_CANAL_STENOSIS:
        low, high = (0.5, 2.0) if lesion.severity is Severity.MODERATE else (1.0, 3.0)
        return replace(lesion, facet_mm=float(rng.uniform(low, high)))
    if lesion.severity is Severity.SMALL or rng.random() >= MIGRATING:
        return lesion
    return replace(lesion, migration_mm=float(rng.uniform(4.0, 10.0) * (1 if rng.random() < 0.7 else -1)))


def _herniation(rng: np.random.Generator, anatomy: Anatomy, level: int, severity: Severity) -> Lesion:
    depth = canal_depth(anatomy, level)
    if severity is Severity.SMALL:
        protrusion = rng.uniform(3.1, max(3.2, min(4.8, 0.32 * depth)))
        half_width = rng.uniform(4.0, 7.5)
    else:
        low = min(max(5.2, 0.345 * depth), 8.6)
        protrusion = rng.uniform(low, max(low + 0.2, min(8.8, 0.6 * depth)))
        half_width = rng.uniform(5.0, 9.0)
    disc = anatomy.disc_height[level]
    reach = 0.5 * disc + rng.uniform(0.0, 1.5, 2)
    if rng.random() < 0.45:
        reach[rng.integers(2)] += rng.uniform(0.2, 0.5) * disc * (1.0 if severity is Severity.MODERATE_LARGE else 0.5)
    return Lesion(
        level, Pathology.DISC_HERNIATION, severity,
        height_factor=float(rng.uniform(0.75, 1.0)), nucleus_factor=float(rng.uniform(0.15, 0.75)),
        protrusion_mm=float(protrusion), x_mm=float(np.clip(rng.normal(0.0, 3.2), -8.0, 8.0)),
        half_width_mm=float(half_width), up_mm=float(reach[0]), down_mm=float(reach[1]),
        signal=float(rng.choice([0.0, 0.1, 0.45], p=[0.5, 0.3, 0.2])),
    )  # fmt: skip


def _stenosis(rng: np.random.Generator, anatomy: Anatomy, level: int, severity: Severity) -> Lesion:
    ratio = rng.uniform(0.49, 0.63) if severity is Severity.MODERATE else rng.uniform(0.12, 0.33)
    lost = (1 - ratio) * anatomy.sac_depth[level]
    return Lesion(
        level, Pathology.CENTRAL_CANAL_STENOSIS, severity,
        height_factor=float(rng.uniform(0.75, 1.0)), nucleus_factor=float(rng.uniform(0.15, 0.7)),
        sac_ratio=float(ratio), front_share=float(min(rng.uniform(0.3, 0.55), 2.0 / lost)),
        fade_mm=float(rng.uniform(6.5, 9.0)),
    )  # fmt: skip
