"""The losses of arXiv 2411.10755: MSE + Dice + BCE in equal parts."""

import torch
from monai.losses.dice import DiceLoss
from torch import Tensor
from torch.nn import functional

# Over the batch together: a slice beside the spine has no canal, and a Dice of nothing says nothing.
_DICE = DiceLoss(sigmoid=True, batch=True)


def masks_loss(logits: Tensor, masks: Tensor, *, mse: bool) -> dict[str, Tensor]:
    """The losses by name, to be summed.

    logits (B, structures, H, W) of masks, as masks from 0 to 1; `mse` adds the mean square of σ(logit) against the masks.
    """
    losses: dict[str, Tensor] = {
        "dice": _DICE(logits, masks),
        "bce": functional.binary_cross_entropy_with_logits(logits, masks),
    }
    if mse:
        losses["mse"] = functional.mse_loss(torch.sigmoid(logits), masks)
    return losses
