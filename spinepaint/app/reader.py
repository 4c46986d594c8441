"""Reads an upload in a process of its own: `python -m spinepaint.app.reader`, JSON on stdin and stdout.

A series is decoded whole to check it, by native code that is fed what strangers send. Here that costs the
gateway no memory that it would keep, and a decoder that crashes takes one upload down and not the service.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from spinepaint.app import leash
from spinepaint.app.memory import limit_memory
from spinepaint.imaging.caps import Caps
from spinepaint.imaging.errors import InstanceReason, Refusal, disk_full, is_disk_full

TIMEOUT_S = 300.0
_TO_STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
CONSUMING = "store"
"""The task that takes away what it has read, and so cannot be begun again."""


class ReaderFailed(Exception):
    """A reader ended without an answer."""


class ReaderEnded(Exception):
    """A reader was ended from outside, as all of a service are that is told to stop: that says nothing of the upload."""


def answer_once(request: str) -> str:
    """What a reader says to a request, in a process that is started for it. Raises ReaderFailed, ReaderEnded, or TimeoutError."""
    argv = [sys.executable, "-I", leash.__file__, str(os.getpid()), sys.executable, "-m", "spinepaint.app.reader"]
    try:
        done = subprocess.run(  # noqa: S603 - our own command
            argv, input=request, capture_output=True, text=True, timeout=TIMEOUT_S, check=True
        )
    except subprocess.TimeoutExpired:
        raise TimeoutError from None
    except subprocess.CalledProcessError as error:
        raise (ReaderEnded if -error.returncode in _TO_STOP else ReaderFailed) from None
    return done.stdout


def read_apart(
    task: str,
    source: Path,
    series_uid: str | None,
    caps: Caps,
    *,
    spill: Path | None = None,
    study_uid: str | None = None,
    allow_synthetic: bool = False,
    answer_to: Callable[[str], str] = answer_once,
) -> dict[str, Any]:
    """Run `task` on a source, and wait for it.

    `check` gives the report of `spinepaint check`. `read` gives sha256, warnings, geometry and the files of the
    series: each with its name in the source, or in `spill` (a new folder) where it lay in a zip, and its index for
    DICOMweb, None where it cannot be addressed. `store` does that for every series of a DICOMweb store request,
    with `study_uid` the study they must be of, and gives the instances that are not taken. With `allow_synthetic`
    a series that says it is synthetic is taken. `answer_to` hands the request to a process and brings its answer: one that is
    started for it, or `WarmReader.answer`. Raises Refusal for input that is not taken, or not read in time, and 503 where the
    process was ended from outside.
    """
    request: dict[str, Any] = {"task": task, "source": str(source), "series_uid": series_uid, "caps": asdict(caps)}
    request |= {"spill": None if spill is None else str(spill), "study_uid": study_uid, "allow_synthetic": allow_synthetic}
    try:
        answer: dict[str, Any] = json.loads(answer_to(json.dumps(request)))
    except TimeoutError:
        raise Refusal("upload-unreadable", "The upload takes too long to read.", "Send a smaller series.") from None
    except ReaderEnded:
        raise Refusal("stopping", "The service was stopped meanwhile.", "Send it again.", status=503) from None
    except (ReaderFailed, json.JSONDecodeError):
        raise Refusal("upload-unreadable", "The upload cannot be read.", "Its files may be damaged.") from None
    if "refusal" in answer:
        refusal = answer["refusal"]
        raise Refusal(**refusal | {"instances": [InstanceReason(**instance) for instance in refusal["instances"]]})
    return answer


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    from spinepaint.app.reading_tasks import check_source, read_source, store_instances

    source, series_uid, caps = Path(request["source"]), request["series_uid"], Caps(**request["caps"])
    allow_synthetic = request["allow_synthetic"]
    try:
        match request["task"]:
            case "check":
                return check_source(source, series_uid, caps, allow_synthetic=allow_synthetic)
            case "store":
                return store_instances(source, request["study_uid"], caps, allow_synthetic=allow_synthetic)
        spill = request["spill"] and Path(request["spill"])
        return read_source(source, series_uid, caps, spill, allow_synthetic=allow_synthetic)
    except Refusal as refusal:
        return {"refusal": asdict(refusal)}


def prepare() -> None:
    """Import what reading needs: it is not the upload's, which has its own limit of memory."""
    import spinepaint.app.reading_tasks  # noqa: F401


def answer_text(request_text: str) -> str:
    """Do what a request asks for, within its limit of memory; to be called once in a process, which keeps the limit."""
    prepare()
    request = json.loads(request_text)
    caps = Caps(**request["caps"])
    limit_memory(caps.reader_memory_bytes)
    try:
        answer = _answer(request)
    except MemoryError:
        answer = {"refusal": asdict(caps.refusal("reader_memory_bytes", "needs more to be read"))}
    except Exception as error:
        if not is_disk_full(error):
            raise
        answer = {"refusal": asdict(disk_full())}
    return json.dumps(answer)


if __name__ == "__main__":
    sys.stdout.write(answer_text(sys.stdin.read()))
