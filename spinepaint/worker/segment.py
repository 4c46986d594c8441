"""Vertebrae, discs and canal of a series, as `spinepaint segment` writes them."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spinepaint import __version__
from spinepaint.imaging.caps import Caps
from spinepaint.imaging.errors import Refusal
from spinepaint.imaging.nifti import write_nifti
from spinepaint.imaging.orient import as_stored, orient
from spinepaint.imaging.reading import SourceSeries, read_series
from spinepaint.imaging.segment_names import VALUES, name_structures
from spinepaint.imaging.segment_objects import SegmentationOrigin, write_segmentation, write_uncertainty
from spinepaint.imaging.segment_picture import write_overlay
from spinepaint.models.bundle import Bundle, BundleError
from spinepaint.models.localiser import localise
from spinepaint.models.segmentation import STRUCTURES, EnsembleConfig, Segmenters, segment
from spinepaint.worker.bundles import loaded_bundle
from spinepaint.worker.outputs import publish, staging

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class SegmentSpec:
    """How a series is to be segmented; `steps`, `samples` and `last_steps` are the bundle's own where they are None."""

    diffusion: bool = True
    steps: int | None = None
    samples: int | None = None
    last_steps: int | None = None
    seed: int = 0

    def ensemble(self, default: EnsembleConfig) -> EnsembleConfig | None:
        """The ensemble to draw; None for the plain network alone. Raises Refusal for numbers below 1."""
        if not self.diffusion:
            return None
        given = {"steps": self.steps, "samples": self.samples, "last_steps": self.last_steps}
        try:
            return replace(default, **{name: value for name, value in given.items() if value is not None})
        except ValueError as error:
            raise Refusal("bad-request", "The ensemble cannot be drawn.", f"{error}.") from error


def segment_series(
    source: Path,
    out: Path,
    spec: SegmentSpec | None = None,
    *,
    bundle: Path | None = None,
    device: str = "cpu",
    series_uid: str | None = None,
    caps: Caps | None = None,
    allow_synthetic: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Segment a sagittal T2 or T1 series and write what was found into the new or empty folder `out`.

    labels/segmentation.dcm (DICOM SEG, a segment a structure), labels/uncertainty.dcm (Parametric Map, nats),
    segmentation.nii.gz (values of `segment_names.VALUES`), uncertainty.nii.gz, overlay.png and segmentation.json, the report,
    which is returned. They appear only once all of them are complete.

    bundle: folder of the weights, the shipped one by default. device: a name that `find_device` gives.
    progress: hears (stage, share of the whole from 0 to 1).

    Raises Refusal for a series or a request that cannot be used, for a bundle without a segmenter, and where nothing is found.
    """
    tell = progress or (lambda _stage, _share: None)
    asked = spec or SegmentSpec()
    models, segmenter = _models(bundle, device)
    how = asked.ensemble(segmenter.config.ensemble)
    timings: dict[str, float] = {}
    with staging(out) as folder:
        began = time.perf_counter()
        tell("read", 0.0)
        series = read_series(source, series_uid=series_uid, caps=caps or Caps(), allow_synthetic=allow_synthetic, allow_t1=True)
        timings["read"] = time.perf_counter() - began
        tell("segment", 0.05)
        began = time.perf_counter()
        oriented = orient(series.volume)
        found = segment(
            segmenter,
            oriented.voxels,
            oriented.spacing,
            diffusion=how is not None,
            how=how,
            seed=asked.seed,
            progress=lambda share: tell("segment", 0.05 + 0.8 * share),
        )
        timings["segment"] = time.perf_counter() - began
        tell("name", 0.85)
        began = time.perf_counter()
        named = localise(models.localiser, oriented.voxels, oriented.spacing)
        centres = {fsu: (float(s), float(r), float(c)) for fsu, (s, r, c) in named.centres.items()}
        vertebrae, discs, canal = (found.labels == k for k in range(1, len(STRUCTURES) + 1))
        labels = as_stored(series.volume, name_structures(vertebrae, discs, canal, centres, oriented.spacing))
        timings["name"] = time.perf_counter() - began
        if not labels.any():
            raise Refusal("nothing-found", "No vertebra, disc or canal was found in the series.", "Is it a lumbar spine?")
        tell("write", 0.9)
        uncertainty = as_stored(series.volume, found.uncertainty)
        report = _report(series, models, asked, how, labels, uncertainty, named.warnings)
        began = time.perf_counter()
        _write(folder, series, _origin(series, models, asked, how), labels, uncertainty)
        timings["write"] = time.perf_counter() - began
        report["timings_s"] = {stage: round(seconds, 3) for stage, seconds in timings.items()}
        (folder / "segmentation.json").write_text(json.dumps(report, indent=1) + "\n")
        publish(folder, out)
    return report


def _models(folder: Path | None, device: str) -> tuple[Bundle, Segmenters]:
    try:
        models = loaded_bundle(folder, device)
    except BundleError as error:
        raise Refusal("bad-bundle", "The bundle cannot be used.", str(error)) from error
    if models.segmenter is None:
        raise Refusal(
            "segmenter-not-in-bundle",
            f"The bundle {models.config.name!r} has no segmenter.",
            "Give a bundle that has one with --bundle; docs/7-segmentation.md says how one is trained.",
        )
    return models, models.segmenter


def _origin(series: SourceSeries, models: Bundle, asked: SegmentSpec, how: EnsembleConfig | None) -> SegmentationOrigin:
    spec = {"seed": asked.seed, "ensemble": asdict(how) if how else None}
    return SegmentationOrigin(__version__, models.config.name, models.sha256, series.sha256, spec)


def _write(
    folder: Path,
    series: SourceSeries,
    origin: SegmentationOrigin,
    labels: NDArray[np.uint8],
    uncertainty: NDArray[np.float32],
) -> None:
    volume = series.volume
    write_segmentation(folder / "labels" / "segmentation.dcm", volume, labels, origin)
    write_uncertainty(folder / "labels" / "uncertainty.dcm", volume, uncertainty, origin)
    write_nifti(folder / "segmentation.nii.gz", labels, volume.affine)
    write_nifti(folder / "uncertainty.nii.gz", uncertainty, volume.affine)
    write_overlay(folder / "overlay.png", volume, labels, uncertainty, title="Research use only")


def _report(
    series: SourceSeries,
    models: Bundle,
    asked: SegmentSpec,
    how: EnsembleConfig | None,
    labels: NDArray[np.uint8],
    uncertainty: NDArray[np.float32],
    warnings: tuple[str, ...],
) -> dict[str, Any]:
    voxel_ml = float(abs(np.linalg.det(series.volume.affine[:3, :3]))) / 1000
    structures = {
        name: {
            "value": value,
            "volume_ml": round(int(where.sum()) * voxel_ml, 3),
            "mean_uncertainty": round(float(uncertainty[where].mean()), 4),
        }
        for name, value in VALUES.items()
        if (where := labels == value).any()
    }
    return {
        "bundle": {"name": models.config.name, "sha256": models.sha256},
        "source": {"study_uid": series.study_uid, "series_uid": series.series_uid, "sha256": series.sha256},
        "structures": structures,
        "ensemble": asdict(how) if how else None,
        "seed": asked.seed,
        "warnings": [*series.warnings, *warnings],
        "version": __version__,
    }
