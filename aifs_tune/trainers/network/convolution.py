"""Convolution, ReLU and max pooling as one operation."""

from __future__ import annotations

from typing import Any

from aifs_tune.trainers.network.runtime import tf


def conv_block(values: Any, kernel: Any, bias: Any) -> Any:
    """One block: convolution, bias and ReLU, which TensorFlow computes as one operation, then 2 x 2 max pooling.

    Where ReLU is 0 the gradient is 0, and the largest of four values is 0 only if all four are. So bias and ReLU are
    differentiated after the pooling, on a quarter of the numbers.
    """
    return tf.custom_gradient(_conv_block)(values, kernel, bias)


def _conv_block(values: Any, kernel: Any, bias: Any) -> Any:
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
