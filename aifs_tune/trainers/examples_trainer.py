"""Trainers of networks for examples of any kind, of classes or of numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from aifs_tune.data.examples import ExampleSet
from aifs_tune.scalars import Scalar
from aifs_tune.trainers.examples_task import ExamplesTask, ShapeOf
from aifs_tune.trainers.lessons import Classes, Knobs, Lesson, Values
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
        One of the metrics that an epoch reports; decides which epoch is best. None: ``val_macro_f1`` for classes and
        ``val_loss`` for numbers. A value that is not finite is never best.
    patience
        Epochs without a better value after which the trial is finished; None for no limit.
    class_weights
        ``"balanced"``: every class counts the same, however rare.
    precision
        Of convolutions and dense layers; ``"auto"`` is mixed bfloat16 where the hardware has it.
    epochs
        How long a trial trains at most: where a cosine schedule ends.
    threads
        CPU threads of TensorFlow; without effect if it already runs in this process.
    devices
        GPUs that share out each batch of one trial; where there are none, logical CPUs.

    Raises
    ------
    RequestError
        If an argument or parameter is not allowed; DataError if nothing can be learnt or measured on ``examples``.
    """

    params_type: ClassVar[type[TrainingParams]]
    shape_type: ClassVar[ShapeOf]

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
        devices: int = 1,
    ) -> None:
        self._data = examples
        self._score = "accuracy" if examples.classes else "mae"
        task = ExamplesTask(
            examples,
            self.params_type,
            self.shape_type,
            metric or ("val_macro_f1" if examples.classes else "val_loss"),
            mode or ("max" if examples.classes else "min"),
            patience,
            class_weights,
            precision,
            epochs,
        )
        super().__init__(task, params, seed=seed, precision=precision, threads=threads, devices=devices)

    def changed(self, inputs: Any, knobs: Knobs, seed: Any) -> Any:
        """Inputs of a training batch, changed at random where truths stay what they are; here: not at all."""
        del knobs, seed
        return inputs

    def changed_with_truths(self, inputs: Any, truths: Any, knobs: Knobs, seed: Any) -> tuple[Any, Any]:
        """The same where numbers are predicted, which may have to change too."""
        return self.changed(inputs, knobs, seed), truths

    def predict(self, *inputs: NDArray[Any]) -> NDArray[np.float32]:
        """What the best epoch says of new examples, given as ``examples.inputs`` are.

        Probabilities, shape (n, classes), or numbers in the units of their targets, shape (n, targets).
        """
        everything = np.arange(len(inputs[0]), dtype=np.int32)
        stored = tuple(resident(np.array(array)) for array in inputs)
        with self._best_weights() as network:
            answers: NDArray[np.float32] = network.answers(stored, everything)
        if self._data.classes:
            return np.asarray(np.exp(answers), np.float32)
        centres, scales = (np.array([getattr(t, name) for t in self._data.targets]) for name in ("centre", "scale"))
        return np.asarray(answers * scales + centres, np.float32)

    def _resident(self) -> Examples:
        inputs = tuple(resident(array) for array in self._data.inputs)
        return Examples(inputs, resident(self._data.truths), resident(self._task.weights()))

    def _make_lesson(self, shape: Any) -> Lesson:
        if self._data.classes:
            return Classes(self.changed)
        return Values(shape.loss, self.changed_with_truths)

    def _part(self, part: str) -> NDArray[np.int32]:
        picked: NDArray[np.int32] = getattr(self._data, part)
        return picked
