"""What can be tuned in a trial of a recurrent network on series, and its tensor shapes. Loads no TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np

from aifs_tune.data.examples import ExampleSet
from aifs_tune.errors import RequestError
from aifs_tune.space.parameters import ChoiceParameter, IntParameter, Parameter
from aifs_tune.trainers.network.examples import ExamplesNetwork
from aifs_tune.trainers.network.network import Network, initial_weights
from aifs_tune.trainers.network.params import MOST_WEIGHTS, SERIES, Loss, Optimizer, SeriesParams, sizes_of
from aifs_tune.trainers.network.runtime import keras, tf
from aifs_tune.trainers.network.series import SeriesTrainer, present

Cell: TypeAlias = Literal["lstm", "gru"]
GATES = {"lstm": 4, "gru": 3}

ALLOWED: dict[str, Parameter] = {
    **SERIES,
    "cell": ChoiceParameter(choices=("lstm", "gru")),
    "layers": IntParameter(low=1, high=8, description="Recurrent layers."),
    "units": IntParameter(low=1, high=8192, description="Of each layer, in each direction."),
    "bidirectional": ChoiceParameter(choices=(True, False), description="Also read from the end to the beginning."),
}
"""What each parameter can be."""

STATIC_PARAMS = ("optimizer", "batch_size", "loss", "cell", "layers", "units", "bidirectional")
"""What makes another program."""


@dataclass(frozen=True, kw_only=True)
class RnnParams(SeriesParams):
    """One configuration of the recurrent network. The defaults are a common one: an LSTM of 64 units, Adam."""

    trainer: ClassVar[str] = "rnn"
    allowed: ClassVar = ALLOWED
    static_params: ClassVar = STATIC_PARAMS

    cell: Cell = "lstm"
    layers: int = 1
    units: int = 64
    bidirectional: bool = False


@dataclass(frozen=True)
class RnnShape:
    """All that a compiled program depends on."""

    steps: int
    channels: int
    n_outputs: int
    is_classes: bool
    optimizer: Optimizer
    batch_size: int
    loss: Loss
    cell: Cell
    layers: int
    units: int
    bidirectional: bool

    @classmethod
    def of(cls, params: RnnParams, examples: ExampleSet) -> RnnShape:
        """The shape of ``params`` for these examples.

        Raises
        ------
        RequestError
            If the network is too large; DataError if the examples are no series.
        """
        shape = cls(**sizes_of(examples), **{name: getattr(params, name) for name in STATIC_PARAMS})
        width = GATES[shape.cell] * shape.units
        rows = sum(before + shape.units for before in shape.widths[:-1])
        n_weights = rows * width * (2 if shape.bidirectional else 1) + shape.widths[-1] * shape.n_outputs
        if n_weights > MOST_WEIGHTS:
            raise RequestError(
                f"layers, units: {shape.layers} and {shape.units} make a network of {n_weights:,} weights for "
                f"{shape.channels} channels; allowed: at most {MOST_WEIGHTS:,}"
            )
        return shape

    @property
    def widths(self) -> list[int]:
        """Numbers of a step between the layers, from the channels to what the outputs are made of."""
        return [self.channels, *[self.units * (2 if self.bidirectional else 1)] * self.layers]


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
