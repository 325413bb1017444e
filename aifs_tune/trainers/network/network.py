"""What every network has: weights by name, and answers for many examples without training."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune.trainers.network.devices import ChunkSizer
from aifs_tune.trainers.network.params import Precision
from aifs_tune.trainers.network.runtime import tf


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


_AT_ONCE = 64
"""Examples in one pass without training: the same for all shapes, so that small batches do not slow it down."""

Inputs = Any
"""A tensor whose first axis counts examples, or a tuple of such."""


class Network(ABC):
    """Weights of one shape, and the way from inputs to outputs.

    ``weights`` are trained; ``states`` (running means) follow the training passes.
    """

    def __init__(self, sizes: Mapping[str, tuple[int, ...]], states: Mapping[str, tuple[int, ...]] | None = None):
        self.sizes = {**sizes, **(states or {})}
        self.weights: dict[str, Any] = {name: tf.Variable(tf.zeros(size)) for name, size in sizes.items()}
        self.states: dict[str, Any] = {
            name: tf.Variable(tf.zeros(size), trainable=False, aggregation=tf.VariableAggregation.MEAN)
            for name, size in (states or {}).items()
        }
        self._predict: Any = None
        self._chunks = ChunkSizer()
        self.n_traces = 0

    @abstractmethod
    def outputs(self, inputs: Inputs, drop: Callable[[Any], Any], *, is_training: bool) -> Any:
        """Shape (n, outputs), float32, for what :meth:`seen` gives; ``drop`` is applied where units are dropped."""

    def seen(self, raw: Inputs) -> Inputs:
        """What the network takes of stored examples."""
        return raw

    def activation(self, outputs: Any) -> Any:
        """What is measured: the outputs themselves, or what follows from them."""
        return outputs

    def predict(self, stored: Inputs, picked: NDArray[np.int32]) -> NDArray[np.float32]:
        """:meth:`answer` for the picked ones of the ``stored`` examples, shape (n, outputs), nothing dropped.

        Computed in batches of one size, the last filled up by wrapping around, so that one trace does.
        """
        n = len(picked)
        if n == 0:
            return np.zeros((0, self.n_outputs), np.float32)
        if self._predict is None:
            self._predict = tf.function(self._predict_batches, input_signature=_signature(stored), autograph=False)
        filled = tf.constant(np.resize(picked, -(-n // _AT_ONCE) * _AT_ONCE).reshape(-1, _AT_ONCE))
        slices = self._chunks.slices(len(filled))
        found = [np.array(self._predict(stored, filled, tf.constant(a), tf.constant(b))) for a, b in slices]
        return np.concatenate(found)[:n]

    @property
    @abstractmethod
    def n_outputs(self) -> int:
        """Numbers that an example gives."""

    def initialise(self, seed: int) -> None:
        """:func:`~aifs_tune.trainers.network.network.initial_weights`."""
        self.assign(initial_weights(self.sizes, seed))

    def assign(self, values: Mapping[str, NDArray[np.float32]]) -> None:
        """Take ``values``, one for each weight and state.

        Raises
        ------
        KeyError, ValueError
            If one is missing or has another shape.
        """
        for name, variable in self._variables().items():
            variable.assign(values[name])

    def values(self) -> dict[str, NDArray[np.float32]]:
        """A copy of all weights and states."""
        return {name: variable.numpy() for name, variable in self._variables().items()}

    def _variables(self) -> dict[str, Any]:
        return self.weights | self.states

    def _predict_batches(self, stored: Inputs, picked: Any, first: Any, last: Any) -> Any:
        self.n_traces += 1

        def one(i: Any, found: Any) -> Any:
            inputs = self.seen(gathered(stored, picked[i]))
            outputs = self.outputs(inputs, lambda values: values, is_training=False)
            return i + 1, found.write(i - first, self.activation(outputs))

        found = tf.TensorArray(tf.float32, last - first, element_shape=(_AT_ONCE, self.n_outputs))
        return tf.while_loop(lambda i, _: i < last, one, (first, found))[1].concat()


def _signature(stored: Inputs) -> list[Any]:
    """Of any number of such examples."""
    free = tf.nest.map_structure(lambda tensor: tf.TensorSpec((None, *tensor.shape[1:]), tensor.dtype), stored)
    number = tf.TensorSpec((), tf.int32)
    return [free, tf.TensorSpec((None, _AT_ONCE), tf.int32), number, number]


def gathered(stored: Inputs, picked: Any) -> Inputs:
    """The picked examples of one tensor, or of each of a tuple."""
    return tf.nest.map_structure(lambda tensor: tf.gather(tensor, picked), stored)


def dtype_of(precision: Precision) -> Any:
    """What convolutions and dense layers are computed in."""
    return tf.bfloat16 if precision == "mixed_bfloat16" else tf.float32
