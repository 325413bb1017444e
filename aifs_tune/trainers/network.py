"""What every network has: weights by name, and answers for many examples without training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune.trainers.pace import ChunkSizer
from aifs_tune.trainers.params import Precision
from aifs_tune.trainers.runtime import tf
from aifs_tune.trainers.weights import initial_weights

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
        """:func:`~aifs_tune.trainers.weights.initial_weights`."""
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
