"""What the autoencoder alone keeps of a real image: held-out SPIDER slices (CC BY 4.0) around their discs."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from spinepaint.models.autoencoder import SliceAutoencoder
from spinepaint.models.bundle import Bundle, CropConfig
from spinepaint.models.intensity import IntensityRange
from spinepaint.training.autoencoder import resample
from spinepaint.training.evaluation.shares import mean_interval
from spinepaint.training.evaluation.similarity import ssim
from spinepaint.training.spider import is_held_out, read_slices

F32 = NDArray[np.float32]


def disc_crops(folder: Path, crop: CropConfig) -> dict[int, list[F32]]:
    """By held-out patient, slices as the pipeline cuts them, normalised: `crop`'s grid around each disc's posterior margin.

    Raises FileNotFoundError where `folder` is not SPIDER's.
    """
    shape, wanted = crop.grid[:2], crop.extent_mm[0] / crop.grid[0]
    found: dict[int, list[F32]] = {}
    for item in read_slices(folder):
        if not is_held_out(item.patient):
            continue
        image = resample(item.image, item.spacing, wanted)
        padded = np.pad(image, [(n // 2, n // 2) for n in shape], mode="edge")
        for box in item.discs:
            margin = (box.centre[0], box.centre[1] + box.size[1] / 2)  # the slices face left
            corner = [round(at * step / wanted) for at, step in zip(margin, item.spacing, strict=True)]
            corner = [min(max(at, 0), n - 1) for at, n in zip(corner, image.shape, strict=True)]
            cut = padded[corner[0] : corner[0] + shape[0], corner[1] : corner[1] + shape[1]]
            found.setdefault(item.patient, []).append(IntensityRange.of(cut).normalise(cut))
    return found


@torch.no_grad()
def reconstruction(models: Bundle, folder: Path) -> dict[str, Any]:
    """PSNR in dB (the range is that of the normalised grey values, 2) and SSIM of encoding and decoding, with quantisation.

    A patient's discs overlap, so the intervals are over patients' means.
    """
    by_patient = disc_crops(folder, models.config.crop)
    figures = [[_fidelity(models.inpainter.autoencoder, crop) for crop in crops] for crops in by_patient.values()]
    means = np.array([np.mean(patient, axis=0) for patient in figures])
    return {
        "patients": len(means),
        "crops": sum(len(crops) for crops in by_patient.values()),
        "psnr_db": mean_interval(means[:, 0].tolist()),
        "ssim": mean_interval(means[:, 1].tolist()),
        "psnr_quartiles_db": np.percentile([crop[0] for patient in figures for crop in patient], (25, 50, 75)).tolist(),
    }


def _fidelity(autoencoder: SliceAutoencoder, crop: F32) -> tuple[float, float]:
    device = next(autoencoder.parameters()).device
    volume = torch.from_numpy(crop)[None, None, :, :, None].to(device)
    decoded = autoencoder.decode(autoencoder.encode(volume))
    error = float(functional.mse_loss(decoded.float(), volume))
    images = (((image[0, 0].float() + 1) / 2).cpu().numpy() for image in (decoded, volume))
    return float(10 * np.log10(4 / error)), ssim(*images)
