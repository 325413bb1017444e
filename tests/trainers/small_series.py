"""Small sets of series on which a network learns within seconds."""

from __future__ import annotations

import numpy as np

from aifs_tune._util.scalars import Scalar
from aifs_tune.data.examples import ExampleSet, Target

SMALL_RNN: dict[str, Scalar] = {"units": 8, "batch_size": 16, "learning_rate": 1e-2, "dropout": 0.1}
SMALL_CNN1D: dict[str, Scalar] = {
    "filters": 4,
    "conv_blocks": 2,
    "kernel_size": 3,
    "dense_units": 8,
    "batch_size": 16,
    "learning_rate": 1e-2,
    "dropout": 0.1,
}


def slopes(n: int = 96, *, of_values: bool = False) -> ExampleSet:
    """Noisy lines of 6 to 12 steps: classes rise or fall; a value is the slope. Behind the end stands 0."""
    random = np.random.default_rng(5)
    steps = 12
    lengths = random.integers(6, steps + 1, n).astype(np.int32)
    slope = np.where(np.arange(n) % 2 == 0, 1, -1) * random.uniform(0.5, 1.5, n)
    line = slope[:, None] * (np.arange(steps) / steps - 0.5)
    values = np.stack([line, np.zeros_like(line)], axis=2) + random.normal(0, 0.05, (n, steps, 2))
    values[np.arange(steps)[None, :] >= lengths[:, None]] = 0
    order = random.permutation(n).astype(np.int32)
    parts = np.split(order, [n * 6 // 10, n * 8 // 10])
    inputs = (values.astype(np.float32), lengths)
    if of_values:
        y_true = (slope / slope.std())[:, None].astype(np.float32)
        return ExampleSet(inputs, y_true, (), (Target("slope", "1/s", 0.0, float(slope.std())),), *parts, "slopes")
    return ExampleSet(inputs, (slope < 0).astype(np.int32), ("up", "down"), (), *parts, "slopes")
