"""What can be tuned in any trial of a network on series. Loads no TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aifs_tune.data.examples import ExampleSet
from aifs_tune.errors import DataError
from aifs_tune.parameters import FloatParameter, Parameter
from aifs_tune.trainers.params import CLASS_LOSS, TRAINING, VALUE_LOSS, Loss, TrainingParams

SERIES: dict[str, Parameter] = {
    **TRAINING,
    **{name: parameter for name, parameter in CLASS_LOSS.items() if name != "mixup"},
    **VALUE_LOSS,
    "dropout": FloatParameter(low=0, high=0.999, description="Share of the units that a pass drops."),
    "noise": FloatParameter(low=0, high=10, description="Added to the values; in units of the spread of a channel."),
    "crop": FloatParameter(
        low=0, high=0.9, description="Largest share of the steps that a pass leaves out at the ends of a series."
    ),
}
"""What each parameter that all networks on series have can be."""


@dataclass(frozen=True, kw_only=True)
class SeriesParams(TrainingParams):
    """How a network on series is trained. Two series are not mixed: they differ in length and in their times."""

    label_smoothing: float = 0.0
    focal_gamma: float = 0.0
    loss: Loss = "mse"
    dropout: float = 0.0
    noise: float = 0.0
    crop: float = 0.0


def sizes_of(examples: ExampleSet) -> dict[str, Any]:
    """``steps``, ``channels``, ``n_outputs`` and ``is_classes`` of a shape.

    Raises
    ------
    DataError
        If the inputs are not values (n, steps, channels) with lengths (n,).
    """
    shapes = [array.shape for array in examples.inputs]
    if [len(shape) for shape in shapes] != [3, 1]:
        told = ", ".join(map(str, shapes))
        raise DataError(f"inputs: of shapes {told}; allowed: (n, steps, channels) and (n,), the lengths")
    n_outputs = len(examples.classes) or len(examples.targets)
    _, steps, channels = shapes[0]
    return {"steps": steps, "channels": channels, "n_outputs": n_outputs, "is_classes": bool(examples.classes)}
