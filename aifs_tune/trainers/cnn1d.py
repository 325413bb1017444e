"""A convolutional network on series: blocks of convolution and pooling, then the mean or maximum over all steps."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, ClassVar

from aifs_tune.trainers.cnn1d_params import Cnn1dParams, Cnn1dShape
from aifs_tune.trainers.examples_network import ExamplesNetwork
from aifs_tune.trainers.network import Network
from aifs_tune.trainers.params import Precision
from aifs_tune.trainers.runtime import tf
from aifs_tune.trainers.series_trainer import SeriesTrainer, present


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
