"""The autoencoder's figures on real slices, on a small folder in SPIDER's layout."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from spinepaint.models.bundle import CropConfig
from spinepaint.training.evaluation.reconstruction import disc_crops, reconstruction

CROP = CropConfig(extent_mm=(32.0, 32.0, 50.0), grid=(64, 64, 16))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three patients, two of them held out; a bright dot at the posterior margin of each disc."""
    (tmp_path / "slices").mkdir()
    boxes, rows = [], []
    for patient in (7, 8, 16):
        image = np.random.default_rng(patient).integers(40, 90, (120, 100)).astype(np.uint8)
        discs = [{"ivd_label": 1 + k, "x": 30, "y": y, "w": 20, "h": 10} for k, y in enumerate((90, 4))]
        for disc in discs:
            image[disc["y"] + 4 : disc["y"] + 7, disc["x"] + 19 : disc["x"] + 22] = 255
        Image.fromarray(image).save(tmp_path / "slices" / f"{patient}_t2.png")
        boxes.append({"series": f"{patient}_t2", "boxes_bottom_to_top": discs})
        rows.append({"new_file_name": f"{patient}_t2", "PixelSpacing": "[.5, .5]"})
    (tmp_path / "disc_boxes.json").write_text(json.dumps(boxes))
    with (tmp_path / "overview.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return tmp_path


def test_crops_are_of_held_out_patients_and_centred_on_the_margins(folder: Path) -> None:
    crops = disc_crops(folder, CROP)
    assert {patient: len(found) for patient, found in crops.items()} == {8: 2, 16: 2}
    for crop in (crop for found in crops.values() for crop in found):
        assert crop.shape == (64, 64)
        assert np.abs(np.argwhere(crop > 0.8 * crop.max()).mean(axis=0) - 32).max() < 2


def test_figures_are_those_of_the_error_that_is_made(folder: Path) -> None:
    class Noisy(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.sigma = torch.nn.Parameter(torch.tensor(0.02))

        def encode(self, volume: Tensor) -> Tensor:
            return volume

        def decode(self, latents: Tensor) -> Tensor:
            return latents + self.sigma * torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))

    models = SimpleNamespace(inpainter=SimpleNamespace(autoencoder=Noisy()), config=SimpleNamespace(crop=CROP))
    found = reconstruction(models, folder)  # type: ignore[arg-type]
    assert (found["patients"], found["crops"]) == (2, 4)
    assert found["psnr_db"].value == pytest.approx(20 * np.log10(2 / 0.02), abs=0.15)
    assert 0.5 < found["ssim"].value < 1
