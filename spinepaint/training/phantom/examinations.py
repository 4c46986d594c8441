"""Whole phantom examinations on disk: series, exact segmentation and truth, on several processes."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from spinepaint.training.phantom.dicom import write_series
from spinepaint.training.phantom.phantom import Phantom, make_phantom
from spinepaint.training.phantom.tissues import VERTEBRAE, Tissue, Weighting

LEGEND = {
    "tissues": {tissue.name.lower(): int(tissue) for tissue in Tissue},
    "levels": {v: k + 1 for k, v in enumerate(VERTEBRAE)},
}


@dataclass(frozen=True)
class Examination:
    """One spine to write: lesions by FSU as (pathology, severity), a series for each weighting, a DICOM SEG where asked."""

    seed: int
    lesions: dict[str, tuple[str, str]]
    weightings: tuple[Weighting, ...] = (Weighting.T2,)
    seg: bool = False

    @property
    def name(self) -> str:
        """The T2 series' folder, and what the other files' names begin with."""
        return f"phantom-{self.seed:06d}"


def write_examination(item: Examination, folder: Path) -> dict[str, Any]:
    """Write one examination into `folder` and return its truth.

    The T2 series lies in `phantom-SEED`, the T1 in `phantom-SEED-t1`, the segmentation, which both share, in `segmentation`:
    `phantom-SEED-tissues.nii.gz` and `-levels.nii.gz`, and with `seg` `phantom-SEED.dcm`.
    """
    # Imported here: both libraries take their time, and whoever makes phantoms in memory needs neither.
    from spinepaint.training.phantom.segmentation import write_nifti, write_seg

    series = {}
    for weighting in item.weightings:
        spine = make_phantom(item.seed, item.lesions, weighting=weighting)
        name = item.name if weighting is Weighting.T2 else f"{item.name}-{weighting.lower()}"
        series[name] = write_series(spine, folder / name, seed=item.seed)
    files = write_nifti(spine, folder / "segmentation", item.name)
    if item.seg:
        first = next(iter(series.values()))
        files.append(write_seg(spine, first, folder / "segmentation" / f"{item.name}.dcm"))
    return {"series": list(series), "segmentation": [str(file.relative_to(folder)) for file in files], **truth(spine)}


def truth(phantom: Phantom) -> dict[str, Any]:
    """What is true of a phantom, for JSON: points in patient LPS mm, lengths in mm, the rest as its fields say."""
    return {
        "seed": phantom.seed,
        "disc_centres_lps_mm": phantom.disc_centres_lps_mm,
        "landmarks_lps_mm": phantom.landmarks_lps_mm,
        "conditions": phantom.conditions,
        "degrees": phantom.degrees,
        "lesions": {fsu: asdict(lesion) for fsu, lesion in phantom.lesions.items()},
        "morphometry": {fsu: asdict(measures) for fsu, measures in phantom.morphometry.items()},
        "pfirrmann": phantom.pfirrmann,
        "schmorl_nodes": [
            {"vertebra": VERTEBRAE[node.level], "centre_lps_mm": point, **asdict(node)} for node, point in phantom.schmorl_nodes
        ],
        "acquisition": asdict(phantom.acquisition),
    }


def write_examinations(items: Sequence[Examination], folder: Path, workers: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Write examinations on `workers` processes; name and truth of each in the order of `items`, as they come.

    One process writes the same bytes as several.
    """
    if workers == 1 or len(items) == 1:
        for item in items:
            yield item.name, write_examination(item, folder)
        return
    # Fresh processes: a copy of this one would have its locks, held by threads that the copy lacks.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(items)), mp_context=context, initializer=_begin, initargs=(os.getpid(),))
    try:
        for item, done in zip(items, pool.map(write_examination, items, [folder] * len(items)), strict=True):
            yield item.name, done
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(parent: int) -> None:
    """Leave Ctrl-C to the parent, and end with it even where it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
