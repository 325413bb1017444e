"""Base class of networks: weights by name, initial weights, and predictions in batches."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune.trainers.network.devices import ChunkSizer
from aifs_tune.trainers.network.ops import gather, is_jax
from aifs_tune.trainers.network.runtime import jax, keras, tf


def is_kernel(name: str) -> bool:
    """Whether the weight ``name`` is a kernel, which weight decay applies to; biases and scales are not."""
    return name.endswith(("kernel", ".recurrent"))


PRETRAINED = "backbone."
"""Prefix of the names of pretrained weights, which may have their own learning rate."""


def is_pretrained(name: str) -> bool:
    """Whether the learning rate of the weight ``name`` is multiplied by ``backbone_rate``."""
    return name.startswith(PRETRAINED)


def initial_weights(sizes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, NDArray[np.float32]]:
    """Initial weights of these shapes, the same for the same seed on any device.

    Kernels are drawn as in Glorot and Bengio (2010), eq. 16; recurrent kernels are orthogonal in each gate (Saxe et al.
    2014); scales and variances are 1, all others 0.
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
    """Random rotations, one for each gate, of shape (units, gates * units)."""
    units, width = shape
    gates = [np.linalg.qr(generator.normal(size=(units, units)))[0] for _ in range(width // units)]
    return np.concatenate(gates, axis=1).astype(np.float32)


PREDICT_BATCH_SIZE = 64
"""Examples in a batch of a prediction, whatever the batch size in training."""

Inputs = Any
"""A tensor whose first axis counts examples, or a tuple of such tensors."""


class Network(ABC):
    """A network of one shape.

    Its variables by name: ``weights`` are trained; ``states``, such as running means, are updated in training without
    gradients.
    """

    def __init__(self, weights: Mapping[str, Any], states: Mapping[str, Any]) -> None:
        self.weights, self.states = dict(weights), dict(states)
        self.sizes = {name: tuple(variable.shape) for name, variable in self._variables().items()}
        self._predict: Any = None
        self._chunks = ChunkSizer()
        self.n_traces = 0

    @abstractmethod
    def outputs(self, inputs: Inputs, drop: Callable[[Any], Any], *, is_training: bool) -> Any:
        """Outputs, float32 of shape (n, outputs), for the result of :meth:`preprocess`; ``drop`` applies dropout."""

    def preprocess(self, raw: Inputs) -> Inputs:
        """Inputs of the network from stored examples."""
        return raw

    def activation(self, outputs: Any) -> Any:
        """Predictions from outputs; by default the outputs themselves."""
        return outputs

    def penalty(self) -> Any:
        """Term of the loss that depends on the weights alone, after :meth:`outputs`; None for none."""
        return None

    def constrain(self) -> None:  # noqa: B027 - most networks have no constraints
        """Change the weights after an update; by default not at all."""

    def predict(self, stored: Inputs, picked: NDArray[np.int32]) -> NDArray[np.float32]:
        """Predict the ``picked`` ones of the ``stored`` examples without dropout, shape (n, outputs).

        All batches have the same size, so that the function is traced once; the last batch is filled up with the first
        examples.
        """
        n = len(picked)
        if n == 0:
            return np.zeros((0, self.n_outputs), np.float32)
        filled = in_batches(picked)
        if is_jax():
            if self._predict is None:
                self._predict = jax.jit(self.predictions)
            return np.array(self._predict(self.arrays(), stored, filled)).reshape(-1, self.n_outputs)[:n]
        if self._predict is None:
            self._predict = tf.function(self._predict_batches, input_signature=_signature(stored), autograph=False)
        batches = tf.constant(filled)
        slices = self._chunks.slices(len(filled))
        found = [np.array(self._predict(stored, batches, tf.constant(a), tf.constant(b))) for a, b in slices]
        return np.concatenate(found)[:n]

    @property
    @abstractmethod
    def n_outputs(self) -> int:
        """Number of outputs for an example."""

    def initialise(self, seed: int) -> None:
        """Set the initial weights of ``seed``."""
        self.assign(initial_weights(self.sizes, seed))

    def assign(self, values: Mapping[str, NDArray[np.float32]]) -> None:
        """Set all weights and states to ``values``.

        Raises
        ------
        KeyError, ValueError
            If a value is missing or has another shape.
        """
        for name, variable in self._variables().items():
            variable.assign(values[name])

    def values(self) -> dict[str, NDArray[np.float32]]:
        """Copies of all weights and states by name."""
        return {name: np.array(variable.numpy()) for name, variable in self._variables().items()}

    @property
    def settings(self) -> list[Any]:
        """Variables that a trial sets and no step changes, such as rates of dropout."""
        return []

    def arrays(self) -> dict[str, Any]:
        """Arrays of all weights and states on JAX, by name, then those of the settings by number."""
        return {name: variable.value for name, variable in self._held().items()}

    def take(self, arrays: Mapping[str, Any]) -> None:
        """Set the variables to the results of a step, which are named like :meth:`arrays`."""
        for name, variable in self._variables().items():
            variable.assign(arrays[name])

    @contextmanager
    def holding(self, arrays: Mapping[str, Any]) -> Iterator[Any]:
        """Context of a function of ``arrays`` on JAX in which the variables have these values; yield its scope."""
        pairs = [(variable, arrays[name]) for name, variable in self._held().items() if name in arrays]
        with keras.StatelessScope(state_mapping=pairs, collect_losses=True) as scope:
            yield scope

    def predictions(self, arrays: Mapping[str, Any], stored: Inputs, picked: Any) -> Any:
        """Predictions of batches of the ``stored`` examples, as a function of ``arrays`` on JAX.

        ``picked`` has the shape (batches, n), and the result (batches, n, outputs).
        """
        self.n_traces += 1

        def one(batch: Any) -> Any:
            inputs = self.preprocess(gathered(stored, batch))
            return self.activation(self.outputs(inputs, lambda values: values, is_training=False))

        with self.holding(arrays):
            return jax.lax.map(one, picked)

    def _held(self) -> dict[str, Any]:
        return self._variables() | {str(number): variable for number, variable in enumerate(self.settings)}

    def _variables(self) -> dict[str, Any]:
        return self.weights | self.states

    def _predict_batches(self, stored: Inputs, picked: Any, first: Any, last: Any) -> Any:
        self.n_traces += 1

        def one(i: Any, found: Any) -> Any:
            inputs = self.preprocess(gathered(stored, picked[i]))
            outputs = self.outputs(inputs, lambda values: values, is_training=False)
            return i + 1, found.write(i - first, self.activation(outputs))

        found = tf.TensorArray(tf.float32, last - first, element_shape=(PREDICT_BATCH_SIZE, self.n_outputs))
        return tf.while_loop(lambda i, _: i < last, one, (first, found))[1].concat()


def in_batches(picked: NDArray[np.int32]) -> NDArray[np.int32]:
    """Numbers of examples in batches, shape (batches, n); the last batch is filled up with the first examples."""
    n_batches = -(-len(picked) // PREDICT_BATCH_SIZE)
    return np.resize(picked, n_batches * PREDICT_BATCH_SIZE).reshape(-1, PREDICT_BATCH_SIZE)


def _signature(stored: Inputs) -> list[Any]:
    """Input signature for any number of examples like ``stored``."""
    free = tf.nest.map_structure(lambda tensor: tf.TensorSpec((None, *tensor.shape[1:]), tensor.dtype), stored)
    number = tf.TensorSpec((), tf.int32)
    return [free, tf.TensorSpec((None, PREDICT_BATCH_SIZE), tf.int32), number, number]


def gathered(stored: Inputs, picked: Any) -> Inputs:
    """Examples ``picked`` by number, of one tensor or of each tensor of a tuple."""
    return keras.tree.map_structure(lambda tensor: gather(tensor, picked), stored)
