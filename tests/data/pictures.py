"""Images that the tests draw."""

from __future__ import annotations

import numpy as np
from PIL import Image


def picture(seed: int, size: tuple[int, int] = (20, 16), *, colour: bool = True) -> Image.Image:
    """An image of width and height ``size`` unlike that of any other seed."""
    random = np.random.default_rng(seed)
    shape = (size[1], size[0], 3) if colour else (size[1], size[0])
    return Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8))
