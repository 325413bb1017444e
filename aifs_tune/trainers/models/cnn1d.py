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
from aifs_tune.trainers.network.network import Network
from aifs_tune.trainers.network.params import (
    SERIES,
    Loss,
    Optimizer,
    Precision,
    SeriesParams,
    check_n_weights,
    series_sizes,
)
from aifs_tune.trainers.network.runtime import tf
from aifs_tune.trainers.network.series import SeriesTrainer, present

Pooling: TypeAlias = Literal["mean", "max"]

ALLOWED: dict[str, Parameter] = {
    **SERIES,
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
    loss: Loss
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
            If the series are too short for so many blocks, or the network is too large.
        DataError
            If the examples are not series.
        """
        shape = cls(**series_sizes(examples), **{name: getattr(params, name) for name in STATIC_PARAMS})
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
    """Network from values (n, steps, channels) and lengths (n,) to logits (n, classes) or scaled numbers (n, targets).

    Every layer is 0 after the end of a series, like the padding before its start. Mean pooling does not count these
    steps, and they never decide a maximum, because ReLU outputs are not negative.
    """

    def __init__(self, shape: Cnn1dShape, precision: Precision) -> None:
        sizes: dict[str, tuple[int, ...]] = {}
        for block, (before, after) in enumerate(pairwise(shape.widths)):
            sizes |= {f"conv{block}.kernel": (shape.kernel_size, before, after), f"conv{block}.bias": (after,)}
        widths = (shape.widths[-1], shape.dense_units, shape.n_outputs)
        for name, (before, after) in zip(("dense", "outputs"), pairwise(widths), strict=True):
            sizes |= {f"{name}.kernel": (before, after), f"{name}.bias": (after,)}
        super().__init__(shape, precision, sizes)

    def outputs(self, inputs: Any, drop: Callable[[Any], Any], *, is_training: bool) -> Any:
        """Outputs of the network; ``drop`` is applied to the dense units."""
        del is_training
        values, lengths = inputs
        mask = self._mask(lengths, values)
        values = tf.cast(values, self._dtype) * mask
        for block in range(self._shape.conv_blocks):
            wide = tf.nn.conv1d(values, self._weight(f"conv{block}.kernel"), 1, "SAME")
            wide = tf.nn.relu(tf.nn.bias_add(wide, self._weight(f"conv{block}.bias"))) * mask
            values = tf.nn.max_pool1d(wide, 2, 2, "SAME")
            lengths = (lengths + 1) // 2
            mask = self._mask(lengths, values)
        pooled = self._pooled(tf.cast(values, tf.float32), lengths)
        dense = tf.matmul(tf.cast(pooled, self._dtype), self._weight("dense.kernel"))
        kept = drop(tf.nn.relu(tf.cast(dense, tf.float32) + self.weights["dense.bias"]))
        return tf.matmul(kept, self.weights["outputs.kernel"]) + self.weights["outputs.bias"]

    def _pooled(self, values: Any, lengths: Any) -> Any:
        if self._shape.pooling == "max":
            return tf.reduce_max(values, axis=1)
        return tf.reduce_sum(values, axis=1) / tf.cast(tf.maximum(lengths, 1), tf.float32)[:, tf.newaxis]

    def _mask(self, lengths: Any, values: Any) -> Any:
        return tf.cast(present(lengths, values.shape[1]), self._dtype)[:, :, tf.newaxis]


class Cnn1dTrainer(SeriesTrainer):
    """Trainer of convolutional networks on series."""

    params_type: ClassVar = Cnn1dParams
    shape_type: ClassVar = Cnn1dShape

    def _make_network(self, shape: Any) -> Network:
        return Cnn1dNetwork(shape, self.precision)
