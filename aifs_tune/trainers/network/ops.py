"""What a compiled step needs beside ``keras.ops``, on TensorFlow and on JAX: random numbers by a seed, and gathering.

The seed of TensorFlow is a tensor of two whole numbers, that of JAX a key. Their random numbers differ.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from aifs_tune.trainers.network.runtime import jax, keras, tf


def is_jax() -> bool:
    """Whether Keras uses JAX, and not TensorFlow."""
    return bool(keras.backend.backend() == "jax")


def seed_of(seed: int, number: int) -> Any:
    """The seed of two whole numbers from 0."""
    return jax.random.fold_in(jax.random.key(seed), number) if is_jax() else tf.constant([seed, number], tf.int64)


def split(seed: Any, n: int) -> Any:
    """``n`` seeds that are independent of each other, by number."""
    return jax.random.split(seed, n) if is_jax() else tf.random.split(seed, n)


def numbered(seed: Any, number: int) -> Any:
    """Another seed for each ``number``; 0 may give the seed itself."""
    return jax.random.fold_in(seed, number) if is_jax() else seed + number


def uniform(shape: tuple[int, ...], seed: Any, low: float = 0.0) -> Any:
    """Uniform random numbers from ``low`` to 1."""
    if is_jax():
        return jax.random.uniform(seed, shape, minval=low)
    return tf.random.stateless_uniform(shape, seed, low, 1.0)


def normal(shape: tuple[int, ...], seed: Any) -> Any:
    """Standard normal random numbers."""
    return jax.random.normal(seed, shape) if is_jax() else tf.random.stateless_normal(shape, seed)


def gamma(shape: tuple[int, ...], seed: Any, alpha: Any) -> Any:
    """Random numbers of the gamma distribution with shape parameter ``alpha`` and scale 1."""
    return jax.random.gamma(seed, alpha, shape) if is_jax() else tf.random.stateless_gamma(shape, seed, alpha)


def when(condition: Any, then: Callable[[], Any], otherwise: Callable[[], Any]) -> Any:
    """The result of ``then`` or ``otherwise``; of a condition that is no tensor, the other is not compiled at all."""
    if isinstance(condition, bool):
        return then() if condition else otherwise()
    return jax.lax.cond(condition, then, otherwise) if is_jax() else tf.cond(condition, then, otherwise)


def gather(values: Any, picked: Any) -> Any:
    """Rows ``picked`` by number, from 0; ``keras.ops.take`` also looks for negative numbers."""
    return values[picked] if is_jax() else tf.gather(values, picked)


def of_shape(values: Any, shape: tuple[int | None, ...]) -> Any:
    """``values``, which have this ``shape``; recurrent layers of TensorFlow forget the number of examples."""
    return values if is_jax() else tf.ensure_shape(values, shape)


def log_probabilities(outputs: Any, n_classes: int) -> Any:
    """Outputs, shape (n, outputs), with log-probabilities for the logits of the first ``n_classes``."""
    if n_classes == 0:
        return outputs
    if n_classes == outputs.shape[1]:
        return keras.ops.log_softmax(outputs)
    of_classes = keras.ops.log_softmax(outputs[:, :n_classes])
    return keras.ops.concatenate([of_classes, outputs[:, n_classes:]], axis=1)


def held(variable: Any) -> Any:
    """What a compiled step reads and writes of a Keras variable: on TensorFlow its tensor, on JAX the variable."""
    return variable if is_jax() else variable.value


def with_xla(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` as one kernel of XLA, also within a step of TensorFlow that is not; JAX compiles all with XLA."""
    compiled: list[Any] = []

    @wraps(function)
    def call(*arrays: Any) -> Any:
        if is_jax():
            return function(*arrays)
        if not compiled:
            compiled.append(tf.function(function, jit_compile=True, autograph=False))
        return compiled[0](*arrays)

    return call
