"""What can be tuned in a trial of a dense network on a table, and its tensor shapes. Loads no TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from aifs_tune.data.examples import ExampleSet
from aifs_tune.errors import RequestError
from aifs_tune.parameters import FloatParameter, IntParameter, Parameter
from aifs_tune.trainers.columns import KEPT
from aifs_tune.trainers.params import CLASS_LOSS, MOST_WEIGHTS, TRAINING, VALUE_LOSS, Loss, Optimizer, TrainingParams

ALLOWED: dict[str, Parameter] = {
    **TRAINING,
    **CLASS_LOSS,
    **VALUE_LOSS,
    "dropout": FloatParameter(low=0, high=0.999, description="Share of the units of each layer that a pass drops."),
    "noise": FloatParameter(low=0, high=10, description="Added to the inputs; in units of the spread of a column."),
    "kept_columns": KEPT,
    "layers": IntParameter(low=0, high=16, description="Dense layers before the output; 0 is a linear model."),
    "units": IntParameter(low=1, high=65536, description="Of each layer."),
}
"""What each parameter can be."""

STATIC_PARAMS = ("optimizer", "batch_size", "loss", "layers", "units")
"""What makes another program."""


@dataclass(frozen=True, kw_only=True)
class MlpParams(TrainingParams):
    """One configuration of the dense network. The defaults are a common one: two layers of 64, dropout 0.5, Adam."""

    trainer: ClassVar[str] = "mlp"
    allowed: ClassVar = ALLOWED
    static_params: ClassVar = STATIC_PARAMS

    label_smoothing: float = 0.0
    focal_gamma: float = 0.0
    mixup: float = 0.0
    loss: Loss = "mse"
    dropout: float = 0.5
    noise: float = 0.0
    kept_columns: float = 1.0
    layers: int = 2
    units: int = 64


@dataclass(frozen=True)
class MlpShape:
    """All that a compiled program depends on."""

    n_inputs: int
    n_outputs: int
    is_classes: bool
    optimizer: Optimizer
    batch_size: int
    loss: Loss
    layers: int
    units: int

    @classmethod
    def of(cls, params: MlpParams, examples: ExampleSet) -> MlpShape:
        """The shape of ``params`` for examples of one input (n, columns).

        Raises
        ------
        RequestError
            If the network is too large.
        """
        n_outputs = len(examples.classes) or len(examples.targets)
        made = {name: getattr(params, name) for name in STATIC_PARAMS}
        shape = cls(examples.inputs[0].shape[1], n_outputs, bool(examples.classes), **made)
        n_weights = sum(a * b for a, b in pairwise(shape.widths))
        if n_weights > MOST_WEIGHTS:
            raise RequestError(
                f"layers, units: {shape.layers} and {shape.units} make a network of {n_weights:,} weights for "
                f"{shape.n_inputs} columns; allowed: at most {MOST_WEIGHTS:,}"
            )
        return shape

    @property
    def widths(self) -> list[int]:
        """Numbers between the layers, from inputs to outputs."""
        return [self.n_inputs, *[self.units] * self.layers, self.n_outputs]
