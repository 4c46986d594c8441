"""`spinepaint evaluate`: paint what is asked, measure it, and write `evaluation.json` and `report.html`."""

import json
from typing import Any

from spinepaint.models.bundle import load_bundle
from spinepaint.training.evaluation import parts
from spinepaint.training.evaluation.features import EXTRACTOR, Extractor, slice_features
from spinepaint.training.evaluation.material import NEED_REAL, PARTS, Evaluation, Material
from spinepaint.training.evaluation.report import as_plain, html_report


def evaluate(settings: Evaluation, extract: Extractor = slice_features, extractor: str = EXTRACTOR) -> dict[str, Any]:
    """Run the parts that are asked for; what `evaluation.json` holds.

    Everything painted is kept under `<out>/cases`, so a broken evaluation, or one with more parts or phantoms, goes on from
    there. Raises BundleError for a bundle that cannot be read, FileNotFoundError for a folder of real slices that is none.
    """
    models = load_bundle(settings.bundle, settings.device)
    material = Material(settings, models, extract)
    figures: dict[str, Any] = {
        "bundle": {"name": models.config.name, "sha256": models.sha256},
        "extractor": extractor,
        "settings": {
            "phantoms": settings.at_most(settings.phantoms),
            "samples": settings.samples,
            "methods": list(settings.methods),
            "solver": models.config.sampling.solver,
            "steps": material.steps,
            "guidance": models.config.sampling.guidance,
            "seed": settings.seed,
            "parts": list(settings.parts),
        },
    }
    for name in PARTS:
        if name in settings.parts and (name not in NEED_REAL or settings.real is not None):
            figures[name] = getattr(parts, name)(material)
    settings.out.mkdir(parents=True, exist_ok=True)
    plain: dict[str, Any] = as_plain(figures)
    (settings.out / "evaluation.json").write_text(json.dumps(plain, indent=1, allow_nan=False) + "\n")
    (settings.out / "report.html").write_text(html_report(plain, parts.pictures(material)))
    return plain
