"""How often an edit shows what was asked for, and how well the edit sits in its image."""

from typing import Any

import numpy as np

from spinepaint.imaging.severity import severity_class
from spinepaint.imaging.vocabulary import CONDITIONS
from spinepaint.training.evaluation.cases import HEALTHY, Cases, condition_name
from spinepaint.training.evaluation.distances import Interval
from spinepaint.training.evaluation.shares import mean_interval, wilson


def wanted_class(condition: int) -> int:
    """1 for the lesser severity of its pathology, 2 for the greater, 0 without a lesion."""
    if condition == HEALTHY:
        return 0
    return 1 + [item for item in CONDITIONS if item[0] is CONDITIONS[condition][0]].index(CONDITIONS[condition])


def presence(cases: Cases) -> list[dict[str, Any]]:
    """By condition: the share whose measured severity is the asked one, and that which has the pathology at all.

    On phantoms that truly have the lesion the share is the measure's sensitivity: the ceiling for any edit.
    """
    rows = []
    for condition, (pathology, _) in enumerate(CONDITIONS):
        measured = cases.measured[(cases.condition == condition) & np.isfinite(cases.measured)]
        classes = np.array([severity_class(pathology, degree) for degree in measured], dtype=np.int64)
        wanted = wanted_class(condition)
        rows.append(
            {
                "condition": condition_name(condition),
                "n": len(classes),
                "asked_class": wilson(int((classes == wanted).sum()), len(classes)),
                "any_class": wilson(int((classes > 0).sum()), len(classes)),
                "none_lesser_greater": [int((classes == k).sum()) for k in range(3)],
                "measured_degree": mean_interval(measured.tolist()) if len(measured) else Interval(np.nan, np.nan, np.nan),
            }
        )
    return rows


def specificity(cases: Cases) -> list[dict[str, Any]]:
    """By condition: how often truth of the same pathology's other severity is kept out of its class.

    Untouched phantoms are their own twins, so that they read as healthy says little; the other severity is what is near.
    """
    rows = []
    for condition, (pathology, _) in enumerate(CONDITIONS):
        others = [k for k, item in enumerate(CONDITIONS) if item[0] is pathology and k != condition]
        measured = cases.measured[np.isin(cases.condition, others) & np.isfinite(cases.measured)]
        out = sum(severity_class(pathology, degree) != wanted_class(condition) for degree in measured)
        rows.append({"condition": condition_name(condition), "n": len(measured), "specificity": wilson(int(out), len(measured))})
    return rows


def monotony(cases: Cases) -> list[dict[str, Any]]:
    """By pathology: the share of donors whose greater severity measures more than their lesser one, and the mean difference."""
    rows = []
    for pathology in dict.fromkeys(item[0] for item in CONDITIONS):
        lesser, greater = (cases.where(cases.condition == k) for k, item in enumerate(CONDITIONS) if item[0] is pathology)
        less, more = (dict(zip(zip(c.seed, c.sample, strict=True), c.measured, strict=True)) for c in (lesser, greater))
        differences = [float(degree - less[donor]) for donor, degree in more.items() if donor in less]
        rows.append(
            {
                "pathology": pathology.value.replace("_", " "),
                "n": len(differences),
                "greater_measures_more": wilson(sum(d > 0 for d in differences), len(differences)),
                "mean_difference": mean_interval(differences) if differences else Interval(np.nan, np.nan, np.nan),
            }
        )
    return rows


def obedience(cases: Cases) -> dict[str, Any]:
    """Asked against measured degree, where degrees were asked: by pathology the correlation and the mean absolute error."""
    told = {}
    for pathology in dict.fromkeys(item[0] for item in CONDITIONS):
        chosen = [k for k, item in enumerate(CONDITIONS) if item[0] is pathology]
        rows = np.isin(cases.condition, chosen) & np.isfinite(cases.asked) & np.isfinite(cases.measured)
        asked, measured = cases.asked[rows], cases.measured[rows]
        if len(asked) > 2 and asked.std() > 0 and measured.std() > 0:
            error = float(np.abs(asked - measured).mean())
            told[pathology.value] = {"n": len(asked), "r": float(np.corrcoef(asked, measured)[0, 1]), "mean_error": error}
    return told


def blending(cases: Cases) -> dict[str, Any]:
    """Noise and seam of the edits: medians, quartiles, and the shares within 15 % and at most 1.1."""
    noise, seam = cases.noise[np.isfinite(cases.noise)], cases.seam[np.isfinite(cases.seam)]
    if not len(noise):
        return {"n": 0}
    return {
        "n": len(noise),
        "noise_quartiles": np.percentile(noise, (25, 50, 75)).tolist(),
        "noise_within_15_percent": wilson(int((np.abs(noise - 1) <= 0.15).sum()), len(noise)),
        "seam_quartiles": np.percentile(seam, (25, 50, 75)).tolist(),
        "seam_at_most_1_1": wilson(int((seam <= 1.1).sum()), len(seam)),
    }
