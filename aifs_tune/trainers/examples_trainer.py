"""Trainers of networks for examples of any kind, of classes or of numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from aifs_tune.data.examples import ExampleSet
from aifs_tune.scalars import Scalar
from aifs_tune.trainers.examples_task import ExampleShapes, ExamplesTask, default_goal
from aifs_tune.trainers.lessons import ClassificationLoss, Hyperparameters, LossFunction, RegressionLoss
from aifs_tune.trainers.loaded import predicted
from aifs_tune.trainers.net_trainer import NetTrainer
from aifs_tune.trainers.params import TrainingParams
from aifs_tune.trainers.program import Examples
from aifs_tune.trainers.runtime import resident


class ExamplesTrainer(NetTrainer):
    """Trains a network on ``examples``; usable alone, or as the trainer of a sweep.

    Parameters
    ----------
    examples
        Of classes, or of numbers to predict.
    params
        Any of ``params_type``; absent ones have their default.
    metric, mode
        None: those of :func:`~aifs_tune.trainers.examples_task.default_goal`.

    All others are those of :class:`~aifs_tune.trainers.net_trainer.NetTrainer`.
    """

    params_type: ClassVar[type[TrainingParams]]
    shape_type: ClassVar[ExampleShapes]

    def __init__(
        self,
        examples: ExampleSet,
        params: Mapping[str, Scalar] | None = None,
        *,
        seed: int = 0,
        metric: str | None = None,
        mode: Literal["max", "min"] | None = None,
        patience: int | None = None,
        class_weights: Literal["balanced", "none"] = "balanced",
        precision: Literal["auto", "float32", "mixed_bfloat16"] = "auto",
        epochs: int = 20,
        threads: int | None = None,
        devices: float = 1,
    ) -> None:
        self._data = examples
        self._score = "accuracy" if examples.classes else "mae"
        best = default_goal(examples)
        goal = examples, metric or best[0], mode or best[1], patience, class_weights
        task = ExamplesTask(*goal, self.params_type, self.shape_type, precision, epochs)
        super().__init__(task, params, seed=seed, precision=precision, threads=threads, devices=devices)

    def changed(self, inputs: Any, hyperparameters: Hyperparameters, seed: Any) -> Any:
        """Inputs of a training batch, changed at random where truths stay what they are; here: not at all."""
        del hyperparameters, seed
        return inputs

    def changed_with_targets(
        self, inputs: Any, y_true: Any, hyperparameters: Hyperparameters, seed: Any
    ) -> tuple[Any, Any]:
        """The same where numbers are predicted, which may have to change too."""
        return self.changed(inputs, hyperparameters, seed), y_true

    def predict(self, *inputs: NDArray[Any]) -> NDArray[np.float32]:
        """What the best epoch says of new examples, given as ``examples.inputs`` are.

        Probabilities, shape (n, classes), or numbers in the units of their targets, shape (n, targets).
        """
        everything = np.arange(len(inputs[0]), dtype=np.int32)
        stored = tuple(resident(np.array(array)) for array in inputs)
        with self._best_weights() as network:
            y_pred: NDArray[np.float32] = network.predict(stored, everything)
        return predicted(y_pred, self._data.targets)

    def _resident(self) -> Examples:
        inputs = tuple(resident(array) for array in self._data.inputs)
        return Examples(inputs, resident(self._data.y_true), resident(self._task.weights()))

    def _make_loss_function(self, shape: Any) -> LossFunction:
        if self._data.classes:
            return ClassificationLoss(self.changed)
        return RegressionLoss(shape.loss, self.changed_with_targets)

    def _part(self, part: str) -> NDArray[np.int32]:
        picked: NDArray[np.int32] = getattr(self._data, part)
        return picked
