"""Gaussian blur between edges that mirror, as arrays. Loads no TensorFlow."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

LEAST_SIGMA = 1e-3
"""In px; below, no two pixels mix, and the square would be 0."""


@cache
def mirrored_distances(length: int) -> NDArray[np.float32]:
    """Shape (images, length, length): how far each pixel is from another and from its mirror images, in px.

    With mirrors behind the outermost pixels, half a pixel from their centres, the weights of a pixel that blurs into
    the others have the same sum as those of the pixels that blur into it: no light is lost.
    """
    y, x = np.mgrid[:length, :length]
    direct = [x - y + 2 * turn * length for turn in (-1, 0, 1)]
    mirrored = [x + y + 1 + 2 * turn * length for turn in (-2, -1, 0, 1)]
    return np.stack([*direct, *mirrored]).astype(np.float32)
