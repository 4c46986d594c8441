"""Reading, checking and writing a series of 20 slices of 512 × 512 against plain pydicom, in one process and interleaved.

Times are CPU seconds of this process, so that a busy machine does not count. `python -m bench.dicom [--runs 5]`. The
promise is 0.5 s each way beside the decoding of the pixels, which is whatever the codec takes.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from spinepaint.imaging.conformance import findings
from spinepaint.imaging.deidentification import Pseudonyms, deidentified
from spinepaint.imaging.derived import DerivedSeries, write_series
from spinepaint.imaging.labels import write_edit_segmentation, write_measurement_report
from spinepaint.imaging.provenance import Provenance
from spinepaint.imaging.reading import read_series
from spinepaint.imaging.vocabulary import Fsu, Pathology, Severity
from spinepaint.imaging.volume import Volume
from tests.imaging.enhanced_factory import make_enhanced
from tests.imaging.series_factory import make_series

SIZE = {"slices": 20, "rows": 512, "columns": 512, "spacing_mm": (4.4, 0.6, 0.6)}
BOUND_S = 0.5
PROVENANCE = Provenance(
    version="0",
    bundle_name="bench",
    bundle_sha256="0" * 64,
    pathology=Pathology.DISC_HERNIATION,
    severity=Severity.SMALL,
    fsu=Fsu.L4_L5,
    spec={"seed": 0},
    landmark_lps_mm=(0.0, 0.0, 0.0),
)


def measure(runs: int) -> dict[str, float]:
    """Median CPU seconds and ratios by kind of source; `worst_beside_decoding_s` is what the promise is about."""
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for syntax in (ExplicitVRLittleEndian, RLELossless, JPEG2000Lossless):
            figures |= _measured(_classic(Path(scratch), syntax), Path(scratch), UID(syntax).keyword, runs)
        figures |= _measured(_enhanced(Path(scratch)), Path(scratch), "Enhanced", runs)
    ways = [value for name, value in figures.items() if name.endswith(("read_beside_decoding_s", "write_s"))]
    return figures | {"worst_beside_decoding_s": max(ways), "bound_s": BOUND_S}


def _classic(scratch: Path, syntax: UID) -> Path:
    make_series(scratch / syntax.keyword, **SIZE, transfer_syntax=syntax)
    return scratch / syntax.keyword


def _enhanced(scratch: Path) -> Path:
    (scratch / "enhanced").mkdir()
    make_enhanced(scratch / "enhanced" / "a.dcm", **SIZE)
    return scratch / "enhanced"


def _measured(source: Path, scratch: Path, name: str, runs: int) -> dict[str, float]:
    volume = read_series(source).volume
    changed = np.zeros(volume.stored.shape, bool)
    changed[8:12, 200:300, 200:300] = True
    edited = volume.voxels + np.float32(40.0)
    derived = write_series(scratch / "series", volume, edited, changed, PROVENANCE)
    paths = sorted(source.iterdir())
    whole = [dcmread(path) for path in derived.paths]
    seconds = _interleaved(
        {
            "read": lambda: read_series(source),
            "plain_read": lambda: [dcmread(path).pixel_array for path in paths],
            "decoding": _decoding(paths),
            "write": lambda: write_series(scratch / "series", volume, edited, changed, PROVENANCE),
            "plain_write": lambda: [ds.save_as(scratch / f"{k}.dcm") for k, ds in enumerate(whole)],
            "labels": lambda: _write_labels(scratch, derived, volume, changed),
            "deidentify": lambda: deidentified(volume, Pseudonyms()),
            "conformance": lambda: findings(derived.paths),
        },
        runs,
    )
    own = seconds["decoding"]
    figures = {f"{name}_{what}_s": value for what, value in seconds.items()}
    return figures | {
        f"{name}_read_beside_decoding_s": seconds["read"] - own,
        f"{name}_read_ratio_to_pydicom": seconds["read"] / seconds["plain_read"],
        f"{name}_write_ratio_to_pydicom": seconds["write"] / seconds["plain_write"],
    }


def _decoding(paths: list[Path]) -> Callable[[], object]:
    """The pixels alone: parsing is done before, and anew each time, since pydicom keeps what it decoded."""

    def decode() -> float:
        datasets = [dcmread(path) for path in paths]
        began = time.process_time()
        for ds in datasets:
            ds.pixel_array  # noqa: B018
        return time.process_time() - began

    return decode


def _write_labels(scratch: Path, derived: DerivedSeries, volume: Volume, changed: np.ndarray) -> None:
    write_edit_segmentation(scratch / "edit.dcm", derived, volume, changed, PROVENANCE)
    write_measurement_report(
        scratch / "report.dcm", derived, volume, PROVENANCE, {"canal_ap_before": 14.0, "canal_ap_after": 9.0}
    )


def _interleaved(works: dict[str, Callable[[], object]], runs: int) -> dict[str, float]:
    """Median CPU seconds of each, one after the other in every round; a work that returns seconds is taken at its word."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(runs + 1):
        for name, work in works.items():
            began = time.process_time()
            result = work()
            took = result if isinstance(result, float) else time.process_time() - began
            if turn:  # the first round warms up
                seconds[name].append(took)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    for name, value in measure(parser.parse_args().runs).items():
        print(f"{name:<50} {value:>10.4f}")


if __name__ == "__main__":
    main()
