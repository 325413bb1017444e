"""What networks for examples have in common: classes or numbers out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from aifs_tune._util.scalars import Scalar
from aifs_tune.data.examples import ExampleSet
from aifs_tune.errors import DataError
from aifs_tune.trainers.load import predicted
from aifs_tune.trainers.network.images import check_classes, check_mode, check_training, class_weights
from aifs_tune.trainers.network.losses import ClassificationLoss, Hyperparameters, LossFunction, RegressionLoss
from aifs_tune.trainers.network.metrics import measure, measure_values
from aifs_tune.trainers.network.network import Network, dtype_of
from aifs_tune.trainers.network.params import Precision, TrainingParams
from aifs_tune.trainers.network.program import Examples
from aifs_tune.trainers.network.runtime import resident, tf
from aifs_tune.trainers.network.trainer import NetTrainer
from aifs_tune.trainers.network.trial_state import check_one_of
from aifs_tune.trainers.predictions import CLASS_METRICS, Predictions, value_metrics


class ExamplesNetwork(Network):
    """To logits (n, classes) or scaled numbers (n, targets): ``n_outputs`` and ``is_classes`` of ``shape``."""

    def __init__(
        self,
        shape: Any,
        precision: Precision,
        sizes: Mapping[str, tuple[int, ...]],
        states: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:
        super().__init__(sizes, states)
        self._shape, self._dtype = shape, dtype_of(precision)

    @property
    def n_outputs(self) -> int:
        n_outputs: int = self._shape.n_outputs
        return n_outputs

    def activation(self, outputs: Any) -> Any:
        """Logarithms of probabilities, or the numbers."""
        return tf.nn.log_softmax(outputs) if self._shape.is_classes else outputs

    def _weight(self, name: str) -> Any:
        """In the precision that dense layers and convolutions are computed in."""
        return tf.cast(self.weights[name], self._dtype)


class ExampleShapes(Protocol):
    """A type of shapes: :meth:`of` gives the one of these params for these examples."""

    def of(self, params: Any, examples: ExampleSet) -> Any: ...


@dataclass(frozen=True)
class ExamplesGoal:
    """What is to be learnt of ``examples``, and what is best; arguments of the same name in
    :class:`~aifs_tune.trainers.network.examples.ExamplesTrainer`.

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


class ExamplesTrainer(NetTrainer):
    """Trains a network on ``examples``; usable alone, or as the trainer of a sweep.

    Parameters
    ----------
    examples
        Of classes, or of numbers to predict.
    params
        Any of ``params_type``; absent ones have their default.
    metric, mode
        None: those of :func:`~aifs_tune.trainers.network.examples.default_goal`.

    All others are those of :class:`~aifs_tune.trainers.network.trainer.NetTrainer`.
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
