"""Tensors, seeds and gradients of whichever backend Keras uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune.trainers.network.ops import is_jax, seed_of
from aifs_tune.trainers.network.runtime import jax, keras, tf


def tensor(array: Any) -> Any:
    """Numbers of Python are float32."""
    return keras.ops.convert_to_tensor(np.float32(array) if isinstance(array, float) else array)


def seed(one: int, other: int = 0) -> Any:
    return seed_of(one, other)


def gradient(function: Callable[[Any], Any], at: NDArray[np.float32]) -> NDArray[np.float32]:
    """Gradient of the sum of what the function returns."""
    if is_jax():
        return np.array(jax.grad(lambda values: keras.ops.sum(function(values)))(at))
    variable = tf.Variable(at)
    with tf.GradientTape() as tape:
        found = function(variable)
    return np.array(tape.gradient(found, variable))
