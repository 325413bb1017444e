"""Residual networks with batch norm (He et al. 2016) as a trainer of image classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from aifs_tune.trainers.image_network import ImageNetwork
from aifs_tune.trainers.image_trainer import ImageTrainer
from aifs_tune.trainers.params import Precision
from aifs_tune.trainers.residual_params import Convolution, ResidualParams, ResidualShape
from aifs_tune.trainers.runtime import tf

RUNNING = 0.9
"""Share of the running mean and variance that a training pass leaves as it was; the rest is the batch's."""

LEAST_VARIANCE = 1e-5
"""Added to a variance before its root is taken."""


class ResidualNetwork(ImageNetwork):
    """Stages of basic blocks (He et al. 2016, fig. 5 left), a global mean, dropout and the classes.

    A convolution without bias is followed by batch norm (Ioffe and Szegedy 2015); where the sizes change, the
    shortcut is a convolution of 1 px with batch norm (option B of the paper). In mixed precision the convolutions are
    computed in bfloat16, all else in float32. The batch's variance is the mean square, as Keras has it, also in the
    running one. A last batch that is filled up counts in its statistics as a whole.
    """

    def __init__(self, shape: ResidualShape, precision: Precision = "float32") -> None:
        super().__init__(shape, precision, shape.weight_shapes, shape.state_shapes)

    def outputs(self, inputs: Any, drop: Callable[[Any], Any], *, is_training: bool) -> Any:
        """Logits of shape (n, classes) for float images of 0 to 1; ``drop`` is applied to the mean features."""

        def normal(values: Any, one: Convolution) -> Any:
            return self._normal(values, one, is_training)

        values = tf.nn.relu(normal(inputs, self.shape.stem))
        for block in self.shape.all_blocks:
            inner = normal(tf.nn.relu(normal(values, block.first)), block.second)
            values = tf.nn.relu(inner + (values if block.shortcut is None else normal(values, block.shortcut)))
        kept = drop(tf.reduce_mean(values, axis=(1, 2)))
        return tf.nn.bias_add(tf.matmul(kept, self.weights["classes.kernel"]), self.weights["classes.bias"])

    def _normal(self, values: Any, one: Convolution, is_training: bool) -> Any:
        """A convolution and its batch norm, float32."""
        wide = tf.nn.conv2d(tf.cast(values, self._dtype), self._weight(f"{one.name}.kernel"), one.stride, "SAME")
        mean, variance = self.states[f"{one.name}.mean"], self.states[f"{one.name}.variance"]
        fused = tf.raw_ops.FusedBatchNormV3(
            x=tf.cast(wide, tf.float32),
            scale=self.weights[f"{one.name}.scale"],
            offset=self.weights[f"{one.name}.offset"],
            mean=tf.constant([]) if is_training else mean,
            variance=tf.constant([]) if is_training else variance,
            epsilon=LEAST_VARIANCE,
            is_training=is_training,
        )
        if is_training:
            n = int(wide.shape[0] * wide.shape[1] * wide.shape[2])
            mean.assign_add((fused.batch_mean - mean) * (1 - RUNNING))
            # The operation gives the variance of a sample, n / (n - 1) times the mean square.
            variance.assign_add((fused.batch_variance * ((n - 1) / n) - variance) * (1 - RUNNING))
        return fused.y


class ResidualCnnTrainer(ImageTrainer):
    """Trains residual networks; see :class:`~aifs_tune.trainers.residual_params.ResidualParams`."""

    params_type: ClassVar = ResidualParams
    shape_type: ClassVar = ResidualShape

    def _make_network(self, shape: Any) -> ImageNetwork:
        return ResidualNetwork(shape, self.precision)
