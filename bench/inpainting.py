"""Whole runs of `spinepaint inpaint` on a 17-slice series: seconds and peak memory, and the report's own stages."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from spinepaint.training.phantom import make_phantom, write_series

SLICES = 17
ASKED = {"fsu": "L4-L5", "pathology": "disc_herniation", "severity": "moderate_large", "solver": "pndm", "steps": "50"}


def measure(runs: int) -> dict[str, float]:
    """Medians over `runs` whole processes. Target: under 20 s and under 1.5 GB on two cores."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        write_series(make_phantom(4, slices=SLICES, matrix=384), source, seed=4)
        results = [_run(source, Path(folder) / f"out-{n}") for n in range(runs)]
    seconds, peaks, reports = zip(*results, strict=True)
    figures = {"wall_s": statistics.median(seconds), "peak_mib": statistics.median(peaks)}
    for stage in reports[0]["timings_s"]:
        figures[f"stage {stage}_s"] = statistics.median(report["timings_s"][stage] for report in reports)
    evaluations = reports[0]["solver"]["network_evaluations"]
    figures["ms_per_network_evaluation"] = 1000 * figures["stage sample_s"] / evaluations
    return figures


def _run(source: Path, out: Path) -> tuple[float, float, dict[str, dict[str, float]]]:
    command = [sys.executable, "-m", "spinepaint.app.cli", "inpaint", str(source), "--out", str(out)]
    for name, value in ASKED.items():
        command += [f"--{name}", value]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    # wait4 gives this one child's own peak, which RUSAGE_CHILDREN would mix with the others'.
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    if os.waitstatus_to_exitcode(status) != 0:
        raise RuntimeError("spinepaint inpaint failed")
    return seconds, usage.ru_maxrss / 1024, json.loads((out / "sample-01" / "report.json").read_text())
