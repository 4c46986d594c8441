"""Weights that a denoiser starts from, where it knows more than the one that they were fitted for."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from spinepaint.models.unet import ConditionalUNet


def starting_weights(path: Path, unet: ConditionalUNet) -> dict[str, Tensor]:
    """Weights by name; those of a network that knew less (fewer latent channels, no degrees, no donor) fit too.

    The new inputs are without effect at first; a new latent channel is predicted from nothing at first.
    """
    state = {name: value.float() for name, value in load_file(path).items()}
    old, new = "net.class_embedding.weight", "net.class_embedding.table.weight"
    own = unet.state_dict()
    if old in state and new in own:
        state[new] = state.pop(old)
        state |= {name: value for name, value in own.items() if name.startswith("net.class_embedding.") and name != new}
    first, last = "net.conv_in.conv.weight", "net.out.2.conv.weight"
    bias = last.replace("weight", "bias")
    had, has = len(state[last]), len(own[last])
    # The inputs are x and W, then the donor and where it is known: each latent is followed by one channel of its own.
    before = _inputs(state[first].shape[1], had)
    after = _inputs(own[first].shape[1], has)
    widened = torch.zeros_like(own[first])
    widened[:, [after.index(channel) for channel in before]] = state[first]
    state[first] = widened
    for name in (last, bias):
        state[name] = torch.cat([state[name], torch.zeros_like(own[name][had:])])
    return state


def _inputs(count: int, latent: int) -> list[tuple[int, int | None]]:
    """What each of the first layer's inputs is: which image, and which of its latent channels (None: the one behind them)."""
    names = [(image, channel) for image in range(2) for channel in (*range(latent), None)]
    return names[:count]
