"""Training on several processes, started by `torchrun`: each draws its own batch, and their gradients are averaged.

Gradients are averaged here rather than by `DistributedDataParallel`, because a wrapped network hides the names that checkpoints
and bundles use; for networks of this size one reduction after the backward pass costs little.
"""

import os

import torch
from torch import distributed, nn


def start() -> None:
    """Join the processes that torchrun started; nothing where it did not."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not distributed.is_initialized():
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))


def rank() -> int:
    """This process's number; 0 is the one that writes."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def training_device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def average_gradients(network: nn.Module) -> None:
    """Replace each gradient by the processes' mean."""
    if not distributed.is_initialized():
        return
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    for gradient, mean in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def wait_for_first() -> None:
    """Wait until the first process has come here too, say with data that it makes for all."""
    if distributed.is_initialized():
        distributed.barrier()
