"""FSU crops with a known pathology, and their latents: what the inpainter learns from.

Every crop shows the pathology that it is labelled with, as in the paper: at inference a disc that has
none is given one. Neighbouring levels are healthy, because that is what a donor looks like.
"""

import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from spinepaint.imaging.crop import cut
from spinepaint.imaging.vocabulary import CONDITIONS, Fsu, Pathology, Severity, condition_index, fsu_index
from spinepaint.imaging.volume import Volume
from spinepaint.models.autoencoder import SliceAutoencoder
from spinepaint.models.bundle import CropConfig
from spinepaint.models.intensity import IntensityRange
from spinepaint.training.datasets import Case, open_volume
from spinepaint.training.phantom import Phantom, make_phantom
from spinepaint.training.real_crops import RealCrops

LEVELS = tuple(Fsu)


@dataclass(frozen=True)
class LabelledCrop:
    """A normalised crop (X, Y, Z) and what it shows.

    landmark_mm: from the outer corner of the first voxel; degree: how far along its pathology, 0 to 1, nan where unknown;
    slice_weight (Z,): how far each slice's look can be believed, 1 for a phantom's; donor: the same crop without
    the pathology, in the same grey values, None where nobody knows it.
    """

    voxels: NDArray[np.float32]
    landmark_mm: tuple[float, float, float]
    condition: int
    fsu: int
    slice_weight: NDArray[np.float32]
    degree: float
    donor: NDArray[np.float32] | None


@dataclass(frozen=True)
class Latents:
    """Encoded crops, as float16 tensors with the crops' labels; the first axis counts crops.

    donor has one channel more than latent: ones where there is a donor, zeros in all channels where there is none.
    """

    latent: torch.Tensor
    landmark_mm: torch.Tensor
    condition: torch.Tensor
    fsu: torch.Tensor
    slice_weight: torch.Tensor
    degree: torch.Tensor
    donor: torch.Tensor

    def __len__(self) -> int:
        """Number of crops."""
        return len(self.latent)


def phantom_volume(phantom: Phantom) -> Volume:
    """A phantom as a `Volume` without a DICOM source."""
    ones = np.ones(len(phantom.voxels))
    return Volume(phantom.voxels, phantom.voxels.astype(np.int16), phantom.affine, ones, 0 * ones, ())


def draw_pathologies(rng: np.random.Generator) -> dict[str, tuple[str, str]]:
    """A pathology at every other level, starting at the first or the second, so that neighbours stay healthy."""
    first = int(rng.integers(2))
    drawn = {}
    for level in LEVELS[first::2]:
        pathology, severity = CONDITIONS[int(rng.integers(len(CONDITIONS)))]
        drawn[level.value] = (pathology.value, severity.value)
    return drawn


def phantom_crops(seed: int, crop: CropConfig, jitter_mm: float = 3.0) -> Iterator[LabelledCrop]:
    """Two or three crops of one phantom, each around the landmark of its pathology, give or take `jitter_mm`."""
    rng = np.random.default_rng((seed, 77))
    phantom = make_phantom(seed, draw_pathologies(rng))
    volume = phantom_volume(phantom)
    # Levels with a lesion are two apart, so a crop of one shows no other: one healthy twin is the donor of all.
    healthy = phantom_volume(make_phantom(seed))
    for level in LEVELS:
        condition = phantom.conditions.get(level.value)
        if condition is None or level.value not in phantom.landmarks_lps_mm:
            continue
        landmark = np.asarray(phantom.landmarks_lps_mm[level.value])
        x, y, z = landmark + rng.normal(0, jitter_mm, 3)
        piece, donor = (cut(v, (float(x), float(y), float(z)), crop.extent_mm, crop.grid) for v in (volume, healthy))
        intensity = IntensityRange.of(donor.voxels)
        yield LabelledCrop(
            voxels=intensity.normalise(piece.voxels),
            landmark_mm=piece.to_corner_mm((float(landmark[0]), float(landmark[1]), float(landmark[2]))),
            condition=condition_index(Pathology(condition[0]), Severity(condition[1])),
            fsu=fsu_index(level),
            slice_weight=np.ones(crop.grid[2], np.float32),
            degree=phantom.degrees[level.value],
            donor=intensity.normalise(donor.voxels),
        )


def real_crops(source: RealCrops, seed: int, count: int, crop: CropConfig) -> Iterator[LabelledCrop]:
    """`count` crops lifted from real slices, a function of `seed` alone."""
    spacing = np.array(crop.extent_mm) / np.array(crop.grid)
    for number in range(count):
        sample = source.sample(np.random.default_rng((seed, number)))
        x, y, z = (np.asarray(sample.landmark_index) + 0.5) * spacing
        intensity = IntensityRange.of(sample.before)
        yield LabelledCrop(
            voxels=intensity.normalise(sample.voxels),
            landmark_mm=(float(x), float(y), float(z)),
            condition=condition_index(sample.pathology, sample.severity),
            fsu=fsu_index(sample.fsu),
            slice_weight=sample.slice_weight.astype(np.float32),
            degree=sample.degree,
            donor=None if sample.real else intensity.normalise(sample.before),
        )


def case_crops(case: Case, repeats: int, crop: CropConfig, jitter_mm: float = 3.0) -> Iterator[LabelledCrop]:
    """`repeats` crops of a case, each around its landmark, give or take `jitter_mm`; a function of the case alone."""
    volume = open_volume(case.series)
    rng = np.random.default_rng((zlib.crc32(f"{case.patient} {case.fsu}".encode()), 78))
    for _ in range(repeats):
        x, y, z = np.asarray(case.landmark_lps_mm) + rng.normal(0, jitter_mm, 3)
        piece = cut(volume, (float(x), float(y), float(z)), crop.extent_mm, crop.grid)
        yield LabelledCrop(
            voxels=IntensityRange.of(piece.voxels).normalise(piece.voxels),
            landmark_mm=piece.to_corner_mm(case.landmark_lps_mm),
            condition=condition_index(case.pathology, case.severity),
            fsu=fsu_index(case.fsu),
            slice_weight=np.ones(crop.grid[2], np.float32),
            degree=math.nan,
            donor=None,
        )


@torch.no_grad()
def encode(autoencoder: SliceAutoencoder, crops: Iterator[LabelledCrop]) -> Latents:
    """Encode crops one by one; the autoencoder's `latent_scale` is applied."""
    kept = []
    for crop in crops:
        donor = crop.voxels if crop.donor is None else crop.donor
        with torch.autocast("cpu", torch.bfloat16):
            both = autoencoder.encode(torch.from_numpy(np.stack([crop.voxels, donor]))[:, None]).half()
        seen = torch.cat([both[1], torch.ones_like(both[1, :1])]) * float(crop.donor is not None)
        kept.append((both[0], crop.landmark_mm, crop.condition, crop.fsu, crop.slice_weight, crop.degree, seen))
    return Latents(
        torch.stack([row[0] for row in kept]),
        torch.tensor([row[1] for row in kept]),
        torch.tensor([row[2] for row in kept]),
        torch.tensor([row[3] for row in kept]),
        torch.from_numpy(np.stack([row[4] for row in kept])),
        torch.tensor([row[5] for row in kept]),
        torch.stack([row[6] for row in kept]),
    )


def save_latents(latents: Latents, path: Path) -> None:
    """Write latents as one file of tensors."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(vars(latents), path)


def load_latents(paths: Sequence[Path]) -> Latents:
    """Read and join files of latents."""
    parts = [torch.load(path, weights_only=True) for path in paths]
    return Latents(**{name: torch.cat([part[name] for part in parts]) for name in parts[0]})
