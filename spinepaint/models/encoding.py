"""An inpainter for several draws of one crop, which is encoded once."""

from dataclasses import dataclass, field, replace
from typing import cast

from torch import Tensor

from spinepaint.models.autoencoder import SliceAutoencoder
from spinepaint.models.inpaint import Inpainter


@dataclass
class _EncodedOnce:
    """Stands where the autoencoder does: the first crop's latent is that of every crop."""

    autoencoder: SliceAutoencoder
    latent: list[Tensor] = field(default_factory=list)

    def encode(self, crop: Tensor) -> Tensor:
        if not self.latent:
            self.latent.append(self.autoencoder.encode(crop))
        return self.latent[0]

    def decode(self, latent: Tensor) -> Tensor:
        return self.autoencoder.decode(latent)


def encoding_once(models: Inpainter) -> Inpainter:
    """The same networks for draws of one crop and no other: what they give is the same, bit for bit."""
    # `inpaint` asks an autoencoder for nothing but to encode and to decode.
    return replace(models, autoencoder=cast(SliceAutoencoder, _EncodedOnce(models.autoencoder)))
