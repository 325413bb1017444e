"""Distances between pixels for a Gaussian blur with mirrored edges. Loads no TensorFlow."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

MIN_SIGMA = 1e-3
"""Smallest sigma in px that is computed with; at 0 the weights would be divided by 0."""


@cache
def mirrored_distances(length: int) -> NDArray[np.float32]:
    """Distance in px of each pixel from each other pixel and its mirror images, shape (images, length, length).

    The mirrors are half a pixel outside the centres of the outermost pixels. So the weights with which a pixel blurs
    into others have the same sum as the weights with which others blur into it: no light is lost.
    """
    y, x = np.mgrid[:length, :length]
    direct = [x - y + 2 * period * length for period in (-1, 0, 1)]
    mirrored = [x + y + 1 + 2 * period * length for period in (-2, -1, 0, 1)]
    return np.stack([*direct, *mirrored]).astype(np.float32)
