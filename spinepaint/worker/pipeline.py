"""The main job: a series and a request in, synthetic series with their labels and reports out."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from spinepaint.imaging.caps import Caps
from spinepaint.imaging.deidentification import Pseudonyms, deidentified_series
from spinepaint.imaging.reading import SourceSeries, read_series
from spinepaint.models.bundle import Bundle
from spinepaint.worker import steps
from spinepaint.worker.bundles import loaded_bundle
from spinepaint.worker.outputs import Sample, publish, staging, write_sample
from spinepaint.worker.spec import Spec, resolve
from spinepaint.worker.stages import Progress, Stages
from spinepaint.worker.steps import Discs

__all__ = ["Progress", "run_pipeline"]

ATTEMPTS = 3


def run_pipeline(
    source: Path,
    spec: Mapping[str, Any],
    out: Path,
    *,
    bundle: Path | None = None,
    progress: Progress | None = None,
    caps: Caps | None = None,
    deidentify_key: str = "",
) -> dict[str, Any]:
    """Paint the pathology that `spec` asks for into a sagittal T2 series.

    Parameters
    ----------
    source: folder, zip or multi-frame file.
    spec: pathology, fsu and severity; optionally seed, samples, method, solver, steps, sigma_mm,
        landmark_lps_mm (patient LPS mm), series_uid, deidentify (PS3.15 basic profile), new_study and
        allow_synthetic (take a source that says it is synthetic).
    out: folder for `sample-01`, `sample-02`, …; they appear only once all of them are complete.
    bundle: folder of the weights; the shipped one by default.
    deidentify_key: secret that pseudonyms are made with; see `deidentification.Pseudonyms`.
    progress: hears (stage, share of the whole job from 0 to 1) and may raise to stop.

    Returns the report of the first sample. Raises Refusal for input or a request that cannot be used,
    and leaves nothing behind then.
    """
    models = loaded_bundle(bundle)
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
        reports = []
        for number in range(1, asked.samples + 1):
            reports.append(_one_sample(models, series, discs, asked.for_sample(number), folder, stages))
        publish(folder, out)
    return reports[0]


def _one_sample(models: Bundle, series: SourceSeries, discs: Discs, spec: Spec, folder: Path, stages: Stages) -> dict[str, Any]:
    """Paint until the pathology can be measured, a few times at most; the first attempt is kept where none can."""
    stages.begin_sample(spec.sample)
    attempts: list[Sample] = []
    while len(attempts) < ATTEMPTS and not any(tried.quality.verified or not tried.quality.measurable for tried in attempts):
        attempts.append(_one_attempt(models, series, discs, spec.for_attempt(len(attempts) + 1), stages))
    kept = attempts[-1] if attempts[-1].quality.verified else attempts[0]
    sample = replace(kept, spec=spec, attempts=len(attempts))
    return stages.run("write", lambda: write_sample(folder, sample, stages.timings_s))


def _one_attempt(models: Bundle, series: SourceSeries, discs: Discs, spec: Spec, stages: Stages) -> Sample:
    volume = series.volume
    landmark = stages.run("landmark", lambda: steps.choose_landmark(volume, discs, spec))
    crop = stages.run("crop", lambda: steps.cut_crop(models, volume, landmark))
    decoded = stages.run("sample", lambda: steps.paint(models, crop, landmark, spec, stages.within_sampling))
    pasted = stages.run("paste", lambda: steps.paste(models, volume, crop, decoded, landmark))
    quality = stages.run("verify", lambda: steps.verify(volume, pasted, discs, landmark, spec))
    return Sample(spec, models, series, discs, landmark, crop, decoded, pasted, quality)
