"""Making the inpainter's training set: crops from phantoms and real slices, encoded, in shards.

A shard is a function of its number and the settings, so a broken run goes on where it stopped and
two processes make what one would.
"""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from rich.progress import track

from spinepaint.models.bundle import CropConfig
from spinepaint.training.bundles import read_autoencoder
from spinepaint.training.crops import LabelledCrop, case_crops, encode, phantom_crops, real_crops, save_latents
from spinepaint.training.datasets import Case, read_manifest
from spinepaint.training.datasets.manifest import Split
from spinepaint.training.real_crops import RealCrops


@dataclass(frozen=True)
class LatentData:
    """Where the crops come from and where their latents go.

    `phantoms` counts phantoms (two or three crops each), `real` counts crops lifted from the slices in
    `spider`; `autoencoder` is that run's folder. `held_out` counts the crops for validation of each source: from held-out
    patients, and from phantoms whose seeds no training reaches. `manifest` names cases of your own (see `datasets`), each
    of which gives `repeats` crops; its splits are its own.
    """

    folder: str
    autoencoder: str
    autoencoder_model: dict[str, Any] = field(default_factory=dict)
    phantoms: int = 800
    first_phantom: int = 0
    spider: str | None = None
    real: int = 2000
    held_out: int = 48
    manifest: str | None = None
    repeats: int = 4
    shard: int = 50
    seed: int = 0
    processes: int = 2
    crop: dict[str, Any] = field(default_factory=dict)


HELD_OUT = "-held-out"
_HELD_OUT_PHANTOMS = 1_000_000


def prepare(data: LatentData) -> dict[str, list[Path]]:
    """Make what is missing; the shards' paths by source, `phantom` and `real`, and the same with `HELD_OUT` behind it."""
    # A phantom gives two or three crops.
    held_out = {"phantom": data.held_out // 2 if data.phantoms else 0, "real": data.held_out if data.spider and data.real else 0}
    counts = {"phantom": data.phantoms, "real": data.real if data.spider else 0}
    counts |= {kind + HELD_OUT: count for kind, count in held_out.items()}
    if data.manifest:
        counts |= {"case": len(_cases(data.manifest, "train")), "case" + HELD_OUT: len(_cases(data.manifest, "held_out"))}
    shards = {kind: [_path(data, kind, n) for n in range(0, count, data.shard)] for kind, count in counts.items()}
    numbered = [(kind, n, path) for kind, paths in shards.items() for n, path in enumerate(paths)]
    missing = [(data, kind, n * data.shard) for kind, n, path in numbered if not path.exists()]
    if missing:
        with ProcessPoolExecutor(data.processes) as pool:
            for _ in track(pool.map(_make, missing), "Encoding crops", total=len(missing)):
                pass
    return {kind: paths for kind, paths in shards.items() if paths}


def _path(data: LatentData, kind: str, start: int) -> Path:
    return Path(data.folder) / f"{kind}-{start:06d}.pt"


@cache
def _real_source(folder: str, crop: CropConfig, held_out: bool) -> RealCrops:
    # Measuring every slice takes longer than drawing a shard from them.
    return RealCrops(Path(folder), held_out=held_out, grid=crop.grid, extent_mm=crop.extent_mm)


@cache
def _cases(manifest: str, split: Split) -> list[Case]:
    return read_manifest(Path(manifest), split)


def _make(work: tuple[LatentData, str, int]) -> None:
    data, kind, start = work
    torch.set_num_threads(1)
    crop = CropConfig(**data.crop)
    autoencoder = read_autoencoder(Path(data.autoencoder), data.autoencoder_model)
    held_out = kind.endswith(HELD_OUT)
    if kind.startswith("phantom"):
        first, count = (_HELD_OUT_PHANTOMS, data.held_out // 2) if held_out else (data.first_phantom, data.phantoms)
        seeds = range(first + start, first + min(start + data.shard, count))
        crops: Iterator[LabelledCrop] = chain.from_iterable(phantom_crops(seed, crop) for seed in seeds)
    elif kind.startswith("case"):
        cases = _cases(str(data.manifest), "held_out" if held_out else "train")[start : start + data.shard]
        crops = chain.from_iterable(case_crops(case, data.repeats, crop) for case in cases)
    else:
        count = data.held_out if held_out else data.real
        source = _real_source(str(data.spider), crop, held_out)
        crops = real_crops(source, data.seed + start, min(data.shard, count - start), crop)
    save_latents(encode(autoencoder, crops), _path(data, kind, start))
