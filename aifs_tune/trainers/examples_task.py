"""Examples of any kind, of classes or of numbers, as the task of a trainer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from aifs_tune.data.examples import ExampleSet
from aifs_tune.errors import DataError
from aifs_tune.scalars import Scalar
from aifs_tune.trainers.answered import Predictions
from aifs_tune.trainers.course import check_one_of
from aifs_tune.trainers.image_task import check_classes, check_mode, check_training, class_weights
from aifs_tune.trainers.metrics import measure, measure_values
from aifs_tune.trainers.params import TrainingParams
from aifs_tune.trainers.scores import CLASS_METRICS, value_metrics


class ExampleShapes(Protocol):
    """A type of shapes: :meth:`of` gives the one of these params for these examples."""

    def of(self, params: Any, examples: ExampleSet) -> Any: ...


@dataclass(frozen=True)
class ExamplesGoal:
    """What is to be learnt of ``examples``, and what is best; arguments of the same name in
    :class:`~aifs_tune.trainers.examples_trainer.ExamplesTrainer`.

    Raises
    ------
    RequestError
        If a value is not allowed; DataError if nothing can be learnt or measured on ``examples``.
    """

    examples: ExampleSet
    metric: str
    mode: Literal["max", "min"]
    patience: int | None
    class_weights: Literal["balanced", "none"]

    def __post_init__(self) -> None:
        examples = self.examples
        check_one_of("metric", self.metric, metrics_of([target.name for target in examples.targets]))
        check_one_of("class_weights", self.class_weights, ("balanced", "none"))
        check_mode(self.mode, self.patience)
        if examples.classes:
            check_classes(examples.y_true, examples.train, examples.val, "examples")
        elif len(examples.train) == 0 or len(examples.val) < 2:
            n_train, n_val = len(examples.train), len(examples.val)
            raise DataError(f"train, val: {n_train} and {n_val} examples; allowed: at least 1 and 2")

    def weights(self) -> NDArray[np.float32]:
        """Of each example, shape (n,): by :func:`class_weights` where classes are balanced, else 1."""
        examples = self.examples
        if not examples.classes or self.class_weights == "none":
            return np.ones(len(examples.y_true), np.float32)
        weights: NDArray[np.float32] = class_weights(examples.y_true[examples.train], len(examples.classes))
        return np.asarray(weights[examples.y_true])

    def measure(self, part: str, y_pred: NDArray[np.float32]) -> dict[str, float]:
        """What the answers, shape (n, outputs), for the examples of ``part`` are worth: ``val_loss`` and so on."""
        examples = self.examples
        y_true = examples.y_true[getattr(examples, part)]
        found = measure(y_true, y_pred) if examples.classes else measure_values(y_true, y_pred, examples.targets)
        return {f"{part}_{name}": value for name, value in found.items()}

    def predictions_of(self, part: str, y_pred: NDArray[np.float32]) -> Predictions:
        """The answers of :meth:`measure` beside the truths: probabilities, or numbers in the units of the targets."""
        examples = self.examples
        rows = getattr(examples, part)
        y_true = examples.y_true[rows]
        if examples.classes:
            return Predictions(rows, y_true, np.exp(y_pred), examples.classes, ())
        centres = np.array([target.centre for target in examples.targets])
        scales = np.array([target.scale for target in examples.targets])
        told = tuple({"name": target.name, "unit": target.unit} for target in examples.targets)
        in_units = [(values * scales + centres).astype(np.float32) for values in (y_true, y_pred)]
        return Predictions(rows, in_units[0], in_units[1], (), told)


@dataclass(frozen=True)
class ExamplesTask(ExamplesGoal):
    """What all trials of a trainer of networks share."""

    params_type: type[TrainingParams]
    shape_type: ExampleShapes
    precision: Literal["auto", "float32", "mixed_bfloat16"]
    epochs: int

    def __post_init__(self) -> None:
        super().__post_init__()
        check_training(self.precision, self.epochs)

    @property
    def train(self) -> NDArray[np.int32]:
        """The examples to train on."""
        return self.examples.train

    @property
    def facts(self) -> dict[str, Any]:
        """Classes or targets, how the inputs were made, and the fingerprint."""
        examples = self.examples
        told = {"classes": list(examples.classes), "targets": [asdict(target) for target in examples.targets]}
        return {**told, "inputs": dict(examples.facts), "fingerprint": examples.fingerprint}

    def params_of(self, params: Mapping[str, Scalar]) -> TrainingParams:
        """Checked, with the defaults for what is absent."""
        return self.params_type.from_mapping(params)

    def shape_of(self, params: Any) -> Any:
        """The shape of a network with ``params`` for these examples."""
        return self.shape_type.of(params, self.examples)


def default_goal(examples: ExampleSet) -> tuple[str, Literal["max", "min"]]:
    """Metric and mode where none is given: ``val_macro_f1`` for classes, ``val_loss`` for numbers."""
    return ("val_macro_f1", "max") if examples.classes else ("val_loss", "min")


def metrics_of(targets: list[str]) -> tuple[str, ...]:
    """What an epoch reports where these numbers are predicted; none of them: classes."""
    return value_metrics(targets) if targets else CLASS_METRICS
