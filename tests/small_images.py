"""Small image sets on which a CNN learns within seconds."""

from __future__ import annotations

import numpy as np

from aifs_tune.data.images.decode import ImageSet

SMALL_NET = {"filters": 4, "dense_units": 16, "batch_size": 16, "learning_rate": 3e-3, "dropout": 0.1}
"""Trains in a fraction of a second."""
STILL = {
    "rotation_deg": 0.0,
    "width_shift": 0.0,
    "height_shift": 0.0,
    "horizontal_flip": False,
    "dropout": 0.0,
}
"""No augmentation and no dropout."""


def blobs(*, n: int = 72, edge: int = 16, n_classes: int = 3, seed: int = 0) -> ImageSet:
    """Bright blobs on noise, a colour for each class; 2/3 to train on, the rest in equal parts for val and test."""
    generator = np.random.default_rng(seed)
    labels = (np.arange(n) % n_classes).astype(np.int32)
    images = generator.integers(0, 60, (n, edge, edge, 3), dtype=np.uint8)
    rows, columns = np.mgrid[:edge, :edge]
    for image, label in zip(images, labels, strict=True):
        y, x = generator.uniform(edge * 0.3, edge * 0.7, 2)
        glow = 180 * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (edge / 5) ** 2)
        image[..., label % 3] += glow.astype(np.uint8)
    order = generator.permutation(n).astype(np.int32)
    train, val, test = np.split(order, [n * 4 // 6, n * 5 // 6])
    names = tuple(f"class {i}" for i in range(n_classes))
    return ImageSet(images, labels, names, train, val, test, f"blobs{n}{edge}{n_classes}{seed}")
