"""Reads an upload in a process of its own: `python -m spinepaint.app.reader`, JSON on stdin and stdout.

A series is decoded whole to check it, by native code that is fed what strangers send. Here that costs the
gateway no memory that it would keep, and a decoder that crashes takes one upload down and not the service.
"""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from spinepaint.app import leash
from spinepaint.app.memory import limit_memory
from spinepaint.imaging.caps import Caps
from spinepaint.imaging.errors import InstanceReason, Refusal

TIMEOUT_S = 300.0


def read_apart(task: str, source: Path, series_uid: str | None, caps: Caps) -> dict[str, Any]:
    """Run `task` on a source, and wait for it.

    `check` gives the report of `spinepaint check`. `read` gives sha256, warnings, the names of the accepted
    files and the geometry of the series. Raises Refusal for input that is not taken, or not read in time.
    """
    request = {"task": task, "source": str(source), "series_uid": series_uid, "caps": asdict(caps)}
    argv = [sys.executable, "-I", leash.__file__, str(os.getpid()), sys.executable, "-m", "spinepaint.app.reader"]
    try:
        done = subprocess.run(  # noqa: S603 - our own command
            argv, input=json.dumps(request), capture_output=True, text=True, timeout=TIMEOUT_S, check=True
        )
        answer: dict[str, Any] = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        raise Refusal("upload-unreadable", "The upload takes too long to read.", "Send a smaller series.") from None
    except (subprocess.CalledProcessError, json.JSONDecodeError):
        raise Refusal("upload-unreadable", "The upload cannot be read.", "Its files may be damaged.") from None
    if "refusal" in answer:
        refusal = answer["refusal"]
        raise Refusal(**refusal | {"instances": [InstanceReason(**instance) for instance in refusal["instances"]]})
    return answer


def _answer(task: str, source: Path, series_uid: str | None, caps: Caps) -> dict[str, Any]:
    from spinepaint.imaging.reading import check, read_series

    if task == "check":
        return check(source, series_uid=series_uid, caps=caps).as_dict()
    try:
        series = read_series(source, series_uid=series_uid, caps=caps)
    except Refusal as refusal:
        return {"refusal": asdict(refusal)}
    volume = series.volume
    return {
        "sha256": series.sha256,
        "warnings": list(series.warnings),
        "files": [verdict.file for verdict in series.report.files if verdict.verdict == "accepted"],
        "geometry": {
            "series_uid": series.series_uid,
            "instances": len(volume.datasets),
            "shape": list(volume.voxels.shape),
            "spacing_mm": list(volume.spacing),
            "affine": volume.affine.tolist(),
        },
    }


def _main() -> None:
    from spinepaint.imaging import reading  # noqa: F401 - before the limit: what is imported is not the upload's

    request = json.load(sys.stdin)
    caps = Caps(**request["caps"])
    limit_memory(caps.reader_memory_bytes)
    try:
        answer = _answer(request["task"], Path(request["source"]), request["series_uid"], caps)
    except MemoryError:
        answer = {"refusal": asdict(caps.refusal("reader_memory_bytes", "needs more to be read"))}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    _main()
