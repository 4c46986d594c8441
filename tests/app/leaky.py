"""A pipeline that reads its source, and says what it read wherever a library or a mistake might."""

import json
import logging
import threading
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydicom import dcmread

from spinepaint.imaging.reading import read_series

KEYWORDS = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "StudyDate",
    "AccessionNumber",
    "ReferringPhysicianName",
    "InstitutionName",
    "StudyInstanceUID",
    "SeriesInstanceUID",
)


def paint(
    source: Path,
    spec: Mapping[str, Any],
    out: Path,
    *,
    bundle: Path | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> dict[str, Any]:
    """Read, and leak; `steps` of 2 breaks on the way, with what it read in its message."""
    read_series(source)
    dataset = dcmread(min(path for path in source.rglob("*") if path.is_file()))
    told = " ".join(str(dataset.get(keyword)) for keyword in KEYWORDS)
    for name in ("pydicom", "pydicom.valuerep", "highdicom", "celery.app.trace", "a.library", ""):
        logging.getLogger(name).warning("Invalid value: %s", told)
        logging.getLogger(name).error(f"Invalid value: {told}", exc_info=ValueError(told))
    warnings.warn(told, stacklevel=1)
    thread = threading.Thread(target=_break, args=(told,))
    thread.start()
    thread.join()
    if progress is not None:
        progress("sample", 0.5)
    if spec.get("steps") == 2:
        _break(told)
    (out / "sample-01").mkdir()
    (out / "sample-01" / "report.json").write_text(json.dumps({"told": told}))
    return {"told": told, "timings_s": {"sample": 0.5}}


def _break(told: str) -> None:
    raise RuntimeError(f"cannot read {told}")
