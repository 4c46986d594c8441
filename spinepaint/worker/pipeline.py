"""The main job: a series and a request in, synthetic series with their labels and reports out."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from spinepaint.imaging.caps import Caps
from spinepaint.imaging.deidentification import Pseudonyms, deidentified_series
from spinepaint.imaging.reading import SourceSeries, read_series
from spinepaint.models.bundle import Bundle
from spinepaint.worker import steps
from spinepaint.worker.anatomy import Discs
from spinepaint.worker.bundles import loaded_bundle
from spinepaint.worker.device import Compute
from spinepaint.worker.drawing import draw
from spinepaint.worker.outputs import Sample, publish, staging, write_sample
from spinepaint.worker.side_by_side import side_by_side
from spinepaint.worker.spec import Spec, resolve
from spinepaint.worker.stages import Progress, Stages

__all__ = ["Progress", "run_pipeline"]


def run_pipeline(
    source: Path,
    spec: Mapping[str, Any],
    out: Path,
    *,
    bundle: Path | None = None,
    compute: Compute | None = None,
    progress: Progress | None = None,
    caps: Caps | None = None,
    deidentify_key: str = "",
) -> dict[str, Any]:
    """Paint the pathology that `spec` asks for into a sagittal T2 series.

    Parameters
    ----------
    source: folder, zip or multi-frame file.
    spec: pathology, fsu and severity; optionally seed, samples, method, solver, steps, sigma_mm,
        landmark_lps_mm (patient LPS mm), series_uid, deidentify (PS3.15 basic profile), new_study,
        allow_synthetic (take a source that says it is synthetic), attempts (how often a sample is drawn at most until
        it shows what was asked) and require_verified (fail where it never does).
    out: folder for `sample-01`, `sample-02`, …; they appear only once all of them are complete.
    bundle: folder of the weights; the shipped one by default.
    compute: the device, and what samples how many at once; one after the other on the CPU by default.
    deidentify_key: secret that pseudonyms are made with; see `deidentification.Pseudonyms`.
    progress: hears (stage, share of the whole job from 0 to 1) and may raise to stop.

    Returns the report of the first sample. Raises Refusal for input or a request that cannot be used, NotVerified
    where `require_verified` asks for more than came out, and leaves nothing behind then.
    """
    how = compute or Compute()
    models = loaded_bundle(bundle, how.device)
    asked = resolve(spec, models.config.sampling)
    stages = Stages(progress, asked.samples)
    limits = caps or Caps()
    series = stages.run(
        "read",
        lambda: read_series(source, series_uid=asked.series_uid, caps=limits, allow_synthetic=asked.allow_synthetic),
    )
    if asked.deidentify:
        series = deidentified_series(series, Pseudonyms(deidentify_key))
        asked = replace(asked, series_uid=series.series_uid if asked.series_uid else None)
    discs = stages.run("localise", lambda: steps.localise_discs(models, series.volume))
    with staging(out) as folder:
        specs = [asked.for_sample(number) for number in range(1, asked.samples + 1)]
        one = partial(_one_sample, models, series, discs, folder, stages, how)
        reports = side_by_side(one, specs, how.at_once, stages.halt)
        publish(folder, out)
    return reports[0]


def _one_sample(
    models: Bundle, series: SourceSeries, discs: Discs, folder: Path, job: Stages, how: Compute, spec: Spec
) -> dict[str, Any]:
    """Draw one sample, and write what is kept of it."""
    stages = job.of_sample(spec.sample)
    drawn = draw(models, series.volume, discs, spec, stages, how.sample)
    best = drawn.best
    sample = Sample(spec, models, series, discs, drawn.landmark, drawn.crop, best.required(), tuple(best.tries))
    return stages.run("write", lambda: write_sample(folder, sample, stages.timings_s))
