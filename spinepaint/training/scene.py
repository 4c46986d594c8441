"""A slice prepared for deformation about one disc: the sac's borders moved, its content squeezed between them."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, gaussian_filter1d, map_coordinates, spline_filter

from spinepaint.training.anatomy2d import U_MM, DiscAnatomy
from spinepaint.training.canal_path import Array

Image = NDArray[np.float32]

EDGE_MM = 0.9  # of a border that is moved as it is, unsqueezed
_RIM_MM = 1.3  # of the wall outside a border that moves with it: dura, ligament
_REACH_MM = 24.0


class Scene:
    """A slice with square pixels and one disc's anatomy, prepared for many deformations.

    `window` is the part of the slice within reach of the disc; outside it nothing ever changes.
    """

    def __init__(self, image: Image, anatomy: DiscAnatomy, reach_mm: float = _REACH_MM) -> None:
        """Prepare what lies within `reach_mm` of the disc's posterior margin."""
        self.image, self.anatomy = image, anatomy
        row, column = anatomy.margin
        reach = reach_mm / anatomy.spacing_mm
        top, left = max(int(row - reach), 0), max(int(column - reach), 0)
        self.window = np.s_[top : int(row + reach) + 1, left : int(column + reach) + 1]
        self.coefficients = spline_filter(image, order=3, output=np.float32)
        self.patch = image[self.window]
        rows, columns = np.meshgrid(
            np.arange(top, top + self.patch.shape[0], dtype=np.float64),
            np.arange(left, left + self.patch.shape[1], dtype=np.float64),
            indexing="ij",
        )
        self.u, self.v = anatomy.to_frame(rows, columns)
        distance = np.hypot(self.u, self.v)
        self.within = smooth_step(reach_mm - 1.0 - distance, 2.0)
        self.front, self.back = self.along(anatomy.front), self.along(anatomy.back)

    def along(self, curve: Array) -> Array:
        """A curve over `U_MM` at every pixel of the window."""
        return np.interp(self.u, U_MM, curve)

    def sample(self, u: Array, v: Array) -> Array:
        """Grey values of the slice at (u, v) in mm, cubic."""
        where = self.anatomy.to_pixels(u, v)
        return np.asarray(map_coordinates(self.coefficients, where, order=3, prefilter=False, mode="nearest"))

    def squeezed(self, front: Array, back: Array) -> Array:
        """The window with the sac's borders moved to `front` and `back` (over `U_MM`) and what lies between squeezed.

        The wall moves along for `_RIM_MM`; beyond it the window stays, for the caller to fill the gap.
        """
        new_front, new_back = self.along(front), self.along(back)
        width, was = np.maximum(new_back - new_front, 0.6), self.back - self.front
        edge = np.minimum(EDGE_MM, 0.25 * width)
        inside = self.v - new_front
        t = np.clip((inside - edge) / (width - 2 * edge), 0.0, 1.0)
        ahead, behind = self._spread(front - self.anatomy.front, t), self._spread(back - self.anatomy.back, 1.0 - t)
        source = self.v - (1.0 - t) * ahead - t * behind
        squeeze = (was - 2 * edge) / (width - 2 * edge)
        beyond = (inside < -_RIM_MM) | (inside > width + _RIM_MM)
        moved = ~beyond & (np.abs(source - self.v) > 0.01)
        # Squeezing takes detail beyond the grid: average over the pixel's footprint, as a scanner does.
        footprint = np.where((inside > edge) & (inside < width - edge), np.maximum(squeeze - 1.0, 0.0), 0.0)
        u, v, offset = self.u[moved], source[moved], footprint[moved] * self.anatomy.spacing_mm / 3.0
        patch = self.patch.astype(np.float64)
        patch[moved] = (self.sample(u, v - offset) + self.sample(u, v) + self.sample(u, v + offset)) / 3.0
        return patch

    def _spread(self, shift: Array, depth: Array) -> Array:
        """A border's shift in mm felt at `depth` (0 to 1) from it: roots deep in the sac bend less sharply than its wall."""
        wide = gaussian_filter1d(shift, 12.0, mode="nearest")
        near = np.exp(-depth / 0.3)
        return near * self.along(shift) + (1.0 - near) * self.along(wide)

    def texture(self, seed: int, size_mm: float) -> Array:
        """A smooth random field of unit variance over the window, of grain `size_mm`."""
        field = np.random.default_rng(seed).standard_normal(self.patch.shape)
        field = gaussian_filter(field, size_mm / self.anatomy.spacing_mm, mode="wrap")
        return np.asarray(field / (field.std() + 1e-9))

    def grain(self, seed: int) -> Array:
        """Noise of the slice's own level and correlation."""
        return self.anatomy.noise * self.texture(seed, 0.45 * self.anatomy.spacing_mm)

    def finished(self, patch: Array) -> Image:
        """The whole slice with `patch` in its window."""
        image = self.image.copy()
        image[self.window] = self.patch + self.within * (patch - self.patch)
        return image


def smooth_step(x: Array, width: float) -> Array:
    """0 below -width/2, 1 above width/2, smooth between."""
    t = np.clip(x / width + 0.5, 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)
