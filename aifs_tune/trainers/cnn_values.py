"""The CNN on images of numbers, such as FITS frames: positions, velocities, magnitudes or classes out."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from aifs_tune.trainers.cnn_network import CnnNetwork
from aifs_tune.trainers.cnn_values_params import CnnValuesParams, CnnValuesShape, ShapeForExamples
from aifs_tune.trainers.examples_trainer import ExamplesTrainer
from aifs_tune.trainers.lessons import Hyperparameters
from aifs_tune.trainers.moving import TargetTransform, change
from aifs_tune.trainers.network import Network
from aifs_tune.trainers.params import Precision
from aifs_tune.trainers.runtime import tf


class CnnValuesNetwork(CnnNetwork):
    """From one input (n, height, width, bands) of any kind of numbers to logits (n, classes) or scaled numbers
    (n, targets)."""

    def __init__(self, shape: CnnValuesShape, precision: Precision = "float32") -> None:
        super().__init__(shape, precision)
        self._is_classes = shape.is_classes

    def seen(self, raw: Any) -> Any:
        return tf.cast(raw[0], tf.float32)

    def activation(self, outputs: Any) -> Any:
        return super().activation(outputs) if self._is_classes else outputs


class CnnValuesTrainer(ExamplesTrainer):
    """Trains CNNs; the examples have one input of shape (n, height, width, bands).

    ``facts`` of the examples say how truths follow an image that is changed: ``roles``, ``shape``, ``native``,
    ``first_pixel`` and ``bends``, as :func:`~aifs_tune.data.prepare_frames` writes them.
    """

    params_type: ClassVar = CnnValuesParams
    shape_type: ClassVar = ShapeForExamples

    def changed(self, inputs: Any, hyperparameters: Hyperparameters, seed: Any) -> Any:
        return self.changed_with_targets(inputs, tf.zeros((inputs.shape[0], 0)), hyperparameters, seed)[0]

    def changed_with_targets(
        self, inputs: Any, y_true: Any, hyperparameters: Hyperparameters, seed: Any
    ) -> tuple[Any, Any]:
        """Turned, shifted, mirrored, scaled, lit and noisy, positions, vectors and magnitudes with their images."""
        facts = self._data.facts
        bends = facts.get("bends") or np.zeros(inputs.shape[3])
        return change(
            inputs, y_true, hyperparameters, seed, of=TargetTransform.of(self._data.targets, facts), bends=bends
        )

    def _make_network(self, shape: Any) -> Network:
        return CnnValuesNetwork(shape, self.precision)
