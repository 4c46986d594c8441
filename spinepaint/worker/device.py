"""What the networks run on, and how many draws at a time."""

import os
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from spinepaint.imaging.errors import Refusal
from spinepaint.models.batching import Batcher
from spinepaint.models.inpaint import Decoded, Draw, Inpainter, Progress, inpaint


class Sampler(Protocol):
    """`models.inpaint.inpaint`, or a `models.batching.Batcher`, which does the same for several threads at once."""

    def __call__(self, models: Inpainter, crop: Tensor, draw: Draw, progress: Progress) -> Decoded:
        """See `inpaint`."""


@dataclass(frozen=True)
class Compute:
    """Where a pipeline's networks are (a name that `find_device` gives), what samples, and how many samples of a job at once."""

    device: str = "cpu"
    sample: Sampler = inpaint
    at_once: int = 1


def compute_for(device: str, batch: int) -> Compute:
    """What the settings ask for; batches are for the life of the process. Raises Refusal as `find_device` does."""
    found = find_device(device)
    return Compute(found) if batch == 1 else Compute(found, Batcher(batch), batch)


def find_device(asked: str) -> str:
    """`cpu` or `cuda:N`, of `auto`, `cpu`, `cuda` or `cuda:N`; `auto` is the first GPU where there is one.

    Raises Refusal where torch does not see it, and sets torch so that a GPU gives the same pixels every time.
    """
    if asked == "cpu" or (asked == "auto" and not torch.cuda.is_available()):
        return "cpu"
    number = int(asked.partition(":")[2] or 0)
    seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if number >= seen:
        raise Refusal(
            "no-such-device",
            "The networks cannot run where they are to.",
            f"SPINEPAINT_DEVICE is {asked}, and torch {torch.__version__} sees {seen} CUDA devices.",
        )
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS may sum in another order each time
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True, warn_only=True)
    return f"cuda:{number}"
