"""Weights by name: which of them multiply, and what they are before the first step. Loads no TensorFlow."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from aifs_tune.trainers.cnn_params import CnnShape


def is_kernel(name: str) -> bool:
    """Whether the weight of this name multiplies, and so decays; biases do not."""
    return name.endswith(".kernel")


def initial_weights(shape: CnnShape, seed: int) -> dict[str, NDArray[np.float32]]:
    """Kernels from Glorot and Bengio (2010), eq. 16, the same for the same seed on any device; biases 0."""
    generator = np.random.default_rng(seed)
    return {
        name: _glorot(generator, size) if is_kernel(name) else np.zeros(size, np.float32)
        for name, size in shape.weight_shapes.items()
    }


def _glorot(generator: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    field = math.prod(shape[:-2])
    limit = math.sqrt(6 / (field * (shape[-2] + shape[-1])))
    return (generator.random(shape, dtype=np.float32) * 2 - 1) * np.float32(limit)
