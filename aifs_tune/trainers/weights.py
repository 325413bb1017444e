"""Weights by name: which of them multiply, and what they are before the first step. Loads no TensorFlow."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray


def is_kernel(name: str) -> bool:
    """Whether the weight of this name multiplies, and so decays; biases and scales do not."""
    return name.endswith((".kernel", ".recurrent"))


PRETRAINED = "backbone."
"""How the names of weights begin that come from a file, and may learn at a rate of their own."""


def is_pretrained(name: str) -> bool:
    """Whether the weight of this name learns at the learning rate times ``backbone_rate``."""
    return name.startswith(PRETRAINED)


def initial_weights(sizes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, NDArray[np.float32]]:
    """Weights of these shapes, the same for the same seed on any device.

    Kernels are from Glorot and Bengio (2010), eq. 16, recurrent ones orthogonal in each gate (Saxe et al. 2014),
    scales and variances 1, all else 0.
    """
    generator = np.random.default_rng(seed)
    return {name: _initial(generator, name, size) for name, size in sizes.items()}


def _initial(generator: np.random.Generator, name: str, size: tuple[int, ...]) -> NDArray[np.float32]:
    if name.endswith(".recurrent"):
        return _orthogonal(generator, size)
    if is_kernel(name):
        return _glorot(generator, size)
    return np.full(size, 1.0 if name.endswith((".scale", ".variance")) else 0.0, np.float32)


def _glorot(generator: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    field = math.prod(shape[:-2])
    limit = math.sqrt(6 / (field * (shape[-2] + shape[-1])))
    return (generator.random(shape, dtype=np.float32) * 2 - 1) * np.float32(limit)


def _orthogonal(generator: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """(units, gates * units): a random rotation for each gate."""
    units, width = shape
    gates = [np.linalg.qr(generator.normal(size=(units, units)))[0] for _ in range(width // units)]
    return np.concatenate(gates, axis=1).astype(np.float32)
