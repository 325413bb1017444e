"""A recurrent network on series: Keras layers of LSTM or GRU, whose last state gives classes or numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from aifs_tune.trainers.examples_network import ExamplesNetwork
from aifs_tune.trainers.network import Network
from aifs_tune.trainers.rnn_params import RnnParams, RnnShape
from aifs_tune.trainers.runtime import keras, tf
from aifs_tune.trainers.series_trainer import SeriesTrainer, present
from aifs_tune.trainers.weights import initial_weights


class RnnNetwork(ExamplesNetwork):
    """From values (n, steps, channels) and lengths (n,) to logits (n, classes) or scaled numbers (n, targets).

    The state stands still behind the end of a series, where a reader from the other side begins. LSTM as by Hochreiter
    and Schmidhuber (1997) with forget gates, whose biases begin at 1; GRU as by Cho et al. (2014) in the form of cuDNN.
    """

    def __init__(self, shape: RnnShape) -> None:
        self._shape = shape
        self._layers = [self._layer(layer, width) for layer, width in enumerate(shape.widths[:-1])]
        recurrent: dict[str, Any] = {}
        for layer, made in enumerate(self._layers):
            ways = {"": made}
            if shape.bidirectional:
                ways = {".forward": made.forward_layer, ".backward": made.backward_layer}
            for way, one in ways.items():
                cell, name = one.cell, f"{shape.cell}{layer}{way}"
                found = {"kernel": cell.kernel, "recurrent": cell.recurrent_kernel, "bias": cell.bias}
                recurrent |= {f"{name}.{part}": variable.value for part, variable in found.items()}
        sizes = {name: tuple(variable.shape) for name, variable in recurrent.items()}
        last = {"dense.kernel": (shape.widths[-1], shape.n_outputs), "dense.bias": (shape.n_outputs,)}
        super().__init__(shape, "float32", {**sizes, **last})
        self.weights |= recurrent

    def initialise(self, seed: int) -> None:
        """As for any network, but an LSTM forgets nothing at first (Gers et al. 2000)."""
        values, units = initial_weights(self.sizes, seed), self._shape.units
        if self._shape.cell == "lstm":
            for name in values:
                if name.startswith("lstm") and name.endswith(".bias"):
                    values[name][units : 2 * units] = np.float32(1)
        self.assign(values)

    def outputs(self, inputs: Any, drop: Callable[[Any], Any], *, is_training: bool) -> Any:
        """``drop`` is applied behind each layer."""
        del is_training
        values, lengths = inputs
        n, steps = values.shape[0], values.shape[1]
        is_there = present(lengths, steps)
        mask = is_there > 0
        values = values * is_there[:, :, tf.newaxis]
        for layer, width in zip(self._layers, self._shape.widths[1:], strict=True):
            values = layer(values, mask=mask)
            values = drop(tf.ensure_shape(values, (n, width) if values.shape.rank == 2 else (n, steps, width)))
        return tf.matmul(values, self.weights["dense.kernel"]) + self.weights["dense.bias"]

    def _layer(self, number: int, width: int) -> Any:
        shape = self._shape
        kind = keras.layers.LSTM if shape.cell == "lstm" else keras.layers.GRU
        layer = kind(shape.units, return_sequences=number + 1 < shape.layers, dtype="float32")
        if shape.bidirectional:
            layer = keras.layers.Bidirectional(layer, dtype="float32")
        layer.build((None, shape.steps, width))
        return layer


class RnnTrainer(SeriesTrainer):
    """Trains recurrent networks, always in float32: the state is carried over many steps."""

    params_type: ClassVar = RnnParams
    shape_type: ClassVar = RnnShape

    def _make_network(self, shape: Any) -> Network:
        return RnnNetwork(shape)
