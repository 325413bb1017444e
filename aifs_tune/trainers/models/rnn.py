"""Recurrent network on series: hyperparameters, architecture and trainer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np

from aifs_tune.data.examples import ExampleSet
from aifs_tune.space.parameters import ChoiceParameter, IntParameter, Parameter
from aifs_tune.trainers.network.examples import ExamplesNetwork
from aifs_tune.trainers.network.layers import in_order, make_model, outputs_of, weights_and_states
from aifs_tune.trainers.network.network import Network, initial_weights
from aifs_tune.trainers.network.params import (
    SERIES,
    VALUE_OR_QUANTILE_LOSS,
    AnyLoss,
    Optimizer,
    SeriesParams,
    check_n_weights,
    series_sizes,
)
from aifs_tune.trainers.network.runtime import keras
from aifs_tune.trainers.network.series import SeriesTrainer, present, series_inputs

Cell: TypeAlias = Literal["lstm", "gru"]
N_GATES = {"lstm": 4, "gru": 3}
"""Kernels of a cell, each as wide as its units."""

ALLOWED: dict[str, Parameter] = {
    **SERIES,
    **VALUE_OR_QUANTILE_LOSS,
    "cell": ChoiceParameter(choices=("lstm", "gru"), description="Type of the recurrent cell."),
    "layers": IntParameter(low=1, high=8, description="Number of recurrent layers."),
    "units": IntParameter(low=1, high=8192, description="Units of each layer, in each direction."),
    "bidirectional": ChoiceParameter(choices=(True, False), description="Whether series are also read backwards."),
}
"""Allowed values of each hyperparameter."""

STATIC_PARAMS = ("optimizer", "batch_size", "loss", "cell", "layers", "units", "bidirectional")
"""Hyperparameters that change the compiled program."""


@dataclass(frozen=True, kw_only=True)
class RnnParams(SeriesParams):
    """Hyperparameters. The defaults are common ones: one LSTM layer of 64 units, Adam."""

    trainer: ClassVar[str] = "rnn"
    allowed: ClassVar = ALLOWED
    static_params: ClassVar = STATIC_PARAMS

    cell: Cell = "lstm"
    layers: int = 1
    units: int = 64
    bidirectional: bool = False


@dataclass(frozen=True)
class RnnShape:
    """Shape of the network: all that its compiled program depends on."""

    steps: int
    channels: int
    n_outputs: int
    is_classes: bool
    optimizer: Optimizer
    batch_size: int
    loss: AnyLoss
    cell: Cell
    layers: int
    units: int
    bidirectional: bool

    @classmethod
    def of(cls, params: RnnParams, examples: ExampleSet) -> RnnShape:
        """Shape of a network with ``params`` for ``examples``.

        Raises
        ------
        RequestError
            If the network is too large, or the quantiles of several targets are to be predicted.
        DataError
            If the examples are not series.
        """
        shape = cls(**series_sizes(params, examples), **{name: getattr(params, name) for name in STATIC_PARAMS})
        width = N_GATES[shape.cell] * shape.units
        rows = sum(before + shape.units for before in shape.widths[:-1])
        n_weights = rows * width * (2 if shape.bidirectional else 1) + shape.widths[-1] * shape.n_outputs
        check_n_weights(shape, n_weights, ("layers", "units"))
        return shape

    @property
    def widths(self) -> list[int]:
        """Channels of a step, and outputs of each layer at a step."""
        return [self.channels, *[self.units * (2 if self.bidirectional else 1)] * self.layers]


class RnnNetwork(ExamplesNetwork):
    """Network from values (n, steps, channels) and lengths (n,) to logits (n, classes), scaled numbers or quantiles.

    The state does not change after the end of a series; a backward layer starts there. LSTM as in Hochreiter and
    Schmidhuber (1997) with forget gates, whose biases start at 1; GRU as in Cho et al. (2014), in the form of cuDNN.
    """

    def __init__(self, shape: RnnShape) -> None:
        self._shape = shape
        self.model = make_model(self.layers, series_inputs(shape), "float32")
        super().__init__(shape, *weights_and_states(self.model))

    def initialise(self, seed: int) -> None:
        """Set the initial weights; forget gates of an LSTM have bias 1 (Gers et al. 2000)."""
        values, units = initial_weights(self.sizes, seed), self._shape.units
        if self._shape.cell == "lstm":
            for name in values:
                if name.startswith("lstm") and name.endswith(".bias"):
                    values[name][units : 2 * units] = np.float32(1)
        self.assign(values)

    def outputs(self, inputs: Any, drop: Callable[[Any], Any], *, is_training: bool) -> Any:
        """Outputs of the network; ``drop`` is applied after each recurrent layer."""
        return outputs_of(self.model, inputs, drop, is_training=is_training)

    def layers(self, given: Any, dropout: float = 0.0) -> Any:
        """The network as new Keras layers, from values and lengths to its outputs."""
        layers, shape, (values, lengths) = keras.layers, self._shape, given
        kind = layers.LSTM if shape.cell == "lstm" else layers.GRU
        is_present = present(lengths, shape.steps)
        values = values * keras.ops.expand_dims(is_present, 2)
        for number in range(shape.layers):
            name, is_inner = f"{shape.cell}{number}", number + 1 < shape.layers
            layer = kind(shape.units, return_sequences=is_inner, name=name)
            if shape.bidirectional:
                layer = layers.Bidirectional(layer, name=name)
            values = layers.Dropout(dropout, name=f"dropout{number}")(layer(values, mask=is_present > 0))
        return in_order(layers.Dense(shape.n_outputs, name="dense")(values), shape)


class RnnTrainer(SeriesTrainer):
    """Trainer of recurrent networks, always in float32 because errors of the state add up over many steps."""

    params_type: ClassVar = RnnParams
    shape_type: ClassVar = RnnShape

    def _make_network(self, shape: Any) -> Network:
        return RnnNetwork(shape)
