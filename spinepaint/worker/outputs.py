"""Writing a sample's folder."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spinepaint import __version__
from spinepaint.imaging.crop import Crop, Vector
from spinepaint.imaging.derived import DerivedSeries, write_series
from spinepaint.imaging.label_content import MEASURES
from spinepaint.imaging.labels import write_edit_segmentation, write_measurement_report
from spinepaint.imaging.paste import Pasted
from spinepaint.imaging.preview import write_preview
from spinepaint.imaging.provenance import Provenance
from spinepaint.imaging.reading import SourceSeries
from spinepaint.imaging.volume import Volume
from spinepaint.models.bundle import Bundle
from spinepaint.worker.anatomy import Discs
from spinepaint.worker.best import Attempt
from spinepaint.worker.spec import Spec
from spinepaint.worker.staging import publish, staging
from spinepaint.worker.steps import Painted, edited_box
from spinepaint.worker.verify import Quality

__all__ = ["Sample", "cautions", "publish", "staging", "write_sample"]


@dataclass(frozen=True)
class Sample:
    """Everything that was made for one sample: the attempt that was kept, and what is told of each."""

    spec: Spec
    models: Bundle
    series: SourceSeries
    discs: Discs
    landmark: Vector
    crop: Crop
    kept: Attempt
    tries: tuple[Mapping[str, Any], ...]

    @property
    def painted(self) -> Painted:
        """What was painted."""
        return self.kept.painted

    @property
    def pasted(self) -> Pasted:
        """What was pasted."""
        return self.kept.pasted

    @property
    def quality(self) -> Quality:
        """How it was judged."""
        return self.kept.quality


def write_sample(folder: Path, sample: Sample, timings_s: Mapping[str, float]) -> dict[str, Any]:
    """Write `sample-NN` with the series, its labels, the preview and report.json; the report."""
    target = folder / f"sample-{sample.spec.sample:02d}"
    target.mkdir()
    volume, pasted = sample.series.volume, sample.pasted
    provenance = _provenance(sample)
    new_study = sample.spec.new_study
    derived = write_series(target / "series", volume, pasted.voxels, pasted.changed, provenance, new_study=new_study)
    (target / "labels").mkdir()
    write_edit_segmentation(target / "labels" / "edit.dcm", derived, volume, pasted.changed, provenance)
    measured, verified = _measurements(sample.quality), sample.quality.verified
    write_measurement_report(target / "labels" / "report.dcm", derived, volume, provenance, measured, verified=verified)
    title = f"{sample.spec.fsu.value} {sample.spec.pathology.value} {sample.spec.severity.value}".replace("_", " ")
    title += "" if sample.quality.verified else " (not verified)"
    write_preview(target / "preview.png", volume, volume.with_voxels(_as_written(volume, derived)), sample.landmark, title=title)
    report = _report(sample, derived, timings_s)
    (target / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    return report


def _as_written(volume: Volume, derived: DerivedSeries) -> NDArray[np.float32]:
    """What a viewer will show: rounded to stored values and clipped to their range."""
    slope, intercept = (values[:, None, None] for values in (volume.slope, volume.intercept))
    return np.asarray(derived.stored * slope + intercept, dtype=np.float32)


# Of a spec: which series was painted is in the source's UIDs, and which attempt was kept is said for itself.
_CHANGE_NOTHING = ("series_uid", "allow_synthetic", "attempts", "require_verified")


def _provenance(sample: Sample) -> Provenance:
    # Other pixels need other UIDs; the first attempt's are those of a service that makes but one.
    attempt = {"attempt": sample.kept.number} if sample.kept.number > 1 else {}
    return Provenance(
        version=__version__,
        bundle_name=sample.models.config.name,
        bundle_sha256=sample.models.sha256,
        pathology=sample.spec.pathology,
        severity=sample.spec.severity,
        fsu=sample.spec.fsu,
        spec={name: value for name, value in sample.spec.as_dict().items() if name not in _CHANGE_NOTHING} | attempt,
        landmark_lps_mm=sample.landmark,
    )


def _measurements(quality: Quality) -> dict[str, float]:
    return {
        f"{name.removesuffix('_mm')}_{when}": value
        for when, measures in (("before", quality.before), ("after", quality.after))
        if measures is not None
        for name, value in measures.as_dict().items()
        if name.removesuffix("_mm") in MEASURES
    }


def cautions(sample: Sample) -> list[str]:
    """What somebody who trains on this sample's labels should know of it."""
    spec, centres = sample.spec, sample.discs.centres_lps_mm
    found = []
    if centres:
        away = {fsu: math.dist(centre, sample.landmark) for fsu, centre in centres.items()}
        nearest = min(away, key=away.__getitem__)
        if nearest != spec.fsu:
            own = f"{away[spec.fsu]:.0f} mm from {spec.fsu.value}" if spec.fsu in away else f"and {spec.fsu.value} was not found"
            found.append(f"the landmark lies {away[nearest]:.0f} mm from {nearest}, {own}: the labels say {spec.fsu.value}")
    if not sample.quality.verified:
        quality = sample.quality
        seen = f"{quality.found.value} by {quality.measured_by.value}" if quality.found else "none"
        why = f"asked {quality.asked.value}, found {seen}" if quality.measurable else "the level could not be measured"
        found.append(f"not verified: {spec.pathology.value}: {why}".replace("_", " "))
    return found


def _report(sample: Sample, derived: DerivedSeries, timings_s: Mapping[str, float]) -> dict[str, Any]:
    spec, config, pasted = sample.spec, sample.models.config, sample.pasted
    moved = derived.stored != sample.series.volume.stored
    return {
        "spec": spec.as_dict(),
        "bundle": {"name": config.name, "sha256": sample.models.sha256},
        "source": {
            "study_uid": sample.series.study_uid,
            "series_uid": sample.series.series_uid,
            "sha256": sample.series.sha256,
        },
        "output": {"study_uid": str(derived.study_uid), "series_uid": str(derived.series_uid), "instances": len(derived.paths)},
        "disc_centres_lps_mm": {fsu: _rounded(centre) for fsu, centre in sample.discs.centres_lps_mm.items()},
        "landmark_lps_mm": _rounded(sample.landmark),
        "crop": {
            "extent_mm": list(sample.crop.extent_mm),
            "grid": list(sample.crop.grid),
            "centre_lps_mm": _rounded(sample.crop.centre_lps_mm),
        },
        "edit": {
            "voxels_changed": int(moved.sum()),
            "fraction_changed": float(moved.mean()),
            "bbox": edited_box(moved),
            # Compared, not assumed: the values that were written against the source's, outside the mask.
            "outside_identical": not bool(moved[~pasted.changed].any()),
        },
        "solver": {
            "name": spec.solver,
            "steps": spec.steps,
            "network_evaluations": sample.painted.decoded.network_evaluations,
            "batch": sample.painted.decoded.batch,
        },
        "quality": _judged(sample),
        "warnings": [*sample.series.warnings, *sample.discs.warnings, *cautions(sample)],
        "timings_s": dict(timings_s),
        "version": __version__,
    }


def _judged(sample: Sample) -> dict[str, Any]:
    quality = sample.quality
    return {
        "measured_by": quality.measured_by,
        "before": None if quality.before is None else quality.before.as_dict(),
        "after": None if quality.after is None else quality.after.as_dict(),
        "degree": None if quality.degree is None else round(quality.degree, 3),
        "asked": quality.asked,
        "found": quality.found,
        "verified": quality.verified,
        "attempts": len(sample.tries),
        "kept_attempt": sample.kept.number,
        "tries": list(sample.tries),
        "elsewhere": quality.elsewhere,
        "noise_ratio": round(quality.noise_ratio, 3),
        "seam_ratio": round(quality.seam_ratio, 3),
    }


def _rounded(point: Vector) -> list[float]:
    return [round(value, 2) for value in point]
