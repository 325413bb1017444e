"""What can be tuned in a trial of a convolutional network on series, and its tensor shapes. Loads no TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal, TypeAlias

from aifs_tune.data.examples import ExampleSet
from aifs_tune.errors import RequestError
from aifs_tune.parameters import ChoiceParameter, IntParameter, Parameter
from aifs_tune.trainers.params import MOST_WEIGHTS, Loss, Optimizer
from aifs_tune.trainers.series_params import SERIES, SeriesParams, sizes_of

Pooling: TypeAlias = Literal["mean", "max"]

ALLOWED: dict[str, Parameter] = {
    **SERIES,
    "filters": IntParameter(low=1, high=4096, description="Of the first block; each block after it has twice as many."),
    "conv_blocks": IntParameter(low=1, high=12, description="Convolution, ReLU, and the larger of each two steps."),
    "kernel_size": IntParameter(low=1, high=255, description="Steps."),
    "pooling": ChoiceParameter(choices=("mean", "max"), description="Over all steps, behind the last block."),
    "dense_units": IntParameter(low=1, high=65536),
}
"""What each parameter can be."""

STATIC_PARAMS = (
    "optimizer",
    "batch_size",
    "loss",
    "filters",
    "conv_blocks",
    "kernel_size",
    "pooling",
    "dense_units",
)
"""What makes another program."""


@dataclass(frozen=True, kw_only=True)
class Cnn1dParams(SeriesParams):
    """One configuration of the network. The defaults are a common one: three blocks from 32 filters, dropout 0.5."""

    trainer: ClassVar[str] = "cnn1d"
    allowed: ClassVar = ALLOWED
    static_params: ClassVar = STATIC_PARAMS

    dropout: float = 0.5
    filters: int = 32
    conv_blocks: int = 3
    kernel_size: int = 5
    pooling: Pooling = "mean"
    dense_units: int = 64


@dataclass(frozen=True)
class Cnn1dShape:
    """All that a compiled program depends on."""

    steps: int
    channels: int
    n_outputs: int
    is_classes: bool
    optimizer: Optimizer
    batch_size: int
    loss: Loss
    filters: int
    conv_blocks: int
    kernel_size: int
    pooling: Pooling
    dense_units: int

    @classmethod
    def of(cls, params: Cnn1dParams, examples: ExampleSet) -> Cnn1dShape:
        """The shape of ``params`` for these examples.

        Raises
        ------
        RequestError
            If the series are too short for so many blocks, or the network is too large; DataError if the examples are
            no series.
        """
        shape = cls(**sizes_of(examples), **{name: getattr(params, name) for name in STATIC_PARAMS})
        if shape.steps < 2**shape.conv_blocks:
            raise RequestError(
                f"conv_blocks: {shape.conv_blocks} leave nothing of series of {shape.steps} steps, which each block "
                f"halves; allowed: series of at least {2**shape.conv_blocks} steps"
            )
        n_weights = sum(shape.kernel_size * a * b for a, b in pairwise(shape.widths))
        n_weights += (shape.widths[-1] + shape.n_outputs) * shape.dense_units
        if n_weights > MOST_WEIGHTS:
            raise RequestError(
                f"filters, conv_blocks, kernel_size, dense_units: {shape.filters}, {shape.conv_blocks}, "
                f"{shape.kernel_size} and {shape.dense_units} make a network of {n_weights:,} weights; allowed: at "
                f"most {MOST_WEIGHTS:,}"
            )
        return shape

    @property
    def widths(self) -> list[int]:
        """Numbers of a step between the blocks, from the channels to the filters of the last one."""
        return [self.channels, *(self.filters * 2**block for block in range(self.conv_blocks))]
