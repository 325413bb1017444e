"""The CNN: blocks of convolution, pooling and ReLU, then a dense layer, dropout and the classes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from aifs_tune.trainers.cnn_params import CnnShape
from aifs_tune.trainers.image_network import ImageNetwork
from aifs_tune.trainers.params import Precision
from aifs_tune.trainers.runtime import tf


class CnnNetwork(ImageNetwork):
    """Blocks of a convolution, then a dense layer.

    Two rewrites keep values and gradients what they are in the textbook: the gradient of bias and ReLU is taken
    after the pooling (:func:`convolved`), and the images are cropped to the pixels that the last pooling uses. In
    mixed precision the convolutions and the dense layer are computed in bfloat16, as by the Keras policy of that
    name.
    """

    def __init__(self, shape: CnnShape, precision: Precision = "float32") -> None:
        super().__init__(shape, precision, shape.weight_shapes)

    def outputs(self, inputs: Any, drop: Callable[[Any], Any], *, is_training: bool) -> Any:
        """Logits of shape (n, classes) for float images of 0 to 1; ``drop`` is applied to the dense units."""
        del is_training
        height, width = self.shape.used_edges
        values = tf.cast(inputs[:, :height, :width], self._dtype)
        for block in range(self.shape.conv_blocks):
            values = convolved(values, self._weight(f"conv{block}.kernel"), self._weight(f"conv{block}.bias"))
        flat = tf.reshape(values, (-1, math.prod(self.shape.block_sizes[-1])))
        dense = tf.nn.bias_add(tf.matmul(flat, self._weight("dense.kernel")), self._weight("dense.bias"))
        kept = drop(tf.cast(tf.nn.relu(dense), tf.float32))
        return tf.nn.bias_add(tf.matmul(kept, self.weights["classes.kernel"]), self.weights["classes.bias"])


def _convolve(values: Any, kernel: Any, bias: Any) -> Any:
    wide = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(values, kernel, 1, "VALID"), bias))
    pooled = tf.nn.max_pool2d(wide, 2, 2, "VALID")
    window = {"ksize": [1, 2, 2, 1], "strides": [1, 2, 2, 1], "padding": "VALID"}
    convolution = {"strides": [1, 1, 1, 1], "padding": "VALID"}

    def gradient(upstream: Any) -> tuple[Any, Any, Any]:
        kept = tf.raw_ops.ReluGrad(gradients=upstream, features=pooled)
        spread = tf.raw_ops.MaxPoolGrad(orig_input=wide, orig_output=pooled, grad=kept, **window)
        return (
            tf.raw_ops.Conv2DBackpropInput(
                input_sizes=tf.shape(values), filter=kernel, out_backprop=spread, **convolution
            ),
            tf.raw_ops.Conv2DBackpropFilter(
                input=values, filter_sizes=kernel.shape, out_backprop=spread, **convolution
            ),
            tf.raw_ops.BiasAddGrad(out_backprop=kept),
        )

    return pooled, gradient


convolved: Callable[[Any, Any, Any], Any] = tf.custom_gradient(_convolve)
"""One block: convolution, bias and ReLU, which TensorFlow computes as one operation, then the largest of 2 x 2.

What ReLU cuts off has no gradient, and the largest of four is cut off only with the others: bias and ReLU are
differentiated behind the pooling, on a quarter of the numbers.
"""
