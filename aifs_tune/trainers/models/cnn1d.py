"""Convolutional network on series: hyperparameters, architecture and trainer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal, TypeAlias

from aifs_tune.data.examples import ExampleSet
from aifs_tune.errors import RequestError
from aifs_tune.space.parameters import ChoiceParameter, IntParameter, Parameter
from aifs_tune.trainers.network.examples import ExamplesNetwork
from aifs_tune.trainers.network.layers import in_order, make_model, outputs_of, weights_and_states
from aifs_tune.trainers.network.network import Network
from aifs_tune.trainers.network.params import (
    SERIES,
    VALUE_OR_QUANTILE_LOSS,
    AnyLoss,
    Optimizer,
    Precision,
    SeriesParams,
    check_n_weights,
    series_sizes,
)
from aifs_tune.trainers.network.runtime import keras
from aifs_tune.trainers.network.series import SeriesTrainer, present, series_inputs

Pooling: TypeAlias = Literal["mean", "max"]

ALLOWED: dict[str, Parameter] = {
    **SERIES,
    **VALUE_OR_QUANTILE_LOSS,
    "filters": IntParameter(
        low=1, high=4096, description="Filters of the first block; each block after it has twice as many."
    ),
    "conv_blocks": IntParameter(
        low=1, high=12, description="Blocks of convolution, ReLU and max pooling over two steps."
    ),
    "kernel_size": IntParameter(low=1, high=255, description="In steps."),
    "pooling": ChoiceParameter(choices=("mean", "max"), description="Pooling over all steps after the last block."),
    "dense_units": IntParameter(low=1, high=65536, description="Units of the dense layer before the outputs."),
}
"""Allowed values of each hyperparameter."""

STATIC_PARAMS = (
    "optimizer",
    "batch_size",
    "loss",
    "filters",
    "conv_blocks",
    "kernel_size",
    "pooling",
    "dense_units",
)
"""Hyperparameters that change the compiled program."""


@dataclass(frozen=True, kw_only=True)
class Cnn1dParams(SeriesParams):
    """Hyperparameters. The defaults are common ones: three blocks, 32 filters in the first, dropout 0.5."""

    trainer: ClassVar[str] = "cnn1d"
    allowed: ClassVar = ALLOWED
    static_params: ClassVar = STATIC_PARAMS

    dropout: float = 0.5
    filters: int = 32
    conv_blocks: int = 3
    kernel_size: int = 5
    pooling: Pooling = "mean"
    dense_units: int = 64


@dataclass(frozen=True)
class Cnn1dShape:
    """Shape of the network: all that its compiled program depends on."""

    steps: int
    channels: int
    n_outputs: int
    is_classes: bool
    optimizer: Optimizer
    batch_size: int
    loss: AnyLoss
    filters: int
    conv_blocks: int
    kernel_size: int
    pooling: Pooling
    dense_units: int

    @classmethod
    def of(cls, params: Cnn1dParams, examples: ExampleSet) -> Cnn1dShape:
        """Shape of a network with ``params`` for ``examples``.

        Raises
        ------
        RequestError
            If the series are too short for so many blocks, the network is too large, or the quantiles of several
            targets are to be predicted.
        DataError
            If the examples are not series.
        """
        shape = cls(**series_sizes(params, examples), **{name: getattr(params, name) for name in STATIC_PARAMS})
        if shape.steps < 2**shape.conv_blocks:
            raise RequestError(
                f"conv_blocks: {shape.conv_blocks} is too many for series of {shape.steps} steps, because each block "
                f"halves them; allowed: series of at least {2**shape.conv_blocks} steps"
            )
        n_weights = sum(shape.kernel_size * a * b for a, b in pairwise(shape.widths))
        n_weights += (shape.widths[-1] + shape.n_outputs) * shape.dense_units
        check_n_weights(shape, n_weights, ("filters", "conv_blocks", "kernel_size", "dense_units"))
        return shape

    @property
    def widths(self) -> list[int]:
        """Channels before the first block and after each block."""
        return [self.channels, *(self.filters * 2**block for block in range(self.conv_blocks))]


class Cnn1dNetwork(ExamplesNetwork):
    """Network from values (n, steps, channels) and lengths (n,) to logits (n, classes), scaled numbers or quantiles.

    Every layer is 0 after the end of a series, like the padding before its start. Mean pooling does not count these
    steps, and they never decide a maximum, because ReLU outputs are not negative.
    """

    def __init__(self, shape: Cnn1dShape, precision: Precision) -> None:
        self._shape = shape
        self.model = make_model(self.layers, series_inputs(shape), precision)
        super().__init__(shape, *weights_and_states(self.model))

    def outputs(self, inputs: Any, drop: Callable[[Any], Any], *, is_training: bool) -> Any:
        """Outputs of the network; ``drop`` is applied to the dense units."""
        return outputs_of(self.model, inputs, drop, is_training=is_training)

    def layers(self, given: Any, dropout: float = 0.0) -> Any:
        """The network as new Keras layers, from values and lengths to its outputs."""
        layers, shape, (values, lengths) = keras.layers, self._shape, given

        def masked(values: Any) -> Any:
            return layers.Multiply()([values, keras.ops.expand_dims(present(lengths, values.shape[1]), 2)])

        values = masked(values)
        for block in range(shape.conv_blocks):
            options = {"padding": "same", "activation": "relu", "name": f"conv{block}"}
            values = masked(layers.Conv1D(shape.filters * 2**block, shape.kernel_size, **options)(values))
            values = layers.MaxPooling1D(2, padding="same", name=f"pool{block}")(values)
            lengths = (lengths + 1) // 2
        if shape.pooling == "max":
            pooled = layers.GlobalMaxPooling1D(name="pooled", dtype="float32")(values)
        else:
            total = keras.ops.sum(keras.ops.cast(values, "float32"), axis=1)
            pooled = total / keras.ops.cast(keras.ops.expand_dims(keras.ops.maximum(lengths, 1), 1), "float32")
        dense = layers.Dense(shape.dense_units, activation="relu", name="dense")(pooled)
        kept = layers.Dropout(dropout, name="dropout", dtype="float32")(dense)
        return in_order(layers.Dense(shape.n_outputs, name="outputs", dtype="float32")(kept), shape)


class Cnn1dTrainer(SeriesTrainer):
    """Trainer of convolutional networks on series."""

    params_type: ClassVar = Cnn1dParams
    shape_type: ClassVar = Cnn1dShape

    def _make_network(self, shape: Any) -> Network:
        return Cnn1dNetwork(shape, self.precision)
