"""CNN on images of numbers that predicts classes or numbers: hyperparameters, architecture and trainer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from aifs_tune.data.examples import ExampleSet
from aifs_tune.space.parameters import Parameter
from aifs_tune.trainers.augment.moving import TargetTransform, change
from aifs_tune.trainers.models.cnn import CnnNetwork, CnnParams, CnnShape
from aifs_tune.trainers.network.examples import ExamplesTrainer
from aifs_tune.trainers.network.losses import Hyperparameters
from aifs_tune.trainers.network.network import Network
from aifs_tune.trainers.network.ops import log_probabilities
from aifs_tune.trainers.network.params import VALUE_LOSS, VALUES_WEIGHT, Loss, Precision
from aifs_tune.trainers.network.runtime import keras

_NOT_SUPPORTED = {"rotation_90", "blur", "read_noise", "shot_noise", "random_erasing", "cutmix"}
"""Augmentations that have no counterpart for the targets."""

ALLOWED: dict[str, Parameter] = {
    **{name: parameter for name, parameter in CnnParams.allowed.items() if name not in _NOT_SUPPORTED},
    **VALUE_LOSS,
    **VALUES_WEIGHT,
}
"""Allowed values of each hyperparameter."""

STATIC_PARAMS = (*CnnParams.static_params, "loss")
"""Hyperparameters that change the compiled program."""


@dataclass(frozen=True, kw_only=True)
class CnnValuesParams(CnnParams):
    """Hyperparameters. The defaults are a textbook CNN for regression: Adam, mean squared error, no augmentation."""

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
    values_weight: float = 1.0


@dataclass(frozen=True)
class CnnValuesShape(CnnShape):
    """Shape of the network; see :class:`~aifs_tune.trainers.models.cnn.CnnShape`.

    Its outputs are called classes there; ``n_values`` of them are numbers beside classes.
    """

    loss: Loss = "mse"
    is_classes: bool = False
    n_values: int = 0

    @classmethod
    def of_examples(cls, params: CnnValuesParams, examples: ExampleSet) -> CnnValuesShape:
        """Shape of a network with ``params`` for examples with one input (n, height, width, bands)."""
        height, width, bands = examples.inputs[0].shape[1:]
        n_classes, n_targets = len(examples.classes), len(examples.targets)
        made = {name: getattr(params, name) for name in STATIC_PARAMS} | {"n_values": n_targets if n_classes else 0}
        return cls((height, width, bands), n_classes + n_targets, is_classes=n_classes > 0, **made)


class ShapeForExamples:
    """:meth:`CnnValuesShape.of_examples` under the name ``of`` that a task calls."""

    of = CnnValuesShape.of_examples


class CnnValuesNetwork(CnnNetwork):
    """CNN from one input (n, height, width, bands), any numbers, to logits (n, classes), scaled numbers, or both.

    Like :class:`~aifs_tune.trainers.models.cnn.CnnNetwork`, whose input are images of 0 to 255.
    """

    def __init__(self, shape: CnnValuesShape, precision: Precision = "float32") -> None:
        super().__init__(shape, precision)
        self._n_classes = shape.n_classes - shape.n_values if shape.is_classes else 0

    def preprocess(self, raw: Any) -> Any:
        return keras.ops.cast(raw[0], "float32")

    def activation(self, outputs: Any) -> Any:
        return log_probabilities(outputs, self._n_classes)


class CnnValuesTrainer(ExamplesTrainer):
    """Trainer of CNNs on images of numbers; examples have one input of shape (n, height, width, bands).

    ``facts`` of the examples say how targets change with an augmented image: ``roles``, ``shape``, ``native``,
    ``first_pixel`` and ``bends``, as :func:`~aifs_tune.data.prepare_frames` writes them.
    """

    params_type: ClassVar = CnnValuesParams
    shape_type: ClassVar = ShapeForExamples
    learns_both: ClassVar = True

    def augment(self, inputs: Any, hyperparameters: Hyperparameters, seed: Any) -> Any:
        return self.augment_with_targets(inputs, keras.ops.zeros((inputs.shape[0], 0)), hyperparameters, seed)[0]

    def augment_with_targets(
        self, inputs: Any, y_true: Any, hyperparameters: Hyperparameters, seed: Any
    ) -> tuple[Any, Any]:
        """Rotate, shift, flip, zoom, brighten and add noise; positions, vectors and magnitudes follow their images."""
        facts = self._data.facts
        bends = facts.get("bends") or np.zeros(inputs.shape[3])
        return change(
            inputs, y_true, hyperparameters, seed, of=TargetTransform.of(self._data.targets, facts), bends=bends
        )

    def _make_network(self, shape: Any) -> Network:
        return CnnValuesNetwork(shape, self.precision)
