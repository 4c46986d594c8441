"""The localisers by name: what `--localiser` chooses among, behind one interface.

Another one is a line in `LOCALISERS`, and its name in `app/choices.py`.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from spinepaint.models.bundle import Bundle, BundleError
from spinepaint.models.localiser import localise
from spinepaint.models.rl_localiser_walk import localise_by_agents
from spinepaint.models.segment_localiser import localise_by_segments

N = TypeVar("N")


class MissingNetworkError(BundleError):
    """A bundle that is whole but has not the network that was asked for."""


class Found(Protocol):
    """What every localiser says of a series."""

    @property
    def centres(self) -> Mapping[str, NDArray[np.float64]]:
        """Disc centres as fractional voxel indices (slice, row, column), by FSU; a level that is not in view is absent."""

    @property
    def confidence(self) -> Mapping[str, float]:
        """0 to 1, of the same levels."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should know, in words."""


# Voxels (slice, row, column), head up and the body's front at column 0, and their spacing in mm.
Localise = Callable[[NDArray[np.float32], tuple[float, float, float]], Found]


def held(network: N | None, name: str) -> N:
    """A network of a bundle; MissingNetworkError where the bundle has none."""
    if network is None:
        raise MissingNetworkError(f"the bundle has no weights of the localiser {name!r}")
    return network


LOCALISERS: dict[str, Callable[[Bundle], Localise]] = {
    "heatmap": lambda bundle: partial(localise, bundle.localiser),
    "rl": lambda bundle: partial(localise_by_agents, held(bundle.rl_localiser, "rl")),
    "segmenter": lambda bundle: partial(localise_by_segments, held(bundle.segmenter, "segmenter"), bundle.localiser),
}
