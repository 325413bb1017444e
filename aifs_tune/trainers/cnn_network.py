"""The CNN: blocks of convolution, pooling and ReLU, then a dense layer, dropout and the classes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune.errors import RequestError
from aifs_tune.trainers.cnn_params import CnnShape
from aifs_tune.trainers.network import Network, dtype_of
from aifs_tune.trainers.params import Precision
from aifs_tune.trainers.runtime import resident, tf


class CnnNetwork(Network):
    """From uint8 images (n, height, width, channels) to logits (n, classes).

    Two rewrites keep values and gradients what they are in the textbook: the gradient of bias and ReLU is taken
    after the pooling (:func:`convolved`), and the images are cropped to the pixels that the last pooling uses. In
    mixed precision the convolutions and the dense layer are computed in bfloat16, as by the Keras policy of that
    name.
    """

    def __init__(self, shape: CnnShape, precision: Precision = "float32") -> None:
        super().__init__(shape.weight_shapes)
        self.shape, self.precision = shape, precision
        self._dtype = dtype_of(precision)

    @property
    def n_outputs(self) -> int:
        return self.shape.n_classes

    def seen(self, raw: Any) -> Any:
        return to_unit_scale(raw)

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

    def answer(self, outputs: Any) -> Any:
        return tf.nn.log_softmax(outputs)

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Shape (n, classes), of uint8 images (n, height, width, channels).

        Raises
        ------
        RequestError
            If the images have another shape or type than those that the network is for.
        """
        check_images(images, self.shape.image)
        return np.exp(self.answers(resident(images), np.arange(len(images), dtype=np.int32)))

    def _weight(self, name: str) -> Any:
        return tf.cast(self.weights[name], self._dtype)


def check_images(images: NDArray[np.uint8], shape: tuple[int, ...]) -> None:
    """Raises RequestError if ``images`` are not uint8 of shape (n, *shape)."""
    if images.ndim != 4 or images.shape[1:] != shape or images.dtype != np.uint8:
        wanted = ", ".join(map(str, shape))
        raise RequestError(f"images: {images.dtype} of shape {images.shape}; allowed: uint8 of shape (n, {wanted})")


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


def to_unit_scale(images: Any) -> Any:
    """Images of 0 to 255, of any type, as float32 of 0 to 1."""
    return tf.cast(images, tf.float32) * (1 / 255)
