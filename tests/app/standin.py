"""A pipeline that takes as long as it is told and writes the files of the contract."""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

STEP_S = 0.05


def paint(
    source: Path,
    spec: Mapping[str, Any],
    out: Path,
    *,
    bundle: Path | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> dict[str, Any]:
    """Sleep 50 ms for each of `steps`, then deliver."""
    files = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file())
    steps = spec.get("steps", 1)
    for step in range(steps):
        if progress is not None:
            progress("sample", step / steps)
        time.sleep(STEP_S)
    sample = out / "sample-01"
    (sample / "series").mkdir(parents=True)
    for number, path in enumerate(files, 1):
        (sample / "series" / f"{number:04d}.dcm").write_bytes(path.read_bytes())
    (sample / "preview.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    report = {"spec": dict(spec)}
    (sample / "report.json").write_text(json.dumps(report))
    return report


def endless(
    source: Path,
    spec: Mapping[str, Any],
    out: Path,
    *,
    bundle: Path | None = None,
    progress: Callable[[str, float], None],
) -> dict[str, Any]:
    """Sample until somebody stops it."""
    while True:
        progress("sample", 0.5)
        time.sleep(STEP_S)
