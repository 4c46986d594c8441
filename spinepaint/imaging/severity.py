"""What the words of severity mean in numbers: the borders between the classes, on one scale of degree a pathology.

The one place that has them. A degree is a herniation's protrusion as a share of 10 mm, and the share of the sac's depth that a
stenosis takes (`docs/2-definitions.md`).
"""

from itertools import pairwise

import numpy as np

from spinepaint.imaging.vocabulary import SEVERITIES, Pathology, Severity, condition_index

# Borders between no lesion, the lesser and the greater severity, as degrees: herniation 2.4 and 5 mm of 10 mm; stenosis 30 % and
# 60 % of the sac's depth lost. The middle of the gap between a healthy bulge (1.8 mm) and a small herniation (3 mm), of that
# between moderate (45 % left) and severe (35 %), and for moderate 5 points beyond its own end, the measure's error.
BORDERS = {Pathology.DISC_HERNIATION: (0.24, 0.5), Pathology.CENTRAL_CANAL_STENOSIS: (0.3, 0.6)}
# Where the greater severity ends by its own definition: a protrusion of 9 mm, a sac of 10 % of its depth.
GREATEST = {Pathology.DISC_HERNIATION: 0.9, Pathology.CENTRAL_CANAL_STENOSIS: 0.9}
PROTRUSION_SCALE_MM = 10.0


def severity_class(pathology: Pathology, degree: float) -> int:
    """0 for no lesion, 1 for the lesser severity, 2 for the greater."""
    return int(np.digitize(degree, BORDERS[pathology]))


def severity_of(pathology: Pathology, degree: float) -> Severity | None:
    """The severity that a degree falls in; None for no lesion."""
    place = severity_class(pathology, degree)
    return SEVERITIES[pathology][place - 1] if place else None


def middle_of(pathology: Pathology, severity: Severity) -> float:
    """The degree in the middle of a severity. Raises ValueError for one that does not go with the pathology."""
    condition_index(pathology, severity)
    ends = list(pairwise((*BORDERS[pathology], GREATEST[pathology])))
    low, high = ends[SEVERITIES[pathology].index(severity)]
    return 0.5 * (low + high)
