"""What can be tuned in a trial of a CNN on images of numbers, and its tensor shapes. Loads no TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from aifs_tune.data.examples import ExampleSet
from aifs_tune.parameters import Parameter
from aifs_tune.trainers import cnn_params
from aifs_tune.trainers.cnn_params import CnnParams, CnnShape
from aifs_tune.trainers.params import VALUE_LOSS, Loss

_LEFT_OUT = {"rotation_90", "blur", "read_noise", "shot_noise", "random_erasing", "cutmix"}
"""Changes of images that truths do not follow here."""

ALLOWED: dict[str, Parameter] = {
    **{name: parameter for name, parameter in cnn_params.ALLOWED.items() if name not in _LEFT_OUT},
    **VALUE_LOSS,
}
"""What each parameter can be."""

STATIC_PARAMS = (*cnn_params.STATIC_PARAMS, "loss")
"""What makes another program."""


@dataclass(frozen=True, kw_only=True)
class CnnValuesParams(CnnParams):
    """One configuration. The defaults are a textbook CNN for regression: Adam, mean squared error, images unchanged."""

    trainer: ClassVar[str] = "cnn_values"
    allowed: ClassVar = ALLOWED
    static_params: ClassVar[tuple[str, ...]] = STATIC_PARAMS

    learning_rate: float = 1e-3
    dropout: float = 0.0
    rotation_deg: float = 0.0
    width_shift: float = 0.0
    height_shift: float = 0.0
    horizontal_flip: bool = False
    loss: Loss = "mse"


@dataclass(frozen=True)
class CnnValuesShape(CnnShape):
    """All that a compiled program depends on; see :class:`~aifs_tune.trainers.cnn_params.CnnShape`."""

    loss: Loss = "mse"
    is_classes: bool = False

    @classmethod
    def of_examples(cls, params: CnnValuesParams, examples: ExampleSet) -> CnnValuesShape:
        """The shape of ``params`` for examples of one input (n, height, width, bands).

        Raises
        ------
        RequestError
            If the images are too small for the blocks, or the network is too large.
        """
        height, width, bands = examples.inputs[0].shape[1:]
        made = {name: getattr(params, name) for name in STATIC_PARAMS}
        n_outputs = len(examples.classes) or len(examples.targets)
        return cls((height, width, bands), n_outputs, is_classes=bool(examples.classes), **made)


class ShapeForExamples:
    """:meth:`CnnValuesShape.of_examples` under the name that tasks call."""

    of = CnnValuesShape.of_examples
