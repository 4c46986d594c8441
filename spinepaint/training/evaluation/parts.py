"""The parts of an evaluation: each takes the material and returns its figures."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spinepaint.imaging.vocabulary import CONDITIONS, Pathology
from spinepaint.training.evaluation import downstream as classifier
from spinepaint.training.evaluation import memorisation as copies
from spinepaint.training.evaluation import rates
from spinepaint.training.evaluation.cases import HEALTHY, LEVELS, Cases, condition_name
from spinepaint.training.evaluation.material import Material
from spinepaint.training.evaluation.phantoms import UNTOUCHED
from spinepaint.training.evaluation.real import towards_herniated
from spinepaint.training.evaluation.reconstruction import reconstruction as reconstructed
from spinepaint.training.evaluation.tables import comparison, wins

F32 = NDArray[np.float32]
_PICTURED = 3  # donors of each condition in the report


def tables(material: Material) -> dict[str, Any]:
    """FID, KID and MS-SSIM by level and condition, and in how many cells the first method wins."""
    methods = material.settings.methods
    sets = {name: material.edits(name) for name in (UNTOUCHED, *methods)}
    rows = comparison(sets, material.references(0), material.references(1))
    return {"rows": [row.as_json() for row in rows], "wins": wins(rows, methods[0], list(methods[1:])), "first": methods[0]}


def presence(material: Material) -> dict[str, Any]:
    """The share of edits with the asked severity, beside the measure's own sensitivity and specificity on truth."""
    truth = material.references(1).cases
    painted = {name: material.edits(name).cases for name in material.settings.methods}
    return {
        "truth": rates.presence(truth),
        "specificity": rates.specificity(truth),
        "untouched": rates.presence(material.edits(UNTOUCHED).cases),
        "methods": {name: rates.presence(cases) for name, cases in painted.items()},
        "monotony": {name: rates.monotony(cases) for name, cases in painted.items()},
        "obedience": {name: rates.obedience(cases) for name, cases in painted.items()},
    }


def blending(material: Material) -> dict[str, Any]:
    """Noise and seam by method."""
    return {name: rates.blending(material.edits(name).cases) for name in material.settings.methods}


def memorisation(material: Material) -> dict[str, Any]:
    """Edited phantoms against training phantoms and, where there are real slices, edited real discs against lifted ones."""
    served = material.settings.methods[0]
    edited, validation = material.edits(served).cases, material.references(1).cases
    found = {"phantoms": copies.memorisation(_lesions(edited), _lesions(material.training()), _lesions(validation))}
    if material.settings.real is not None:
        learnt, unseen = (_lesions(material.real_simulated(held_out=split)) for split in (False, True))
        found["real slices"] = copies.memorisation(_lesions(material.real_edits(served)), learnt, unseen)
    return found


def _lesions(cases: Cases) -> F32:
    return np.asarray(cases.patch[cases.condition != HEALTHY], dtype=np.float32)


def downstream(material: Material) -> dict[str, Any]:
    """A classifier's gain from the served method's edits."""
    limited = material.settings.limit is not None
    real, test = (_labelled(material.references(which).cases) for which in (0, 1))
    synthetic = _labelled(material.edits(material.settings.methods[0]).cases)
    return classifier.gain(real, synthetic, test, steps=8 if limited else 400)


def _labelled(cases: Cases) -> classifier.Labelled:
    kinds = list(Pathology)
    classes = [0 if k == HEALTHY else 1 + kinds.index(CONDITIONS[k][0]) for k in cases.condition]
    return classifier.Labelled(cases.level.astype(np.float32), np.array(classes, dtype=np.int64))


def real(material: Material) -> dict[str, Any]:
    """Distances of edited and of untouched real mid-sagittal patches to really herniated ones."""
    sets = {name: material.real_edits(name) for name in (UNTOUCHED, *material.settings.methods)}
    herniated, held_out = material.real_herniated()
    rows = towards_herniated(sets, herniated, material.extract)
    return {"rows": rows, "herniated_held_out_discs": held_out}


def reconstruction(material: Material) -> dict[str, Any]:
    """How well the autoencoder alone gives real held-out slices back."""
    if material.settings.real is None:
        raise ValueError("the part `reconstruction` needs a folder of real slices")
    return reconstructed(material.models, material.settings.real)


def pictures(material: Material) -> list[dict[str, Any]]:
    """What the report shows: by condition and donor, each method's picture beside the untouched one's."""
    columns = (UNTOUCHED, *material.settings.methods)
    shown = []
    if {"tables", "presence", "blending"} & set(material.settings.parts):
        sets = {name: material.edits(name).cases for name in columns}
        for condition in range(len(CONDITIONS)):
            shown.append(_grid(f"Phantoms: {condition_name(condition)}", sets, condition, _PICTURED))
    if "real" in material.settings.parts and material.settings.real is not None:
        real_sets = {name: material.real_edits(name) for name in columns}
        for condition in np.unique(real_sets[columns[1]].condition):
            shown.append(_grid(f"Real slices: {condition_name(int(condition))}", real_sets, int(condition), 2 * _PICTURED))
    return shown


def _grid(title: str, sets: dict[str, Cases], condition: int, count: int) -> dict[str, Any]:
    columns: dict[str, list[F32]] = {}
    labels: list[str] = []
    for name, cases in sets.items():
        # A real disc is untouched once, whatever will be painted there.
        wanted = condition if (cases.condition == condition).any() else cases.condition[0]
        rows = cases.where((cases.condition == wanted) & (cases.sample == 0))
        chosen = np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)
        columns[name] = list(rows.picture[chosen].astype(np.float32))
        labels = [LEVELS[k].value for k in rows.fsu[chosen]]
    return {"title": title, "columns": columns, "labels": labels}
