"""What is kept of every level that is looked at, as rows of tables in files, so that a broken evaluation goes on."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spinepaint.imaging.crop import Vector, cut
from spinepaint.imaging.vocabulary import CONDITIONS, Fsu
from spinepaint.imaging.volume import Volume
from spinepaint.models.intensity import CLIP, IntensityRange
from spinepaint.training.evaluation.features import Extractor

F32 = NDArray[np.float32]
LEVELS = tuple(Fsu)
HEALTHY = -1

# The paper's patch, 2.5 x 2.5 x 5 cm (arXiv 2406.02477, Table 1), at the grid's 0.625 mm in plane and 5 mm slices.
PATCH_MM, PATCH_GRID = (25.0, 25.0, 50.0), (40, 40, 10)
_PICTURE_MM, _PICTURE_GRID = (80.0, 80.0, 3.0), (128, 128, 1)


@dataclass(frozen=True)
class Cases:
    """Levels, one a row: every array's first axis is N.

    fsu, condition: indices in the vocabulary's order, condition `HEALTHY` without a lesion; sample: its number among those of
    one donor; asked, measured: degrees, nan where there is none; noise, seam: of `imaging.blending`, nan without an edit.
    patch: at the landmark, level: at the disc margin whatever the pathology; both (N, 40, 40, 10), grey values in [0, 1].
    picture: the sagittal slice through the landmark (N, 128, 128) over 8 x 8 cm.
    """

    seed: NDArray[np.int64]
    fsu: NDArray[np.int64]
    condition: NDArray[np.int64]
    sample: NDArray[np.int64]
    asked: NDArray[np.float64]
    measured: NDArray[np.float64]
    noise: NDArray[np.float64]
    seam: NDArray[np.float64]
    patch: NDArray[np.float16]
    level: NDArray[np.float16]
    picture: NDArray[np.float16]

    def __len__(self) -> int:
        """Number of levels."""
        return len(self.seed)

    def where(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> "Cases":
        """Some of the rows."""
        return Cases(**{item.name: getattr(self, item.name)[chosen] for item in fields(self)})

    @classmethod
    def of(cls, rows: Sequence[dict[str, Any]]) -> "Cases":
        """Rows by the fields' names, as one table. Raises ValueError without rows."""
        if not rows:
            raise ValueError("no level to look at")
        whole = ("seed", "fsu", "condition", "sample")
        images = ("patch", "level", "picture")
        kinds = {**dict.fromkeys(whole, np.int64), **dict.fromkeys(images, np.float16)}
        columns = {item.name: item.name for item in fields(cls)}
        return cls(**{name: np.array([row[name] for row in rows], dtype=kinds.get(name, np.float64)) for name in columns})

    @classmethod
    def joined(cls, parts: Iterable["Cases"]) -> "Cases":
        """Tables one under the other."""
        tables = list(parts)
        return cls(**{item.name: np.concatenate([getattr(t, item.name) for t in tables]) for item in fields(cls)})


def seen(volume: Volume, intensity: IntensityRange, landmark: Vector, margin: Vector) -> dict[str, F32]:
    """The images of one level: patch, level and picture, in the donor's own range of grey values."""
    return {
        "patch": to_unit(intensity, cut(volume, landmark, PATCH_MM, PATCH_GRID).voxels),
        "level": to_unit(intensity, cut(volume, margin, PATCH_MM, PATCH_GRID).voxels),
        "picture": to_unit(intensity, cut(volume, landmark, _PICTURE_MM, _PICTURE_GRID).voxels[..., 0]),
    }


def to_unit(intensity: IntensityRange, voxels: F32) -> F32:
    """Grey values to [0, 1], which stands for the networks' whole range."""
    low, high = CLIP
    return np.asarray((intensity.normalise(voxels) - low) / (high - low), dtype=np.float32)


def kept(path: Path, make: Callable[[], Cases]) -> Cases:
    """The table in a file, made and written first where it is missing; a kill while writing leaves no file."""
    if not path.exists():
        table = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            np.savez_compressed(file, **vars(table))
        partial.replace(path)
        return table
    with np.load(path) as arrays:
        return Cases(**{name: arrays[name] for name in arrays.files})


def kept_features(path: Path, patches: Callable[[], F32], extract: Extractor) -> NDArray[np.float64]:
    """The features (N, S, D) in a file, made and written first where it is missing, in half precision."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            np.save(file, extract(patches()).astype(np.float16))
        partial.replace(path)
    features: NDArray[np.float64] = np.load(path).astype(np.float64)
    return features


def condition_name(condition: int) -> str:
    """A condition in words, such as "disc herniation, small"."""
    if condition == HEALTHY:
        return "healthy"
    pathology, severity = CONDITIONS[condition]
    return f"{pathology.value} {severity.value}".replace("_", " ")
