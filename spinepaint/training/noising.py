"""What the noise of a training step is added to, and when: the lesion, as in the paper, or the donor that sampling starts from.

A sample starts as the *donor* noised to T, a training example as the *lesion* noised to t. At T the two are nearly the same, but
ᾱ[t_v] is 0.008 where W = 0.75, and over some hundred cells even that little tells a network which of the two it sees. One
that only ever saw noised lesions takes the donor's remains for "no lesion here" and paints about half of it.
"""

import numpy as np
import torch
from torch import Tensor

from spinepaint.models.schedule import add_noise

_AT_THE_START = 0.4
"""Of the crops that are noised from their donor, the share at T itself; what has been painted in part comes after."""


def draw_times(rng: np.random.Generator, donor: Tensor, power: float, untouched: float, earliest: float) -> tuple[Tensor, Tensor]:
    """Each crop's time as a share of T, in (0, 1], and how much of what is noised is its donor, 0 to 1; both (B,).

    donor (B, C + 1, X, Y, Z), the last channel ones where it is known; `power`: t = uᵖ; `untouched`: the share of crops with a
    known donor that are noised from it, wholly at T or in part at times from `earliest` on.
    """
    count = len(donor)
    share, part = (1 - rng.random(count)) ** power, np.zeros(count)
    if untouched:
        known = donor[:, -1].flatten(1).any(dim=1).numpy()
        chosen = known & (rng.random(count) < untouched)
        first = chosen & (rng.random(count) < _AT_THE_START)
        later = earliest + (1 - earliest) * (1 - rng.random(count))
        share = np.where(first, 1.0, np.where(chosen, later, share))
        part = np.where(first, 1.0, np.where(chosen, rng.random(count), 0.0))
    return torch.from_numpy(share), torch.from_numpy(part).float()


def noise_towards(clean: Tensor, donor: Tensor, part: Tensor, noise: Tensor, alpha_bar: Tensor) -> tuple[Tensor, Tensor]:
    """x, noised from a mixture of lesion and donor, and the ε with which x = √ᾱ · lesion + √(1−ᾱ) ε.

    clean, donor, noise (B, C, X, Y, Z); part (B,), the donor's; alpha_bar of each voxel. Where ᾱ ≥ 1/2 the lesion alone is
    noised: what is there can be seen then, and a step has no reason to believe otherwise.
    """
    mixed = clean + part[:, None, None, None, None] * (alpha_bar < 0.5) * (donor - clean)
    towards = noise + (alpha_bar / (1 - alpha_bar).clamp(min=0.5)).sqrt() * (mixed - clean)
    return add_noise(mixed, noise, alpha_bar), towards
