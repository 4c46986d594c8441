"""A pipeline that is quick, and whose every byte says which job and which source it is of."""

import hashlib
import json
import os
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.uid import generate_uid

from spinepaint.imaging.errors import Refusal

DIARY = "SPINEPAINT_CHAOS_DIARY"
STEPS = 6
REFUSES, BREAKS = 3, 7
"""What is left of a seed, divided by 50, of those jobs that are refused and of those that never work."""


def fate(seed: int) -> str | None:
    """What a job of this seed has to come to where it is not cancelled: a problem's slug, or None for a result."""
    return {REFUSES: "no-such-level", BREAKS: "internal-error"}.get(seed % 50)


def content_hash(files: Mapping[str, bytes]) -> str:
    """Of a source's files, whatever their names and their order."""
    return hashlib.sha256("".join(sorted(hashlib.sha256(data).hexdigest() for data in files.values())).encode()).hexdigest()


def output_uid(source_sha256: str, seed: int, index: int | None = None) -> str:
    """The series' UID of a result, or that of one of its instances."""
    return str(generate_uid(entropy_srcs=["chaos", source_sha256, str(seed), str(index)]))


def painted(pixels: bytes, seed: int) -> bytes:
    """Pixels that no other seed gives of these."""
    return random.Random(seed).randbytes(16) + pixels[16:]


def paint(
    source: Path, spec: Mapping[str, Any], out: Path, *, bundle: Path | None, progress: Callable[[str, float], None]
) -> dict[str, Any]:
    """Sleep some 50 to 500 ms in all, by the seed; then write a series, a preview and a report."""
    seed = int(spec["seed"])
    with Path(os.environ[DIARY]).open("a") as diary:
        diary.write(f"{seed}\n")  # one write of a few bytes, so processes can share the file
    files = {path.name: path.read_bytes() for path in sorted(source.iterdir())}
    sha256 = content_hash(files)
    step_s = random.Random(seed).uniform(0.05, 0.5) / STEPS
    for step in range(STEPS):
        progress("sample", step / STEPS)
        time.sleep(step_s)
    if seed % 50 == REFUSES:
        raise Refusal("no-such-level", "The level is not in the field of view.", "Choose another level.")
    if seed % 50 == BREAKS:
        raise ValueError("as it always does")
    series = out / "sample-01" / "series"
    series.mkdir(parents=True)
    for index, name in enumerate(sorted(files)):
        dataset = dcmread(source / name)
        dataset.SeriesInstanceUID = output_uid(sha256, seed)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = output_uid(sha256, seed, index)
        dataset.PixelData = painted(dataset.PixelData, seed)
        dataset.save_as(series / f"{index:04d}.dcm")
    report = {"spec": dict(spec), "source": {"sha256": sha256}, "timings_s": {"sample": STEPS * step_s}}
    (out / "sample-01" / "preview.png").write_bytes(b"\x89PNG\r\n\x1a\n" + str(seed).encode())
    (out / "sample-01" / "report.json").write_text(json.dumps(report))
    return report
