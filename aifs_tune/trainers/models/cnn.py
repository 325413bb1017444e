"""CNN that classifies images: hyperparameters, architecture and trainer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any, ClassVar

from aifs_tune.errors import RequestError
from aifs_tune.space.parameters import IntParameter, Parameter
from aifs_tune.trainers.network.images import ImageNetwork, ImageTrainer
from aifs_tune.trainers.network.layers import make_model, outputs_of, weights_and_states
from aifs_tune.trainers.network.params import (
    IMAGE_CLASSES,
    ImageParams,
    Optimizer,
    Precision,
    check_n_weights,
    check_static_params,
)
from aifs_tune.trainers.network.runtime import keras

ALLOWED: dict[str, Parameter] = {
    **IMAGE_CLASSES,
    "filters": IntParameter(
        low=1, high=1024, description="Filters of the first block; each block after it has twice as many."
    ),
    "conv_blocks": IntParameter(low=1, high=8, description="Blocks of convolution, ReLU and max pooling."),
    "kernel_size": IntParameter(low=1, high=31, unit="px"),
    "dense_units": IntParameter(low=1, high=65536, description="Units of the dense layer before the classes."),
}
"""Allowed values of each hyperparameter."""

STATIC_PARAMS = ("optimizer", "batch_size", "filters", "conv_blocks", "kernel_size", "dense_units")
"""Hyperparameters that change the compiled program."""


@dataclass(frozen=True, kw_only=True)
class CnnParams(ImageParams):
    """Hyperparameters of the CNN. The defaults are a common small CNN: Adam, two blocks, flips and shifts."""

    trainer: ClassVar[str] = "cnn"
    allowed: ClassVar = ALLOWED
    static_params: ClassVar[tuple[str, ...]] = STATIC_PARAMS

    learning_rate: float = 1e-4
    dropout: float = 0.5
    filters: int = 32
    conv_blocks: int = 2
    kernel_size: int = 3
    dense_units: int = 256


@dataclass(frozen=True)
class CnnShape:
    """Shape of the network: all that its compiled program depends on.

    Parameters
    ----------
    image
        Height, width and channels of the images.
    n_classes
        Number of outputs.

    All others are hyperparameters of :class:`CnnParams`.

    Raises
    ------
    RequestError
        If a value is not allowed, the images are too small for the blocks, or the network is too large.
    """

    image: tuple[int, int, int]
    n_classes: int
    optimizer: Optimizer = "adam"
    batch_size: int = 32
    filters: int = 32
    conv_blocks: int = 2
    kernel_size: int = 3
    dense_units: int = 256

    def __post_init__(self) -> None:
        check_static_params(self, ALLOWED, STATIC_PARAMS)
        height, width, _ = self.block_sizes[-1]
        if min(height, width) < 1:
            edges = "x".join(map(str, self.image[:2]))
            raise RequestError(
                f"conv_blocks: {self.conv_blocks} with kernel_size {self.kernel_size} is too many for images of "
                f"{edges} px; allowed: fewer blocks, a smaller kernel, or images of at least {self._min_edge} px"
            )
        check_n_weights(self, self.n_weights, ("filters", "conv_blocks", "dense_units"))

    @classmethod
    def of(cls, params: CnnParams, image: tuple[int, int, int], n_classes: int) -> CnnShape:
        """Shape of a network with ``params`` for images of this shape."""
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
        """Height and width of the pixels that the network uses, from the upper left corner of an image.

        Pooling drops an odd last row or column, so pixels that affect only those need not be computed.
        """
        height, width, _ = self.block_sizes[-1]
        for _ in range(self.conv_blocks):
            height, width = (2 * edge + self.kernel_size - 1 for edge in (height, width))
        return height, width

    @property
    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each kernel and bias by name, from the image to the classes."""
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
        """Number of trainable weights."""
        return sum(prod(shape) for shape in self.weight_shapes.values())

    @property
    def _min_edge(self) -> int:
        edge = 1
        for _ in range(self.conv_blocks):
            edge = 2 * edge + self.kernel_size - 1
        return edge


class CnnNetwork(ImageNetwork):
    """Convolution blocks, then a dense layer.

    Two optimizations leave values and gradients as they are in the textbook network: the gradient of bias and ReLU is
    taken after the pooling (:func:`~aifs_tune.trainers.keras_rewrites.fuse_pooling`), and images are cropped to the
    pixels that the last pooling uses. In
    mixed precision the convolutions and the dense layer are computed in bfloat16, as in the Keras policy of that name.
    """

    def __init__(self, shape: CnnShape, precision: Precision = "float32") -> None:
        self.shape = shape
        self.model = make_model(self.layers, keras.Input(shape.image), precision)
        super().__init__(shape, precision, *weights_and_states(self.model))

    def outputs(self, inputs: Any, drop: Callable[[Any], Any], *, is_training: bool) -> Any:
        """Logits, shape (n, classes), for float images of 0 to 1; ``drop`` is applied to the dense units."""
        return outputs_of(self.model, inputs, drop, is_training=is_training)

    def layers(self, given: Any, dropout: float = 0.0) -> Any:
        """The network as new Keras layers, from images of 0 to 1 to logits."""
        layers, shape = keras.layers, self.shape
        unused = [(0, edge - used) for edge, used in zip(shape.image, shape.used_edges, strict=False)]
        values = (
            layers.Cropping2D(unused, name="used", dtype="float32")(given) if any(cut for _, cut in unused) else given
        )
        for block in range(shape.conv_blocks):
            filters = shape.filters * 2**block
            values = layers.Conv2D(filters, shape.kernel_size, activation="relu", name=f"conv{block}")(values)
            values = layers.MaxPooling2D(name=f"pool{block}")(values)
        values = layers.Dense(shape.dense_units, activation="relu", name="dense")(layers.Flatten(name="flat")(values))
        kept = layers.Dropout(dropout, name="dropout", dtype="float32")(values)
        return layers.Dense(shape.n_classes, name="classes", dtype="float32")(kept)


class CnnTrainer(ImageTrainer):
    """Trainer of CNNs that classify images; its hyperparameters are :class:`CnnParams`."""

    params_type: ClassVar = CnnParams
    shape_type: ClassVar = CnnShape

    def _make_network(self, shape: Any) -> ImageNetwork:
        return CnnNetwork(shape, self.precision)
