"""A stand-in for the pipeline that computes nothing: it sleeps, tells its progress, and writes as many files as the real one."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

STEP_S = 0.05
LABEL_BYTES, PREVIEW_BYTES = 40_000, 60_000


def paint(
    source: Path,
    spec: Mapping[str, Any],
    out: Path,
    *,
    bundle: Path | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> dict[str, Any]:
    """Sleep 50 ms for each of the spec's `steps`, then copy the series as a result, with labels, preview and report."""
    files = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file())
    steps = int(spec.get("steps", 1))
    began = time.perf_counter()
    for step in range(steps):
        if progress is not None:
            progress("sample", step / steps)
        time.sleep(STEP_S)
    sample = out / "sample-01"
    (sample / "series").mkdir(parents=True)
    (sample / "labels").mkdir()
    for number, path in enumerate(files, 1):
        (sample / "series" / f"{number:04d}.dcm").write_bytes(path.read_bytes())
    for name in ("edit", "report"):
        (sample / "labels" / f"{name}.dcm").write_bytes(bytes(LABEL_BYTES))
    (sample / "preview.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(PREVIEW_BYTES))
    (sample / "report.json").write_text("{}")
    return {"spec": dict(spec), "timings_s": {"sample": time.perf_counter() - began}}
