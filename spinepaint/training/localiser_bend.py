"""Bends a slice as another lordosis would: discs and vertebrae turn, the more the further from where it stays straight."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_FIXED_POINT_STEPS = 30


@dataclass(frozen=True)
class Bend:
    """Points (row, column) before bending to points after it, and back.

    A vertical line through `origin` becomes an arc of constant `curvature` (radians a pixel; positive turns both ends forward,
    to lower columns), and what lies beside it keeps its distance from it. One to one within 1/|curvature| of the line.
    """

    origin: tuple[float, float]
    curvature: float

    def apply(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(2, N) points after bending."""
        along, across = points[0] - self.origin[0], points[1] - self.origin[1]
        row, column, angle = self._line(along)
        return np.stack([self.origin[0] + row + across * np.sin(angle), self.origin[1] + column + across * np.cos(angle)])

    def undo(self, point: tuple[float, float]) -> tuple[float, float]:
        """The point that `apply` brings to `point`."""
        target = np.array(point) - self.origin
        along = float(target[0])
        for _ in range(_FIXED_POINT_STEPS):
            row, column, angle = self._line(np.array(along))
            ahead = (target[0] - row) * np.cos(angle) - (target[1] - column) * np.sin(angle)
            across = (target[0] - row) * np.sin(angle) + (target[1] - column) * np.cos(angle)
            along += float(ahead) / max(1 + self.curvature * float(across), 0.2)
        return self.origin[0] + along, self.origin[1] + float(across)

    def _line(self, along: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """(row, column, angle) of the bent line at arc length `along`."""
        angle = self.curvature * along
        # sin(a)/k and (cos(a) - 1)/k, which stay exact where the line is almost straight.
        half = np.sinc(angle / (2 * np.pi))
        return along * np.sinc(angle / np.pi), -0.5 * angle * along * half**2, angle
