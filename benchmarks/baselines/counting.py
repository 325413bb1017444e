"""Rules for micrographs: boundaries crossed by test lines, and the share of dark pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

LINE_PX = 5
"""Width in px that a closing fills: wider than an etched boundary, narrower than a grain."""

Floats = NDArray[np.float64]


def crossings_per_px(image: Floats, blur_px: float, level: float) -> float:
    """Boundaries that a px of test line crosses, along all rows and columns of an image (height, width).

    A boundary is a run of pixels that a closing of the blurred image raises by more than ``level``.
    """
    seen = ndimage.gaussian_filter(image, blur_px)
    is_line = ndimage.grey_closing(seen, (LINE_PX, LINE_PX)) - seen > level
    begins = [(np.diff(is_line.astype(np.int8), axis=axis) == 1).sum() for axis in (0, 1)]
    return float(sum(begins)) / (2 * image.size)


def dark_share(image: Floats, blur_px: float, level: float) -> float:
    """Share of the pixels of a blurred image (height, width) that are darker than its median by more than ``level``."""
    seen = ndimage.gaussian_filter(image, blur_px)
    return float((seen < np.median(seen) - level).mean())
