"""What the denoiser's output stands for, and how ε is had from it.

`noise`: ε itself. It says little where all is noise: an error of ε there is one of x₀ times √(ᾱ/(1−ᾱ)), down to 1/80 at the end
of the table, less than bfloat16 resolves, so that a lesion's shape and strength are decided by rounding.

`change`: the velocity (Salimans and Ho 2022, app. D) of what is done to the donor d. With x' = x − √ᾱ d and r = x₀ − d

    v = √ᾱ ε − √(1−ᾱ) r        ε = √(1−ᾱ) x' + √ᾱ v        r = √ᾱ x' − √(1−ᾱ) v

so that where all is noise the network says what it would change, and where none is left, the noise. Without a donor d = 0, which
is plain v-prediction. Samplers go on seeing ε alone (PNDM over v mixes values of different times).
"""

from typing import Literal

from torch import Tensor

Prediction = Literal["noise", "change"]
PREDICTIONS: tuple[Prediction, ...] = ("noise", "change")


def noise_of(output: Tensor, x: Tensor, donor: Tensor, alpha_bar: Tensor, predicts: Prediction) -> Tensor:
    """ε from the network's output at x; all (B, C, X, Y, Z), alpha_bar of each voxel broadcastable to them."""
    if predicts == "noise":
        return output
    root, rest = alpha_bar.sqrt().to(x.dtype), (1.0 - alpha_bar).sqrt().to(x.dtype)
    return rest * (x - root * donor) + root * output


def target_of(noise: Tensor, clean: Tensor, donor: Tensor, alpha_bar: Tensor, predicts: Prediction) -> Tensor:
    """What the network should have said of x = √ᾱ x₀ + √(1−ᾱ) ε; arguments as in `noise_of`."""
    if predicts == "noise":
        return noise
    return alpha_bar.sqrt().to(noise.dtype) * noise - (1.0 - alpha_bar).sqrt().to(noise.dtype) * (clean - donor)
