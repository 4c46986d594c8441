"""Edits of real slices against really herniated discs: SPIDER's held-out patients (CC BY 4.0).

A held-out mid-sagittal slice whose disc is graded free of herniation is lifted to a pseudo-volume, painted as a series would
be, and its mid-sagittal patch compared with those of discs that radiologists graded herniated.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spinepaint.imaging.crop import Vector, cut
from spinepaint.imaging.vocabulary import CONDITIONS, Fsu, Pathology
from spinepaint.imaging.volume import Volume
from spinepaint.models.bundle import Bundle, CropConfig
from spinepaint.models.intensity import IntensityRange
from spinepaint.training.evaluation.cases import LEVELS, Cases, seen
from spinepaint.training.evaluation.distances import FEW, frechet_distance, kernel_distance
from spinepaint.training.evaluation.features import Extractor
from spinepaint.training.evaluation.painting import Order, paint
from spinepaint.training.evaluation.phantoms import UNTOUCHED
from spinepaint.training.lifting import lift
from spinepaint.training.real_crops import Donor, RealCrops

HERNIATIONS = tuple(k for k, item in enumerate(CONDITIONS) if item[0] is Pathology.DISC_HERNIATION)


def volume_of(crop: NDArray[np.float32], extent_mm: tuple[float, float, float]) -> Volume:
    """A crop (X: feet, Y: back, Z: left) as a sagittal series around the origin of the patient's axes."""
    x, y, z = (length / n for length, n in zip(extent_mm, crop.shape, strict=True))
    voxels = np.ascontiguousarray(crop.transpose(2, 0, 1))
    affine = np.array([[z, 0, 0, 0], [0, 0, y, 0], [0, -x, 0, 0], [0, 0, 0, 1]], dtype=np.float64)
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(voxels.shape) - 1) / 2)
    ones = np.ones(len(voxels))
    return Volume(voxels, np.clip(voxels, 0, 32767).astype(np.int16), affine, ones, 0 * ones, ())


class RealLevels:
    """Discs of real patients as pseudo-volumes: clean ones to paint, herniated ones to compare with.

    `held_out` says whose: the networks never saw the held-out patients. Raises FileNotFoundError where `folder` is not SPIDER's.
    """

    def __init__(self, folder: Path, crop: CropConfig, *, held_out: bool) -> None:
        self.crop = crop
        self._source = RealCrops(folder, held_out=held_out, grid=crop.grid, extent_mm=crop.extent_mm)

    @property
    def clean(self) -> int:
        """Number of discs graded free of herniation."""
        return len(self._source.clean)

    @property
    def herniated(self) -> int:
        """Number of discs graded herniated that can be cropped."""
        return len(self._source.herniated)

    def clean_disc(self, number: int) -> Donor:
        """Disc `number` of those graded free of herniation."""
        return self._source.clean[number]

    def lifted(self, donor: Donor, view: int) -> tuple[Volume, Vector]:
        """A disc's pseudo-volume and its posterior margin; `view` seeds the turn, shift, scale and warp."""
        rng = np.random.default_rng((donor.patient, donor.box.ivd_label, view))
        image, anatomy = self._source.crop(donor, rng)
        crop = lift(image, anatomy, None, None, rng, self.crop.grid, self.crop.extent_mm)
        if crop is None:
            raise ValueError("a slice without a lesion always lifts")
        volume = volume_of(crop.voxels, self.crop.extent_mm)
        row, column, place = crop.landmark_index
        x, y, z = volume.to_patient(np.array([place, row, column]))
        return volume, (float(x), float(y), float(z))

    def painted(self, models: Bundle, number: int, variant: str, *, steps: int, seed: int) -> Cases:
        """Clean disc `number` with each herniation painted by one variant, or untouched."""
        donor = self.clean_disc(number)
        volume, margin = self.lifted(donor, 0)
        rows = []
        for condition in HERNIATIONS[: 1 if variant == UNTOUCHED else None]:
            noise = int(np.random.default_rng((seed, number, condition, 3)).integers(2**31))
            order = Order(condition, donor.fsu, margin, variant, noise, steps)
            rows.append(self._row(models, volume, donor.fsu, donor.patient, order))
        return Cases.of(rows)

    def _row(self, models: Bundle, volume: Volume, fsu: Fsu, patient: int, order: Order) -> dict[str, Any]:
        edited = volume
        if order.variant == UNTOUCHED:
            whole = cut(volume, order.landmark_lps_mm, self.crop.extent_mm, self.crop.grid)
            intensity = IntensityRange.of(whole.voxels)
        else:
            painted = paint(models, volume, order)
            edited, intensity = volume.with_voxels(painted.pasted.voxels), painted.intensity
        images = seen(edited, intensity, order.landmark_lps_mm, order.landmark_lps_mm)
        unknown = dict.fromkeys(("asked", "measured", "noise", "seam"), np.nan)
        return {"seed": patient, "fsu": LEVELS.index(fsu), "condition": order.condition, "sample": 0, **unknown, **images}

    def really_herniated(self, number: int, views: int = 4) -> Cases:
        """Herniated disc `number`, in `views` random views, so that one of few discs does not count as one pixel pattern."""
        donor = self._source.herniated[number]
        unknown = dict.fromkeys(("asked", "measured", "noise", "seam"), np.nan)
        rows = []
        for view in range(views):
            volume, margin = self.lifted(donor, view)
            intensity = IntensityRange.of(cut(volume, margin, self.crop.extent_mm, self.crop.grid).voxels)
            row = {"seed": donor.patient, "fsu": LEVELS.index(donor.fsu), "condition": HERNIATIONS[0], "sample": view}
            rows.append({**row, **unknown, **seen(volume, intensity, margin, margin)})
        return Cases.of(rows)

    def simulated(self, number: int) -> Cases:
        """A lesion simulated on, or really in, a slice of the split: what the networks learn from."""
        sample = self._source.sample(np.random.default_rng((number, 11)))
        volume = volume_of(sample.voxels, self.crop.extent_mm)
        row, column, place = sample.landmark_index
        x, y, z = volume.to_patient(np.array([place, row, column]))
        images = seen(volume, IntensityRange.of(sample.before), (float(x), float(y), float(z)), (float(x), float(y), float(z)))
        condition = CONDITIONS.index((sample.pathology, sample.severity))
        labels = {"seed": sample.patient, "fsu": LEVELS.index(sample.fsu), "condition": condition, "sample": number}
        unknown = dict.fromkeys(("measured", "noise", "seam"), np.nan)
        return Cases.of([{**labels, **unknown, "asked": sample.degree, **images}])


def middle_slices(cases: Cases) -> NDArray[np.float32]:
    """The mid-sagittal slice of each patch, (N, X, Y, 1): the mean of the two beside the middle."""
    middle = cases.patch.shape[3] // 2
    return np.asarray(cases.patch[..., middle - 1 : middle + 1].astype(np.float32).mean(axis=3, keepdims=True))


def towards_herniated(sets: dict[str, Cases], herniated: Cases, extract: Extractor) -> list[dict[str, Any]]:
    """2D FID and KID of each set's mid-sagittal patches against really herniated discs, one row a severity, so that N is alike.

    Subjects are patients' discs: several views of one count as its slices.
    """
    target = _by_disc(extract(middle_slices(herniated)), herniated)
    rows = []
    for name, cases in sets.items():
        for condition in np.unique(cases.condition):
            some = cases.where(cases.condition == condition)
            features = _by_disc(extract(middle_slices(some)), some)
            if min(len(features), len(target)) < 2:
                continue
            flat = [x.reshape(-1, x.shape[-1]) for x in (features, target)]
            rows.append(
                {
                    "set": name,
                    "severity": "" if name == UNTOUCHED else CONDITIONS[condition][1].value.replace("_", " "),
                    "n": len(flat[0]),
                    "n_herniated": len(flat[1]),
                    "herniated_discs": len(target),
                    "fid": frechet_distance(flat[0], flat[1]),
                    "kid": kernel_distance(features, target),
                    "few": min(len(x) for x in flat) < FEW,
                }
            )
    return rows


def _by_disc(features: NDArray[np.float64], cases: Cases) -> NDArray[np.float64]:
    """(N, 1, D) grouped to (discs, images of each, D); every disc has as many images."""
    discs = np.unique(np.stack([cases.seed, cases.fsu], axis=1), axis=0, return_inverse=True)[1]
    order = np.argsort(discs, kind="stable")
    count = int(np.bincount(discs).min())
    kept = np.concatenate([np.flatnonzero(discs[order] == disc)[:count] for disc in range(int(discs.max()) + 1)])
    return np.asarray(features[order][kept].reshape(-1, count, features.shape[-1]))
