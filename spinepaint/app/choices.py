"""The choices of CLI and API that are not in the vocabulary: how the edit is made.

They repeat the names that `models/samplers.py` and `models/localisers.py` register, because that room imports torch and this one
never does; a test holds the two together.
"""

from enum import StrEnum


class Method(StrEnum):
    """How the edit is confined: noise weighted by distance, a hard mask, or RePaint."""

    WEIGHTED = "weighted"
    MASKED = "masked"
    REPAINT = "repaint"


class Solver(StrEnum):
    """The samplers."""

    PNDM = "pndm"
    DDIM = "ddim"


class Localiser(StrEnum):
    """How discs are found."""

    HEATMAP = "heatmap"
    RL = "rl"
    SEGMENTER = "segmenter"
