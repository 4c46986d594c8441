"""Finds discs by agents that walk to them: the distributional Q-network, and the uncertainty in its value distributions.

Categorical deep Q-learning (Bellemare et al. 2017, "A distributional perspective on reinforcement learning") for landmarks,
with the uncertainty of Browning et al. 2021 ("Uncertainty aware deep reinforcement learning for anatomical landmark detection
in medical images"): the mean full width at half maximum of the six moves' value distributions. One agent a disc; the agents share
the encoder and have a head each (Vlontzos et al. 2019, collaborative agents). `rl_localiser_walk` moves them.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from spinepaint.models.autoencoder import ResidualBlock
from spinepaint.models.localiser import FSUS

MOVES = ((-1, 0, 0), (1, 0, 0), (0, -1, 0), (0, 1, 0), (0, 0, -1), (0, 0, 1))  # along (slice, row, column)
MEMORY = 4  # moves and places that an agent remembers


@dataclass(frozen=True)
class RlLocaliserConfig:
    """Shape of the network and of the walk, JSON-able. The grid's axes are (slice, row, column), `spacing_mm` along each.

    Attributes
    ----------
    scales: voxels that a pixel of a view is wide, a view each; each has three planes, `beside` pixels apart.
    steps: voxels of a move, coarse to fine.
    low, high: the support of the values: what an agent comes nearer, in steps, discounted.
    most_moves: at each step size.
    starts, gammas: places that the agents are sent from, and the contrasts that they see the image in: all pairs of them.
    certainty: the confidence's logit is the first, less the others times `DOUBTS`; fitted on held-out phantoms.
    least_confidence: below it a disc counts as not found.
    """

    fsus: tuple[str, ...] = FSUS
    spacing_mm: float = 2.0
    view: int = 32
    scales: tuple[int, ...] = (1, 2, 4)
    beside: int = 2
    steps: tuple[int, ...] = (4, 2, 1)
    most_moves: int = 24
    starts: int = 3
    gammas: tuple[float, ...] = (0.7, 1.0, 1.4)
    atoms: int = 51
    low: float = -2.0
    high: float = 5.0
    widths: tuple[int, int, int] = (32, 64, 96)
    hidden: int = 256
    certainty: tuple[float, ...] = (5.0, 1.0, 1.0, 1.0, 0.2)
    least_confidence: float = 0.05

    def __post_init__(self) -> None:
        for name in ("fsus", "scales", "steps", "gammas", "widths", "certainty"):  # JSON gives lists
            object.__setattr__(self, name, tuple(getattr(self, name)))

    @property
    def planes(self) -> int:
        """Channels of an observation."""
        return 3 * len(self.scales)

    @property
    def facts(self) -> int:
        """Numbers beside the views: who, at which step size, the last moves, where the other agents are."""
        agents = len(self.fsus)
        return agents + len(self.steps) + MEMORY * len(MOVES) + 3 * agents


class RlLocaliser(nn.Module):
    """The value distributions of each agent's six moves, as log-probabilities over `support`."""

    support: Tensor

    def __init__(self, config: RlLocaliserConfig) -> None:
        super().__init__()
        self.config = config
        a, b, c = config.widths
        self.encoder = nn.Sequential(
            nn.Conv2d(4 * config.planes, a, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(a, b, 2, stride=2),
            ResidualBlock(b),
            nn.Conv2d(b, c, 2, stride=2),
            ResidualBlock(c),
            nn.GroupNorm(8, c),
            nn.SiLU(),
            nn.Flatten(),
        )
        seen = c * (config.view // 8) ** 2
        self.joined = nn.Sequential(nn.Linear(seen + config.facts, config.hidden), nn.SiLU())
        self.heads = nn.Linear(config.hidden, len(config.fsus) * len(MOVES) * config.atoms)
        # Not among the weights: half precision, in which bundles are written, would move the atoms.
        self.register_buffer("support", torch.linspace(config.low, config.high, config.atoms), persistent=False)

    def forward(self, views: Tensor, facts: Tensor, agent: Tensor) -> Tensor:
        """Log-probabilities (N, 6, atoms) of the agents `agent` (N,), from their views and facts.

        views: (N, planes, view, view), grey values of any scale; facts: (N, facts).
        """
        n = len(views)
        x = functional.pixel_unshuffle(_standardised(views, len(self.config.scales)), 2)
        hidden = self.joined(torch.cat([self.encoder(x), facts], dim=1))
        every = self.heads(hidden).view(n, len(self.config.fsus), len(MOVES), self.config.atoms)
        own = every[torch.arange(n, device=views.device), agent]
        return torch.log_softmax(own.float(), dim=-1)


def _standardised(views: Tensor, scales: int) -> Tensor:
    """Each scale's planes together at mean 0 and deviation 1: MR grey values have no unit, and coils fall off."""
    grouped = views.view(len(views), scales, -1)
    mean = grouped.mean(dim=2, keepdim=True)
    # Two sums: torch's own variance takes five times as long on a CPU.
    deviation = ((grouped * grouped).mean(dim=2, keepdim=True) - mean * mean).clamp_min(0).sqrt()
    return ((grouped - mean) / (deviation + 0.02)).clamp(-4, 4).view_as(views)


def full_width_half_maximum(probabilities: Tensor, gap: float) -> Tensor:
    """Width (...) of distributions (..., atoms) between the outermost places where they cross half their maximum.

    gap: distance of neighbouring atoms. Linear between atoms; a distribution that is over half its maximum at an end of
    the support ends there. Where there are two peaks of that height the width holds both.
    """
    half = probabilities.amax(dim=-1, keepdim=True) / 2
    index = torch.arange(probabilities.shape[-1], device=probabilities.device)
    above = probabilities >= half
    last = torch.where(above, index, -1).amax(dim=-1, keepdim=True)
    first = torch.where(above, index, probabilities.shape[-1]).amin(dim=-1, keepdim=True)

    def beyond(edge: Tensor, step: int) -> Tensor:
        outside = (edge + step).clamp(0, probabilities.shape[-1] - 1)
        inner, outer = probabilities.gather(-1, edge), probabilities.gather(-1, outside)
        return torch.where(outside == edge, torch.zeros_like(inner), (inner - half) / (inner - outer).clamp_min(1e-12))

    cells = (last - first).to(probabilities.dtype) + beyond(first, -1) + beyond(last, 1)
    return gap * cells[..., 0]
