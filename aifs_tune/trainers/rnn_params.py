"""What can be tuned in a trial of a recurrent network on series, and its tensor shapes. Loads no TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

from aifs_tune.data.examples import ExampleSet
from aifs_tune.errors import RequestError
from aifs_tune.parameters import ChoiceParameter, IntParameter, Parameter
from aifs_tune.trainers.params import MOST_WEIGHTS, Loss, Optimizer
from aifs_tune.trainers.series_params import SERIES, SeriesParams, sizes_of

Cell: TypeAlias = Literal["lstm", "gru"]
GATES = {"lstm": 4, "gru": 3}

ALLOWED: dict[str, Parameter] = {
    **SERIES,
    "cell": ChoiceParameter(choices=("lstm", "gru")),
    "layers": IntParameter(low=1, high=8, description="Recurrent layers."),
    "units": IntParameter(low=1, high=8192, description="Of each layer, in each direction."),
    "bidirectional": ChoiceParameter(choices=(True, False), description="Also read from the end to the beginning."),
}
"""What each parameter can be."""

STATIC_PARAMS = ("optimizer", "batch_size", "loss", "cell", "layers", "units", "bidirectional")
"""What makes another program."""


@dataclass(frozen=True, kw_only=True)
class RnnParams(SeriesParams):
    """One configuration of the recurrent network. The defaults are a common one: an LSTM of 64 units, Adam."""

    trainer: ClassVar[str] = "rnn"
    allowed: ClassVar = ALLOWED
    static_params: ClassVar = STATIC_PARAMS

    cell: Cell = "lstm"
    layers: int = 1
    units: int = 64
    bidirectional: bool = False


@dataclass(frozen=True)
class RnnShape:
    """All that a compiled program depends on."""

    steps: int
    channels: int
    n_outputs: int
    is_classes: bool
    optimizer: Optimizer
    batch_size: int
    loss: Loss
    cell: Cell
    layers: int
    units: int
    bidirectional: bool

    @classmethod
    def of(cls, params: RnnParams, examples: ExampleSet) -> RnnShape:
        """The shape of ``params`` for these examples.

        Raises
        ------
        RequestError
            If the network is too large; DataError if the examples are no series.
        """
        shape = cls(**sizes_of(examples), **{name: getattr(params, name) for name in STATIC_PARAMS})
        width = GATES[shape.cell] * shape.units
        rows = sum(before + shape.units for before in shape.widths[:-1])
        n_weights = rows * width * (2 if shape.bidirectional else 1) + shape.widths[-1] * shape.n_outputs
        if n_weights > MOST_WEIGHTS:
            raise RequestError(
                f"layers, units: {shape.layers} and {shape.units} make a network of {n_weights:,} weights for "
                f"{shape.channels} channels; allowed: at most {MOST_WEIGHTS:,}"
            )
        return shape

    @property
    def widths(self) -> list[int]:
        """Numbers of a step between the layers, from the channels to what the outputs are made of."""
        return [self.channels, *[self.units * (2 if self.bidirectional else 1)] * self.layers]
