"""Small tiles with bodies for tests of the detector."""

from __future__ import annotations

from typing import Any

import numpy as np

from aifs_tune.data.examples import ExampleSet, Target

SMALL_DETECTOR: dict[str, Any] = {
    "filters": 4,
    "halvings": 1,
    "output_stride": 1,
    "batch_size": 2,
    "learning_rate": 0.01,
    "min_score": 0.01,
}


def spots(n: int = 18, edge: int = 32) -> ExampleSet:
    """Tiles with bright spots of two widths, each a frame of its own; its number is ln of its brightness."""
    random = np.random.default_rng(4)
    images = random.normal(0, 0.02, (n, edge, edge, 1)).astype(np.float32)
    y_true = np.zeros((n, 4, 7), np.float32)
    rows, columns = np.mgrid[:edge, :edge]
    for i in range(n):
        for body in range(random.integers(1, 4)):
            x, y = random.uniform(4, edge - 5, 2)
            label, light = random.integers(2), random.normal(0, 0.3)
            width = (1.2, 2.2)[label]
            shape = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * width**2))
            images[i, ..., 0] += np.exp(light) * shape
            y_true[i, body] = 1, 1, label, x, y, 2.35 * width, light / 0.3
    places = np.array([(i, 0, 0, 0, edge, 0, edge) for i in range(n)], np.int32)
    parts = np.split(np.arange(n, dtype=np.int32), [n * 2 // 3, n * 5 // 6])
    facts = {
        "tile": edge,
        "binning": 1,
        "radius_px": 8.0,
        "usual_size_px": 4,
        "mean_bodies": 2.0,
        "most_detections": 16,
        "roles": ["scalar"],
        "bends": [0.0],
        "brightness": {"column": 0, "sign": 1, "limits": [-0.4, 0.4]},
    }
    masks = np.ones((n, edge, edge), np.uint8)
    targets = (Target("light", None, 0.0, 0.3),)
    return ExampleSet((images, masks, places), y_true, ("narrow", "wide"), targets, *parts, "spots", facts)
