"""What can be tuned in a CNN trial, and the tensor shapes that follow from it. Loads no TensorFlow."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any, ClassVar

from aifs_tune.data.images.decode import ImageSet
from aifs_tune.errors import RequestError
from aifs_tune.space.parameters import IntParameter, Parameter
from aifs_tune.trainers.network.images import ImageNetwork, ImageTask, ImageTrainer
from aifs_tune.trainers.network.params import IMAGE_CLASSES, MOST_WEIGHTS, ImageParams, Optimizer, Precision
from aifs_tune.trainers.network.runtime import tf

ALLOWED: dict[str, Parameter] = {
    **IMAGE_CLASSES,
    "filters": IntParameter(low=1, high=1024, description="Of the first block; each block doubles them."),
    "conv_blocks": IntParameter(low=1, high=8),
    "kernel_size": IntParameter(low=1, high=31, unit="px"),
    "dense_units": IntParameter(low=1, high=65536),
}
"""What each parameter can be."""

STATIC_PARAMS = ("optimizer", "batch_size", "filters", "conv_blocks", "kernel_size", "dense_units")
"""What makes another program."""


@dataclass(frozen=True, kw_only=True)
class CnnParams(ImageParams):
    """One configuration of the CNN. The defaults are a common small CNN: Adam, two blocks, flips and shifts."""

    trainer: ClassVar[str] = "cnn"
    allowed: ClassVar = ALLOWED
    static_params: ClassVar[tuple[str, ...]] = STATIC_PARAMS

    learning_rate: float = 1e-4
    dropout: float = 0.5
    filters: int = 32
    conv_blocks: int = 2
    kernel_size: int = 3
    dense_units: int = 256


def _take(values: CnnShape, names: Iterable[str]) -> None:
    for name in names:
        object.__setattr__(values, name, ALLOWED[name].take(name, getattr(values, name)))


@dataclass(frozen=True)
class CnnShape:
    """All that a compiled program depends on; ``image`` is height, width and channels, ``n_classes`` the outputs."""

    image: tuple[int, int, int]
    n_classes: int
    optimizer: Optimizer = "adam"
    batch_size: int = 32
    filters: int = 32
    conv_blocks: int = 2
    kernel_size: int = 3
    dense_units: int = 256

    def __post_init__(self) -> None:
        _take(self, STATIC_PARAMS)
        height, width, _ = self.block_sizes[-1]
        if min(height, width) < 1:
            edges, least = "x".join(map(str, self.image[:2])), self._least_edge
            raise RequestError(
                f"conv_blocks: {self.conv_blocks} of kernel_size {self.kernel_size} leave nothing of images of {edges} "
                f"px; allowed: fewer blocks, a smaller kernel, or images of at least {least} px"
            )
        if self.n_weights > MOST_WEIGHTS:
            raise RequestError(
                f"filters, conv_blocks, dense_units: {self.filters}, {self.conv_blocks} and {self.dense_units} make a "
                f"network of {self.n_weights:,} weights for these images; allowed: at most {MOST_WEIGHTS:,}"
            )

    @classmethod
    def of(cls, params: CnnParams, image: tuple[int, int, int], n_classes: int) -> CnnShape:
        """The shape of ``params`` on images of this shape.

        Raises
        ------
        RequestError
            If the images are too small for the blocks, or the network is too large.
        """
        return cls(image, n_classes, **{name: getattr(params, name) for name in STATIC_PARAMS})

    @property
    def block_sizes(self) -> list[tuple[int, int, int]]:
        """Height, width and channels after each block."""
        sizes, (height, width, _) = [], self.image
        for block in range(self.conv_blocks):
            height, width = ((edge - self.kernel_size + 1) // 2 for edge in (height, width))
            sizes.append((height, width, self.filters * 2**block))
        return sizes

    @property
    def used_edges(self) -> tuple[int, int]:
        """Height and width of what the network sees of an image, from its upper left corner.

        Pooling leaves out an odd last row or column; what only they are made of need not be computed.
        """
        height, width, _ = self.block_sizes[-1]
        for _ in range(self.conv_blocks):
            height, width = (2 * edge + self.kernel_size - 1 for edge in (height, width))
        return height, width

    @property
    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each weight by name, kernels and biases, from the image to the classes."""
        height, width, channels = self.block_sizes[-1]
        ends = [self.image[2], *(size[2] for size in self.block_sizes)]
        shapes: dict[str, tuple[int, ...]] = {}
        for block, (before, after) in enumerate(pairwise(ends)):
            shapes[f"conv{block}.kernel"] = (self.kernel_size, self.kernel_size, before, after)
            shapes[f"conv{block}.bias"] = (after,)
        shapes["dense.kernel"] = (height * width * channels, self.dense_units)
        shapes["dense.bias"] = (self.dense_units,)
        shapes["classes.kernel"] = (self.dense_units, self.n_classes)
        shapes["classes.bias"] = (self.n_classes,)
        return shapes

    @property
    def n_weights(self) -> int:
        """Numbers in all weights together."""
        return sum(prod(shape) for shape in self.weight_shapes.values())

    @property
    def _least_edge(self) -> int:
        edge = 1
        for _ in range(self.conv_blocks):
            edge = 2 * edge + self.kernel_size - 1
        return edge


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


class CnnTrainer(ImageTrainer):
    """Trains small CNNs; see :class:`~aifs_tune.trainers.models.cnn.CnnParams`."""

    params_type: ClassVar = CnnParams
    shape_type: ClassVar = CnnShape

    def _make_network(self, shape: Any) -> ImageNetwork:
        return CnnNetwork(shape, self.precision)


def cnn_task(images: ImageSet, **options: Any) -> ImageTask:
    """The task of training this CNN on ``images``; ``options`` are the other fields of :class:`ImageTask`."""
    return ImageTask(images, params_type=CnnParams, shape_type=CnnShape, **options)
