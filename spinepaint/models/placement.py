"""Where a network is, and in which precision it runs there."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

HALF = ("cpu", "cuda")
"""Types of devices on which networks run in bfloat16, with their weights in float32."""


def device_of(network: nn.Module) -> torch.device:
    """The device of a network's weights; the CPU's for one that has none."""
    return next((parameter.device for parameter in network.parameters()), torch.device("cpu"))


def half_precision(device: torch.device) -> AbstractContextManager[object]:
    """A context in which the networks on `device` run in bfloat16, where it can."""
    return torch.autocast(device.type, torch.bfloat16) if device.type in HALF else nullcontext()
