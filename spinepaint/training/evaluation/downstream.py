"""Whether synthetic cases help a small classifier that has few real ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.metrics.rocauc import compute_roc_auc
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from spinepaint.training.evaluation.shares import mean_interval

F32 = NDArray[np.float32]
CLASSES = 3  # healthy, herniation, stenosis


@dataclass(frozen=True)
class Labelled:
    """Patches (N, X, Y, S) in [0, 1] and their classes (N,)."""

    patches: F32
    classes: NDArray[np.int64]

    def joined(self, other: "Labelled") -> "Labelled":
        """Both, one after the other."""
        return Labelled(np.concatenate([self.patches, other.patches]), np.concatenate([self.classes, other.classes]))


def rare(real: Labelled, few: int, rng: np.random.Generator) -> Labelled:
    """All healthy patches and `few` of each pathology, drawn from `rng`."""
    kept = [np.flatnonzero(real.classes == 0)]
    for label in range(1, CLASSES):
        kept.append(rng.permutation(np.flatnonzero(real.classes == label))[:few])
    chosen = np.concatenate(kept)
    return Labelled(real.patches[chosen], real.classes[chosen])


def gain(
    real: Labelled, synthetic: Labelled, test: Labelled, *, few: int = 6, steps: int = 400, seeds: Sequence[int] = range(5)
) -> dict[str, Any]:
    """Macro AUC on `test` with and without the synthetic cases, for as many steps of equal batches; the paired mean difference.

    Each seed draws another rare-class set and other starting weights, the same for both arms. Both arms draw classes evenly,
    so the arm without synthetic cases repeats its few real ones.
    """
    without, with_ = [], []
    for seed in seeds:
        drawn = rare(real, few, np.random.default_rng(seed))
        without.append(_auc(_fitted(drawn, steps, seed), test))
        with_.append(_auc(_fitted(drawn.joined(synthetic), steps, seed), test))
    difference = mean_interval([b - a for a, b in zip(without, with_, strict=True)])
    return {
        "rare_cases_of_each_pathology": few,
        "healthy_cases": int((real.classes == 0).sum()),
        "synthetic_cases": len(synthetic.classes),
        "test_cases": len(test.classes),
        "steps": steps,
        "auc_without": without,
        "auc_with": with_,
        "mean_without": mean_interval(without),
        "mean_with": mean_interval(with_),
        "gain": difference,
    }


def _network() -> nn.Module:
    """A small 3D classifier of patches (B, 1, X, Y, S): 0.05 M parameters."""
    layers: list[nn.Module] = []
    for narrow, wide, stride in ((1, 12, (2, 2, 1)), (12, 24, (2, 2, 2)), (24, 48, (2, 2, 2))):
        layers += [nn.Conv3d(narrow, wide, 3, stride=stride, padding=1), nn.GroupNorm(4, wide), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool3d(2), nn.Flatten(), nn.Dropout(0.3), nn.Linear(48 * 8, CLASSES))


def _tensor(patches: F32) -> Tensor:
    # Standardised by itself: how bright a patch is says nothing of its lesion.
    images = torch.from_numpy(np.ascontiguousarray(patches, dtype=np.float32))[:, None]
    mean, deviation = images.mean((1, 2, 3, 4), keepdim=True), images.std((1, 2, 3, 4), keepdim=True)
    return (images - mean) / deviation.clamp(min=1e-4)


def _fitted(data: Labelled, steps: int, seed: int, batch: int = 24) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network, rng = _network(), np.random.default_rng((seed, 1))
        images, classes = _tensor(data.patches), torch.from_numpy(data.classes)
        members = [np.flatnonzero(data.classes == label) for label in range(CLASSES)]
        optimizer = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(steps):
            chosen = np.concatenate([rng.choice(rows, batch // CLASSES) for rows in members])
            loss = cross_entropy(network(_varied(images[chosen], rng)), classes[chosen])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return network.eval()


def _varied(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Shifted by up to 3 pixels, mirrored left to right, noised: so that few cases are not simply learnt by heart."""
    shift = rng.integers(-3, 4, 2)
    images = images.roll((int(shift[0]), int(shift[1])), dims=(2, 3))
    images = images.flip(-1) if rng.random() < 0.5 else images
    noise = torch.from_numpy(rng.standard_normal(tuple(images.shape), dtype=np.float32))
    return images * float(rng.uniform(0.9, 1.1)) + 0.1 * noise


@torch.inference_mode()
def _auc(network: nn.Module, test: Labelled) -> float:
    scores = torch.cat([network(part).softmax(1) for part in torch.split(_tensor(test.patches), 64)])
    truth = one_hot(torch.from_numpy(test.classes), CLASSES)
    return float(np.asarray(compute_roc_auc(scores, truth, average="macro")))
