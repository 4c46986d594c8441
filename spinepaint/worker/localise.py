"""Disc centres of a series, as `spinepaint localise` gives them."""

from pathlib import Path
from typing import Any

from spinepaint.imaging.caps import Caps
from spinepaint.imaging.errors import Refusal
from spinepaint.imaging.orient import orient
from spinepaint.imaging.reading import read_series
from spinepaint.models.localisers import LOCALISERS, Localise, MissingNetworkError
from spinepaint.worker.bundles import loaded_bundle


def localise_series(
    source: Path,
    *,
    localiser: str = "heatmap",
    bundle: Path | None = None,
    device: str = "cpu",
    series_uid: str | None = None,
    caps: Caps | None = None,
    allow_synthetic: bool = False,
) -> dict[str, Any]:
    """Disc centres in patient LPS mm with a confidence each; a level outside the field of view is absent.

    device: a name that `find_device` gives.

    Raises Refusal for a series that cannot be used, and a localiser that this version or the bundle does not have.
    """
    localise = _localiser(localiser, bundle, device)
    series = read_series(source, series_uid=series_uid, caps=caps or Caps(), allow_synthetic=allow_synthetic)
    oriented = orient(series.volume)
    found = localise(oriented.voxels, oriented.spacing)
    centres = {fsu: oriented.to_patient((float(i), float(j), float(k))) for fsu, (i, j, k) in found.centres.items()}
    return {
        "disc_centres_lps_mm": {fsu: [round(c, 2) for c in centre] for fsu, centre in centres.items()},
        "confidence": {fsu: round(float(value), 3) for fsu, value in found.confidence.items()},
        "localiser": localiser,
        "warnings": [*series.warnings, *found.warnings],
    }


def _localiser(name: str, bundle: Path | None, device: str) -> Localise:
    if name not in LOCALISERS:
        choices = ", ".join(LOCALISERS)
        raise Refusal("unknown-localiser", f"There is no localiser {name!r} in this version.", f"Choose: {choices}.")
    models = loaded_bundle(bundle, device)
    try:
        return LOCALISERS[name](models)
    except MissingNetworkError as error:
        raise Refusal(
            "localiser-not-in-bundle",
            f"The bundle {models.config.name!r} has no weights for the localiser {name!r}.",
            "Give a bundle that has them with --bundle, or leave out --localiser: every bundle has heatmap.",
        ) from error
