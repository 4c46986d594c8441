"""Places for workers under test, and a pipeline that is quick, real, and does what its spec says."""

import errno
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from spinepaint.imaging.errors import Refusal
from spinepaint.store import ArtifactStore, Job, Ledger, Series, migrate

PATIENT = "DOE^JANE"
SOURCE = {"1.dcm": b"one", "2.dcm": b"two"}


def paint(
    source: Path, spec: dict[str, Any], out: Path, *, bundle: Path | None, progress: Callable[[str, float], None]
) -> dict[str, Any]:
    """Copy the source in `steps` steps of `step_s`; `do` names a way to go wrong on the way.

    With `gate` it goes on, once it has told of its progress, when there is a file of that name. Each step that is still its own
    is a line in `steps_told`.
    """
    if "diary" in spec:
        with Path(spec["diary"]).open("a") as diary:
            diary.write(f"{os.getpid()}\n")
    steps = spec.get("steps", 2)
    for step in range(steps):
        progress("sample", step / steps)
        if "steps_told" in spec:
            with Path(spec["steps_told"]).open("a") as told:
                told.write(f"{step}\n")
        time.sleep(spec.get("step_s", 0.0))
        misbehave(spec.get("do"))
    if "gate" in spec:
        progress("write", 0.5)  # a stage of its own: another word on the same one may come too soon to be written
        wait_until(lambda: Path(spec["gate"]).exists())
    files = sorted(source.iterdir()) if source.is_dir() else [source]
    (out / "sample-01").mkdir()
    for file in files:
        (out / "sample-01" / file.name).write_bytes(file.read_bytes())
    return {"files": [file.name for file in files], "bundle": str(bundle)}


def misbehave(do: str | None) -> None:
    match do:
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hang":
            time.sleep(60)
        case "refuse":
            raise Refusal("no-such-level", "The level is not in the field of view.", "Choose another level.")
        case "fill memory":
            np.empty(2**50, np.uint8)
        case "fill disk":
            raise OSError("With tag (7FE0,0010)") from OSError(errno.ENOSPC, "No space left on device")  # as pydicom says it
        case "break":
            raise ValueError(f"cannot read {PATIENT}")


def open_stores(folder: Path) -> tuple[Ledger, ArtifactStore]:
    """A migrated ledger and an artifact store below a folder, where Settings(data_dir=folder) looks for them."""
    url = f"sqlite:///{folder / 'ledger.sqlite3'}"
    migrate(url)
    return Ledger(url), ArtifactStore(folder / "artifacts")


def add_source(ledger: Ledger, artifacts: ArtifactStore) -> Series:
    for name, data in SOURCE.items():
        artifacts.put_bytes(f"sources/a/{name}", data)
    return ledger.add_series(sha256="0" * 64, geometry={}, warnings=[], artifact_key="sources/a/")


def job_now(ledger: Ledger, job: Job) -> Job:
    kept = ledger.get_job(job.id)
    assert kept is not None
    return kept


def wait_until(condition: Callable[[], bool], timeout_s: float = 150.0) -> None:
    """Wait for a condition; fails where it does not come true."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)
