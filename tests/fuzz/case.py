"""One case of the fuzzer: which file is spoilt how, and what the reader makes of it."""

import random
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spinepaint.imaging.caps import Caps
from spinepaint.imaging.check_pixels import check_pixels
from spinepaint.imaging.read_header import BadInstanceError, read_header
from spinepaint.imaging.read_pixels import read_instance
from spinepaint.imaging.reading import SourceSeries, check, read_series
from spinepaint.imaging.unpacking import DiskFile
from tests.fuzz.mutations import MUTATIONS
from tests.fuzz.seeds import Seed

CAPS = Caps(upload_bytes=2**26, file_bytes=2**25, inflated_bytes=2**26, header_bytes=2**21, header_elements=50_000)
# What a file that is no whole series by itself is put through. A series costs the time of its six files.
LEVELS = {"instance": 0.7, "alone": 0.15, "series": 0.15}


class BrokenPromise(AssertionError):
    """The reader answered, but not as it says it does."""


@dataclass(frozen=True)
class Case:
    """Number `index` of the run with `seed`; the same numbers give the same file."""

    index: int
    seed_name: str
    mutation: str
    file: bytes
    beside: tuple[bytes, ...]
    level: str


def make_case(run_seed: int, index: int, seeds: list[Seed]) -> Case:
    """The case of these two numbers."""
    chance = random.Random(f"{run_seed}/{index}")
    seed, other = chance.choice(seeds), chance.choice(seeds)
    mutation = chance.choice(MUTATIONS)
    file = mutation(chance, seed.file, other.file)
    level = chance.choices(list(LEVELS), weights=list(LEVELS.values()))[0] if seed.beside else "alone"
    return Case(index, seed.name, mutation.__name__, file, seed.beside, level)


def run_case(case: Case, folder: Path) -> str:
    """The verdict over a case, `accepted` or the slug of the refusal. Raises whatever the reader lets escape."""
    path = folder / "spoilt"
    path.write_bytes(case.file)
    if case.level == "instance":
        return f"instance: {_instance_verdict(path)}"
    if case.level == "alone":
        return _verdict([path])
    beside = [folder / f"beside-{number}" for number in range(len(case.beside))]
    for neighbour, content in zip(beside, case.beside, strict=True):
        neighbour.write_bytes(content)
    return f"series: {_verdict([path, *beside])}"


def _instance_verdict(path: Path) -> str:
    """The verdict over one instance, decoded: a series would not get to decoding it if anything else were wrong with it."""
    try:
        header = read_header(DiskFile(path, path.name), CAPS)
        check_pixels(header)
        read_instance(header, CAPS)
    except BadInstanceError as problem:
        return problem.type
    return "accepted"


def _verdict(paths: list[Path]) -> str:
    """The verdict of `check`, once it was seen to keep what it promises."""
    report = check(paths, caps=CAPS)
    if report.accepted != (report.refusal is None) or report.accepted != (report.chosen_series_uid is not None):
        raise BrokenPromise("accepted without a series, or refused without a reason")
    if report.refusal is None:
        _accepted_series_is_sound(read_series(paths, caps=CAPS))
    elif not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", report.refusal.type) or not report.refusal.title:
        raise BrokenPromise(f"a refusal without a type or a title: {report.refusal!r}")
    if not all(entry.reason and entry.verdict in ("accepted", "ignored", "refused") for entry in report.files):
        raise BrokenPromise("a file without a verdict or a reason")
    sound = {verdict.verdict for verdict in (*report.files, *report.series)}
    if report.refusal is not None and report.refusal.type != "several-series" and "accepted" in sound:
        raise BrokenPromise("a file or a series that is accepted in a source that is refused")
    names = sorted(entry.file for entry in report.files)
    if len(paths) > 1 and names != sorted(path.name for path in paths):
        raise BrokenPromise("a file that has no verdict, or two")
    if not report.files and (report.refusal is None or not report.refusal.type.startswith("over-cap")):
        raise BrokenPromise("no verdict over any file")
    return report.refusal.type if report.refusal else "accepted"


def _accepted_series_is_sound(series: SourceSeries) -> None:
    volume = series.volume
    if volume.voxels.shape != volume.stored.shape or volume.voxels.ndim != 3 or volume.voxels.shape[0] < 5:
        raise BrokenPromise("an accepted series that is no stack of slices")
    if not np.isfinite(volume.voxels).all() or not np.isfinite(volume.affine).all() or np.linalg.det(volume.affine) == 0.0:
        raise BrokenPromise("an accepted series whose voxels or place are not finite")
