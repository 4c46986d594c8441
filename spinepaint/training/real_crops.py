"""Crops with simulated, or real, pathology from the SPIDER slices, for training.

SPIDER: van der Graaf et al. 2024, CC BY 4.0.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates, spline_filter

from spinepaint.imaging.vocabulary import SEVERITIES, Fsu, Pathology, Severity
from spinepaint.training.anatomy2d import U_MM, DiscAnatomy, find_anatomy
from spinepaint.training.canal_path import csf_path, true_spacing
from spinepaint.training.lifting import lift
from spinepaint.training.scene import Image
from spinepaint.training.spider import DiscBox, SpiderSlice, is_held_out, read_slices

UPSIDE_DOWN = frozenset({"52_t2_SPACE", "57_t2"})  # exported feet up, unlike their boxes


class CropSample(NamedTuple):
    """One training crop; see `LiftedCrop` for axes and weights. `real` is true of a lesion that nobody simulated."""

    voxels: NDArray[np.float32]
    landmark_index: tuple[float, float, float]
    pathology: Pathology
    severity: Severity
    fsu: Fsu
    slice_weight: NDArray[np.float32]
    before: NDArray[np.float32]
    patient: int
    real: bool
    degree: float


@dataclass(frozen=True)
class Donor:
    """A disc that can be cropped: which slice (by index among the reader's), its anatomy there, its box, its patient."""

    slice_index: int
    anatomy: DiscAnatomy
    box: DiscBox
    fsu: Fsu
    patient: int


def protrusion_mm(anatomy: DiscAnatomy) -> float:
    """How far the sac's front at disc height lies behind the chord between the walls 12 mm above and below."""
    ends = [float(anatomy.front[np.abs(U_MM - u) < 2.0].mean()) for u in (-12.0, 12.0)]
    return float(anatomy.front[np.abs(U_MM) < 4.0].max() - 0.5 * (ends[0] + ends[1]))


def _donors(slices: list[SpiderSlice]) -> list[Donor]:
    donors = []
    for index, s in enumerate(slices):
        spacing = true_spacing(s.spacing, s.discs)[0]
        path = csf_path(s.image, spacing, s.discs)
        for box in s.discs:
            anatomy = find_anatomy(s.image, spacing, box, path) if box.fsu else None
            if anatomy is not None and box.fsu is not None:
                donors.append(Donor(index, anatomy, box, Fsu(box.fsu), s.patient))
    return donors


class RealCrops:
    """Draws crops from the SPIDER slices of one split.

    Clean donors are discs graded free of herniation; herniated ones are used as they are. Discs without
    grades are left out of both, since a lesion might be painted over a lesion.
    """

    def __init__(
        self,
        folder: Path,
        *,
        held_out: bool = False,
        grid: tuple[int, int, int] = (128, 128, 16),
        extent_mm: tuple[float, float, float] = (80.0, 80.0, 50.0),
        real_share: float = 0.3,
    ) -> None:
        """Read and measure every slice of the split; raises FileNotFoundError where `folder` is not SPIDER's."""
        self.grid, self.extent_mm, self.real_share = grid, extent_mm, real_share
        self.spacing_mm = min(extent_mm[0] / grid[0], extent_mm[1] / grid[1])
        slices = [s for s in read_slices(folder) if s.discs and is_held_out(s.patient) == held_out]
        slices = [replace(s, image=s.image[::-1].copy()) if s.name in UPSIDE_DOWN else s for s in slices]
        donors = _donors(slices)
        self.clean = [d for d in donors if d.box.grades.get("Disc herniation") == 0]
        self.herniated = [d for d in donors if d.box.grades.get("Disc herniation") == 1 and protrusion_mm(d.anatomy) >= 1.5]
        self._coefficients = [spline_filter(s.image, order=3, output=np.float32) for s in slices]

    def crop(self, donor: Donor, rng: np.random.Generator) -> tuple[Image, DiscAnatomy]:
        """The donor's slice around its disc's margin, turned, scaled and shifted at random, and its anatomy in that crop."""
        a = donor.anatomy
        rows, columns = (round(self.extent_mm[i] / self.spacing_mm) for i in (0, 1))
        angle, scale = float(np.radians(rng.uniform(-10, 10))), float(rng.uniform(0.9, 1.12))
        shift = rng.uniform(-6.0, 6.0, 2) / self.spacing_mm
        c, s = float(np.cos(angle)), float(np.sin(angle))
        turn = np.array([[c, -s], [s, c]])  # crop offsets to source offsets
        step = self.spacing_mm / (a.spacing_mm * scale)
        # The pipeline centres its crop on the landmark, which lies at the margin or just behind it.
        disc = np.array(a.margin)
        middle = np.array([(rows - 1) / 2, (columns - 1) / 2]) + shift
        offsets = np.stack(np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")) - middle[:, None, None]
        where = disc[:, None, None] + step * np.einsum("ij,jrc->irc", turn, offsets)
        image = map_coordinates(self._coefficients[donor.slice_index], where, order=3, prefilter=False, mode="constant")
        margin = middle + turn.T @ (np.array(a.margin) - disc) / step
        posterior = turn.T @ np.array(a.posterior)
        anatomy = replace(
            a,
            margin=(float(margin[0]), float(margin[1])),
            posterior=(float(posterior[0]), float(posterior[1])),
            spacing_mm=self.spacing_mm,
            front=scale * np.interp(U_MM / scale, U_MM, a.front),
            back=scale * np.interp(U_MM / scale, U_MM, a.back),
            disc_half_height_mm=scale * a.disc_half_height_mm,
        )
        return np.maximum(image, 0.0).astype(np.float32), anatomy

    def sample(
        self, rng: np.random.Generator, pathology: Pathology | None = None, severity: Severity | None = None
    ) -> CropSample:
        """A crop with a lesion, of the pathology and severity asked for or drawn evenly."""
        pathology = pathology or list(Pathology)[int(rng.integers(len(Pathology)))]
        severity = severity or SEVERITIES[pathology][int(rng.integers(2))]
        real = self._real(rng, severity) if pathology is Pathology.DISC_HERNIATION and rng.random() < self.real_share else None
        if real is not None:
            return self._jittered(real, rng)
        while True:  # some canals have no room for some lesions
            donor = self.clean[int(rng.integers(len(self.clean)))]
            lifted = lift(*self.crop(donor, rng), pathology, severity, rng, self.grid, self.extent_mm)
            if lifted is not None:
                crop = CropSample(
                    lifted.voxels,
                    lifted.landmark_index,
                    pathology,
                    severity,
                    donor.fsu,
                    lifted.slice_weight,
                    lifted.before,
                    donor.patient,
                    False,
                    float(lifted.degree or 0.0),
                )
                return self._jittered(crop, rng)

    def _real(self, rng: np.random.Generator, severity: Severity) -> CropSample | None:
        """A really herniated disc of that severity, its lift to be believed near the midline only."""
        fitting = [d for d in self.herniated if _severity(d.anatomy) is severity]
        if not fitting:
            return None
        donor = fitting[int(rng.integers(len(fitting)))]
        image, anatomy = self.crop(donor, rng)
        base = anatomy.to_pixels(np.array(0.0), np.array(-protrusion_mm(anatomy)))
        lifted = lift(image, anatomy, None, None, rng, self.grid, self.extent_mm)
        if lifted is None:
            return None
        moved = [(float(base[i]) - anatomy.margin[i]) * self.grid[i] / image.shape[i] for i in (0, 1)]
        landmark = (lifted.landmark_index[0] + moved[0], lifted.landmark_index[1] + moved[1], lifted.landmark_index[2])
        return CropSample(
            lifted.voxels,
            landmark,
            Pathology.DISC_HERNIATION,
            severity,
            donor.fsu,
            lifted.slice_weight**3,
            lifted.before,
            donor.patient,
            True,
            min(protrusion_mm(donor.anatomy) / 10.0, 1.0),
        )

    def _jittered(self, crop: CropSample, rng: np.random.Generator) -> CropSample:
        """The crop with another gamma and gain, alike in `voxels` and `before`."""
        gamma, gain = float(rng.uniform(0.8, 1.25)), float(rng.uniform(0.85, 1.15))
        top = max(float(crop.before.max()), 1e-3)

        def jitter(x: NDArray[np.float32]) -> NDArray[np.float32]:
            return np.asarray(gain * top * np.power(np.maximum(x, 0.0) / top, gamma), dtype=np.float32)

        return crop._replace(voxels=jitter(crop.voxels), before=jitter(crop.before))


def _severity(anatomy: DiscAnatomy) -> Severity:
    depth = protrusion_mm(anatomy)
    return Severity.MODERATE_LARGE if depth >= 5.0 or depth >= (anatomy.canal_mm + depth) / 3.0 else Severity.SMALL
