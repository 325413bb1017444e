"""Small tables on which trainers learn within seconds."""

from __future__ import annotations

import numpy as np

from aifs_tune.data.examples import ExampleSet, Target


def clouds(*, n: int = 120, columns: int = 6, n_classes: int = 3, seed: int = 0, apart: float = 2.0) -> ExampleSet:
    """Gaussian clouds, one for each class, ``apart`` standard deviations from the origin; from 5 on they do not
    overlap."""
    random = np.random.default_rng(seed)
    y_true = (np.arange(n) % n_classes).astype(np.int32)
    inputs = (random.normal(size=(n, columns)) + apart * np.eye(n_classes, columns)[y_true]).astype(np.float32)
    return _divided(inputs, y_true, tuple(f"class {i}" for i in range(n_classes)), ())


def planes(*, n: int = 120, columns: int = 6, n_targets: int = 2, seed: int = 0) -> ExampleSet:
    """Numbers that are sums of the columns."""
    random = np.random.default_rng(seed)
    inputs = random.normal(size=(n, columns)).astype(np.float32)
    y_true = (inputs @ random.normal(size=(columns, n_targets)) / columns**0.5).astype(np.float32)
    return _divided(inputs, y_true, (), tuple(Target(f"t{i}", "K", 10.0 * i, 2.0 + i) for i in range(n_targets)))


def clouds_and_planes(*, n: int = 120, gaps: float = 0.0) -> ExampleSet:
    """The classes of clouds, and beside each the numbers of planes; a share ``gaps`` of the numbers is missing."""
    of_classes, targets = clouds(n=n, apart=5.0), planes(n=n).targets
    inputs, random = of_classes.inputs[0], np.random.default_rng(3)
    numbers = (inputs - inputs.mean(axis=0)) @ random.normal(size=(6, 2))
    numbers /= numbers.std(axis=0)
    numbers[random.random(numbers.shape) < gaps] = np.nan
    y_true = np.concatenate([of_classes.y_true[:, None], numbers], axis=1, dtype=np.float32)
    return _divided(inputs, y_true, of_classes.classes, targets)


def _divided(inputs, y_true, classes, targets) -> ExampleSet:
    n = len(inputs)
    order = np.random.default_rng(1).permutation(n).astype(np.int32)
    train, val, test = np.split(order, [n * 4 // 6, n * 5 // 6])
    return ExampleSet((inputs,), y_true, classes, targets, train, val, test, f"table{inputs.shape}{len(classes)}")
