"""What can be tuned in a trial of a convolutional network on series, and its tensor shapes. Loads no TensorFlow."""

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
from aifs_tune.trainers.network.params import MOST_WEIGHTS, SERIES, Loss, Optimizer, Precision, SeriesParams, sizes_of
from aifs_tune.trainers.network.runtime import tf
from aifs_tune.trainers.network.series import SeriesTrainer, present

Pooling: TypeAlias = Literal["mean", "max"]

ALLOWED: dict[str, Parameter] = {
    **SERIES,
    "filters": IntParameter(low=1, high=4096, description="Of the first block; each block after it has twice as many."),
    "conv_blocks": IntParameter(low=1, high=12, description="Convolution, ReLU, and the larger of each two steps."),
    "kernel_size": IntParameter(low=1, high=255, description="Steps."),
    "pooling": ChoiceParameter(choices=("mean", "max"), description="Over all steps, behind the last block."),
    "dense_units": IntParameter(low=1, high=65536),
}
"""What each parameter can be."""

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
"""What makes another program."""


@dataclass(frozen=True, kw_only=True)
class Cnn1dParams(SeriesParams):
    """One configuration of the network. The defaults are a common one: three blocks from 32 filters, dropout 0.5."""

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
    """All that a compiled program depends on."""

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
        """The shape of ``params`` for these examples.

        Raises
        ------
        RequestError
            If the series are too short for so many blocks, or the network is too large; DataError if the examples are
            no series.
        """
        shape = cls(**sizes_of(examples), **{name: getattr(params, name) for name in STATIC_PARAMS})
        if shape.steps < 2**shape.conv_blocks:
            raise RequestError(
                f"conv_blocks: {shape.conv_blocks} leave nothing of series of {shape.steps} steps, which each block "
                f"halves; allowed: series of at least {2**shape.conv_blocks} steps"
            )
        n_weights = sum(shape.kernel_size * a * b for a, b in pairwise(shape.widths))
        n_weights += (shape.widths[-1] + shape.n_outputs) * shape.dense_units
        if n_weights > MOST_WEIGHTS:
            raise RequestError(
                f"filters, conv_blocks, kernel_size, dense_units: {shape.filters}, {shape.conv_blocks}, "
                f"{shape.kernel_size} and {shape.dense_units} make a network of {n_weights:,} weights; allowed: at "
                f"most {MOST_WEIGHTS:,}"
            )
        return shape

    @property
    def widths(self) -> list[int]:
        """Numbers of a step between the blocks, from the channels to the filters of the last one."""
        return [self.channels, *(self.filters * 2**block for block in range(self.conv_blocks))]


class Cnn1dNetwork(ExamplesNetwork):
    """From values (n, steps, channels) and lengths (n,) to logits (n, classes) or scaled numbers (n, targets).

    Behind the end of a series stands 0 in each layer, as beside its beginning: it counts in no mean, and is no
    maximum, which are of ReLUs.
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
        """``drop`` is applied to the dense units."""
        del is_training
        values, lengths = inputs
        there = self._there(lengths, values)
        values = tf.cast(values, self._dtype) * there
        for block in range(self._shape.conv_blocks):
            wide = tf.nn.conv1d(values, self._weight(f"conv{block}.kernel"), 1, "SAME")
            wide = tf.nn.relu(tf.nn.bias_add(wide, self._weight(f"conv{block}.bias"))) * there
            values = tf.nn.max_pool1d(wide, 2, 2, "SAME")
            lengths = (lengths + 1) // 2
            there = self._there(lengths, values)
        pooled = self._pooled(tf.cast(values, tf.float32), lengths)
        dense = tf.matmul(tf.cast(pooled, self._dtype), self._weight("dense.kernel"))
        kept = drop(tf.nn.relu(tf.cast(dense, tf.float32) + self.weights["dense.bias"]))
        return tf.matmul(kept, self.weights["outputs.kernel"]) + self.weights["outputs.bias"]

    def _pooled(self, values: Any, lengths: Any) -> Any:
        if self._shape.pooling == "max":
            return tf.reduce_max(values, axis=1)
        return tf.reduce_sum(values, axis=1) / tf.cast(tf.maximum(lengths, 1), tf.float32)[:, tf.newaxis]

    def _there(self, lengths: Any, values: Any) -> Any:
        return tf.cast(present(lengths, values.shape[1]), self._dtype)[:, :, tf.newaxis]


class Cnn1dTrainer(SeriesTrainer):
    """Trains convolutional networks on series."""

    params_type: ClassVar = Cnn1dParams
    shape_type: ClassVar = Cnn1dShape

    def _make_network(self, shape: Any) -> Network:
        return Cnn1dNetwork(shape, self.precision)
