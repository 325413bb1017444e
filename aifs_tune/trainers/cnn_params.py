"""What can be tuned in a CNN trial, and the tensor shapes that follow from it. Loads no TensorFlow."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import ClassVar

from aifs_tune.errors import RequestError
from aifs_tune.parameters import IntParameter, Parameter
from aifs_tune.trainers.image_params import IMAGE_CLASSES, ImageParams
from aifs_tune.trainers.params import MOST_WEIGHTS, Optimizer

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
