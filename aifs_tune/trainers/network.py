"""The network: blocks of convolution, pooling and ReLU, then a dense layer, dropout and the classes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aifs_tune.errors import RequestError
from aifs_tune.trainers.cnn_params import CnnShape, Precision
from aifs_tune.trainers.pace import Pace
from aifs_tune.trainers.runtime import resident, tf
from aifs_tune.trainers.weights import initial_weights

_AT_ONCE = 64
"""Images in one pass without training: the same for all shapes, so that small batches do not slow it down."""


class Network:
    """The weights of one shape, and the way from images to classes.

    Two rewrites keep values and gradients what they are in the textbook: the gradient of bias and ReLU is taken
    after the pooling (:func:`convolved`), and the images are cropped to the pixels that the last pooling uses. In
    mixed precision the convolutions and the dense layer are computed in bfloat16, as by the Keras policy of that
    name.
    """

    def __init__(self, shape: CnnShape, precision: Precision = "float32") -> None:
        self.shape, self.precision = shape, precision
        self._dtype = tf.bfloat16 if precision == "mixed_bfloat16" else tf.float32
        self.weights: dict[str, Any] = {name: tf.Variable(tf.zeros(size)) for name, size in shape.weight_shapes.items()}
        signature = [
            tf.TensorSpec((None, *shape.image), tf.uint8),
            tf.TensorSpec((None, _AT_ONCE), tf.int32),
            tf.TensorSpec((), tf.int32),
            tf.TensorSpec((), tf.int32),
        ]
        self._classify = tf.function(self._classify_batches, input_signature=signature, autograph=False)
        self._pace = Pace()
        self.n_traces = 0

    def logits(self, images: Any, drop: Callable[[Any], Any]) -> Any:
        """Logits of shape (n, classes) for float images of 0 to 1; ``drop`` is applied to the dense units."""
        height, width = self.shape.used_edges
        values = tf.cast(images[:, :height, :width], self._dtype)
        for block in range(self.shape.conv_blocks):
            values = convolved(values, self._weight(f"conv{block}.kernel"), self._weight(f"conv{block}.bias"))
        flat = tf.reshape(values, (-1, math.prod(self.shape.block_sizes[-1])))
        dense = tf.nn.bias_add(tf.matmul(flat, self._weight("dense.kernel")), self._weight("dense.bias"))
        kept = drop(tf.cast(tf.nn.relu(dense), tf.float32))
        return tf.nn.bias_add(tf.matmul(kept, self.weights["classes.kernel"]), self.weights["classes.bias"])

    def log_probabilities(self, images: Any, picked: NDArray[np.int32]) -> NDArray[np.float32]:
        """Of the picked ones of ``images``, a uint8 tensor; shape (n, classes), nothing dropped.

        Computed in batches of one size, the last filled up by wrapping around, so that one trace does.
        """
        n = len(picked)
        if n == 0:
            return np.zeros((0, self.shape.n_classes), np.float32)
        filled = tf.constant(np.resize(picked, -(-n // _AT_ONCE) * _AT_ONCE).reshape(-1, _AT_ONCE))
        slices = self._pace.slices(len(filled))
        found = [np.array(self._classify(images, filled, tf.constant(a), tf.constant(b))) for a, b in slices]
        return np.concatenate(found)[:n]

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Shape (n, classes), of uint8 images (n, height, width, channels).

        Raises
        ------
        RequestError
            If the images have another shape or type than those that the network is for.
        """
        if images.ndim != 4 or images.shape[1:] != self.shape.image or images.dtype != np.uint8:
            wanted = ", ".join(map(str, self.shape.image))
            raise RequestError(f"images: {images.dtype} of shape {images.shape}; allowed: uint8 of shape (n, {wanted})")
        return np.exp(self.log_probabilities(resident(images), np.arange(len(images), dtype=np.int32)))

    def initialise(self, seed: int) -> None:
        """:func:`~aifs_tune.trainers.weights.initial_weights`."""
        self.assign(initial_weights(self.shape, seed))

    def assign(self, values: Mapping[str, NDArray[np.float32]]) -> None:
        """Take ``values``, one for each weight."""
        for name, variable in self.weights.items():
            variable.assign(values[name])

    def values(self) -> dict[str, NDArray[np.float32]]:
        """A copy of all weights."""
        return {name: np.array(variable) for name, variable in self.weights.items()}

    def _weight(self, name: str) -> Any:
        return tf.cast(self.weights[name], self._dtype)

    def _classify_batches(self, images: Any, picked: Any, first: Any, last: Any) -> Any:
        self.n_traces += 1

        def one(i: Any, found: Any) -> Any:
            logits = self.logits(to_unit_scale(tf.gather(images, picked[i])), drop=lambda values: values)
            return i + 1, found.write(i - first, tf.nn.log_softmax(logits))

        found = tf.TensorArray(tf.float32, last - first, element_shape=(_AT_ONCE, self.shape.n_classes))
        return tf.while_loop(lambda i, _: i < last, one, (first, found))[1].concat()


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
