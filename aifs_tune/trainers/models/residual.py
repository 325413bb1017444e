"""Residual network that classifies images: hyperparameters, architecture and trainer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, NamedTuple

from aifs_tune.errors import RequestError
from aifs_tune.space.parameters import IntParameter, Parameter
from aifs_tune.trainers.network.images import ImageNetwork, ImageTrainer
from aifs_tune.trainers.network.layers import NORM, make_model, outputs_of, variables_of
from aifs_tune.trainers.network.ops import held
from aifs_tune.trainers.network.params import (
    IMAGE_CLASSES,
    ImageParams,
    Optimizer,
    Precision,
    check_n_weights,
    check_static_params,
)
from aifs_tune.trainers.network.runtime import keras

KERNEL = 3
"""Kernel size in px, except for shortcuts, whose kernels have 1 px."""

ALLOWED: dict[str, Parameter] = {
    **IMAGE_CLASSES,
    "filters": IntParameter(
        low=1, high=1024, description="Filters of the first stage; each stage after it has twice as many."
    ),
    "stages": IntParameter(low=1, high=8, description="Stages; each after the first halves height and width."),
    "blocks": IntParameter(low=1, high=32, description="Residual blocks of each stage, of two convolutions each."),
}
"""Allowed values of each hyperparameter."""

STATIC_PARAMS = ("optimizer", "batch_size", "filters", "stages", "blocks")
"""Hyperparameters that change the compiled program."""


@dataclass(frozen=True, kw_only=True)
class ResidualParams(ImageParams):
    """Hyperparameters. The defaults are like the smallest network of He et al. (2016) for small images: 14 layers."""

    trainer: ClassVar[str] = "residual_cnn"
    allowed: ClassVar = ALLOWED
    static_params: ClassVar = STATIC_PARAMS

    filters: int = 16
    stages: int = 3
    blocks: int = 2


class Convolution(NamedTuple):
    """A convolution from ``before`` to ``after`` channels with its batch norm; ``edge`` is its kernel size in px."""

    name: str
    edge: int
    before: int
    after: int
    stride: int


class Block(NamedTuple):
    """Two convolutions, and a third on the shortcut if input and output differ in size."""

    first: Convolution
    second: Convolution
    shortcut: Convolution | None


@dataclass(frozen=True)
class ResidualShape:
    """Shape of the network: all that its compiled program depends on; ``image`` is height, width and channels."""

    image: tuple[int, int, int]
    n_classes: int
    optimizer: Optimizer = "adam"
    batch_size: int = 32
    filters: int = 16
    stages: int = 3
    blocks: int = 2

    def __post_init__(self) -> None:
        check_static_params(self, ALLOWED, STATIC_PARAMS)
        height, width, _ = self.image
        min_edge = 2 ** (self.stages - 1)
        if min(height, width) < min_edge:
            raise RequestError(
                f"stages: {self.stages} is too many for images of {height}x{width} px; allowed: fewer stages, or "
                f"images of at least {min_edge} px"
            )
        check_n_weights(self, self.n_weights, ("filters", "stages", "blocks"))

    @classmethod
    def of(cls, params: ResidualParams, image: tuple[int, int, int], n_classes: int) -> ResidualShape:
        """Shape of a network with ``params`` for images of this shape.

        Raises
        ------
        RequestError
            If the images are too small for the stages, or the network is too large.
        """
        return cls(image, n_classes, **{name: getattr(params, name) for name in STATIC_PARAMS})

    @property
    def stem(self) -> Convolution:
        """The convolution before the first block."""
        return Convolution("stem", KERNEL, self.image[2], self.filters, 1)

    @property
    def all_blocks(self) -> list[Block]:
        """Blocks of all stages, from the image to the classes."""
        return [self._block(stage, block) for stage in range(self.stages) for block in range(self.blocks)]

    @property
    def n_features(self) -> int:
        """Channels of the last block."""
        return int(self.filters * 2 ** (self.stages - 1))

    @property
    def convolutions(self) -> Iterator[Convolution]:
        """All convolutions, from the image to the classes."""
        yield self.stem
        for block in self.all_blocks:
            yield from (one for one in block if one is not None)

    @property
    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each trainable weight by name."""
        shapes: dict[str, tuple[int, ...]] = {}
        for one in self.convolutions:
            shapes[f"{one.name}.kernel"] = (one.edge, one.edge, one.before, one.after)
            shapes[f"{one.name}.scale"] = shapes[f"{one.name}.offset"] = (one.after,)
        return shapes | {"classes.kernel": (self.n_features, self.n_classes), "classes.bias": (self.n_classes,)}

    @property
    def n_weights(self) -> int:
        """Number of trainable weights."""
        return sum(prod(shape) for shape in self.weight_shapes.values())

    def _block(self, stage: int, block: int) -> Block:
        after, is_first = self.filters * 2**stage, block == 0
        stride = 2 if stage and is_first else 1
        before = after // stride
        name = f"stage{stage}.block{block}"
        return Block(
            Convolution(f"{name}.first", KERNEL, before, after, stride),
            Convolution(f"{name}.second", KERNEL, after, after, 1),
            Convolution(f"{name}.shortcut", 1, before, after, stride) if stride > 1 else None,
        )


BATCH_NORM_MOMENTUM = 0.9
"""Share of the running mean and variance that a training step keeps; the rest comes from the batch."""

BATCH_NORM_EPSILON = 1e-5
"""Added to a variance before its square root is taken."""


class ResidualNetwork(ImageNetwork):
    """Stages of basic blocks (He et al. 2016, fig. 5 left), global average pooling, dropout and the classes.

    Batch norm (Ioffe and Szegedy 2015) follows each convolution, which has no bias. Where the size changes, the
    shortcut is a convolution of 1 px with batch norm (option B of the paper). In mixed precision the convolutions are
    computed in bfloat16, everything else in float32. As in Keras, the variance of a batch, and so the running variance,
    is the mean square without Bessel's correction. A last batch that is filled up counts in the statistics as a whole.
    """

    def __init__(self, shape: ResidualShape, precision: Precision = "float32") -> None:
        self.shape = shape
        self.model = make_model(self.layers, keras.Input(shape.image), precision)
        made = {name: held(variable) for name, variable in variables_of(self.model).items()}
        weights = {name: made.pop(name) for name in shape.weight_shapes}  # in the order that initial weights are drawn
        super().__init__(shape, precision, weights, made)

    def outputs(self, inputs: Any, drop: Callable[[Any], Any], *, is_training: bool) -> Any:
        """Logits, shape (n, classes), for float images of 0 to 1; ``drop`` is applied to the pooled features."""
        return outputs_of(self.model, inputs, drop, is_training=is_training)

    def layers(self, given: Any, dropout: float = 0.0) -> Any:
        """The network as new Keras layers, from images of 0 to 1 to logits."""
        layers, shape = keras.layers, self.shape

        def normal(values: Any, one: Convolution) -> Any:
            wide = layers.Conv2D(one.after, one.edge, one.stride, "same", use_bias=False, name=one.name)(values)
            constants = {"momentum": BATCH_NORM_MOMENTUM, "epsilon": BATCH_NORM_EPSILON}
            return layers.BatchNormalization(**constants, name=one.name + NORM, dtype="float32")(wide)

        def positive(values: Any) -> Any:
            return layers.ReLU(dtype="float32")(values)

        values = positive(normal(given, shape.stem))
        for block in shape.all_blocks:
            inner = normal(positive(normal(values, block.first)), block.second)
            beside = values if block.shortcut is None else normal(values, block.shortcut)
            values = positive(layers.Add(dtype="float32")([inner, beside]))
        values = layers.GlobalAveragePooling2D(name="mean", dtype="float32")(values)
        kept = layers.Dropout(dropout, name="dropout", dtype="float32")(values)
        return layers.Dense(shape.n_classes, name="classes", dtype="float32")(kept)


class ResidualCnnTrainer(ImageTrainer):
    """Trainer of residual networks; its hyperparameters are :class:`ResidualParams`."""

    params_type: ClassVar = ResidualParams
    shape_type: ClassVar = ResidualShape

    def _make_network(self, shape: Any) -> ImageNetwork:
        return ResidualNetwork(shape, self.precision)
