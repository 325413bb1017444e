"""What a trainer sees of a data set: decoded images, labels and which image is in which part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ImageSet:
    """Decoded images in one array, shared by all workers of a node through the page cache.

    ``images`` is uint8 of shape (n, height, width, channels), values 0 to 255, memory-mapped from the
    decoded cache; ``labels`` is int32 of shape (n,), an index into ``classes``. ``train``, ``val`` and
    ``test`` are int32 indices into the first axis, disjoint; ``test`` may be empty. ``fingerprint`` is a
    hexadecimal digest of the image content, the labels and the split.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int32]
    classes: tuple[str, ...]
    train: NDArray[np.int32]
    val: NDArray[np.int32]
    test: NDArray[np.int32]
    fingerprint: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of one image."""
        height, width, channels = self.images.shape[1:]
        return int(height), int(width), int(channels)
