"""Disc centres of a series, as `spinepaint localise` gives them."""

from pathlib import Path
from typing import Any

from spinepaint.imaging.caps import Caps
from spinepaint.imaging.errors import Refusal
from spinepaint.imaging.reading import read_series
from spinepaint.worker.bundles import loaded_bundle
from spinepaint.worker.steps import localise_discs


def localise_series(
    source: Path,
    *,
    localiser: str = "heatmap",
    bundle: Path | None = None,
    series_uid: str | None = None,
    caps: Caps | None = None,
    allow_synthetic: bool = False,
) -> dict[str, Any]:
    """Disc centres in patient LPS mm with a confidence each; a level outside the field of view is absent.

    Raises Refusal for a series that cannot be used, or a localiser that this version does not have.
    """
    if localiser != "heatmap":
        raise Refusal("unknown-localiser", f"There is no localiser {localiser!r} in this version.", "Choose: heatmap.")
    series = read_series(source, series_uid=series_uid, caps=caps or Caps(), allow_synthetic=allow_synthetic)
    discs = localise_discs(loaded_bundle(bundle), series.volume)
    return {
        "disc_centres_lps_mm": {fsu: [round(c, 2) for c in centre] for fsu, centre in discs.centres_lps_mm.items()},
        "confidence": discs.confidence,
        "localiser": localiser,
        "warnings": [*series.warnings, *discs.warnings],
    }
