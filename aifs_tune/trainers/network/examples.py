"""Networks, tasks and trainers for examples that are not images of classes: tables, series, images of numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from aifs_tune._util.scalars import Scalar
from aifs_tune.data.examples import ExampleSet
from aifs_tune.errors import DataError
from aifs_tune.trainers.network.images import check_classes, check_mode, check_signal, check_training, class_weights
from aifs_tune.trainers.network.losses import ClassificationLoss, Hyperparameters, LossFunction, RegressionLoss
from aifs_tune.trainers.network.metrics import measure, measure_values
from aifs_tune.trainers.network.network import Network
from aifs_tune.trainers.network.params import TrainingParams
from aifs_tune.trainers.network.program import Examples
from aifs_tune.trainers.network.runtime import keras, resident
from aifs_tune.trainers.network.trainer import NetTrainer
from aifs_tune.trainers.network.trial_state import Keep, check_one_of
from aifs_tune.trainers.predictions import Predictions, in_target_units, reported_metrics, value_metrics


class ExamplesNetwork(Network):
    """Network to logits (n, classes) or scaled numbers (n, targets).

    ``shape`` has ``n_outputs`` and ``is_classes``.
    """

    def __init__(self, shape: Any, weights: Mapping[str, Any], states: Mapping[str, Any]) -> None:
        super().__init__(weights, states)
        self._shape = shape

    @property
    def n_outputs(self) -> int:
        """Number of classes or targets."""
        n_outputs: int = self._shape.n_outputs
        return n_outputs

    def activation(self, outputs: Any) -> Any:
        """Log-probabilities of classes, or the numbers themselves."""
        return keras.ops.log_softmax(outputs) if self._shape.is_classes else outputs


class ExampleShapes(Protocol):
    """Type of shapes of a network."""

    def of(self, params: Any, examples: ExampleSet) -> Any:
        """Shape of a network with ``params`` for ``examples``."""
        ...


@dataclass(frozen=True)
class ExamplesGoal:
    """Examples to learn from, and the metric that decides which epoch is best.

    Its fields are parameters of :class:`~aifs_tune.trainers.network.examples.ExamplesTrainer`.

    Raises
    ------
    RequestError
        If a value is not allowed.
    DataError
        If ``examples`` have nothing to train on, or too few to measure.
    """

    examples: ExampleSet
    metric: str
    mode: Literal["max", "min"]
    patience: int | None
    class_weights: Literal["balanced", "none"]

    def __post_init__(self) -> None:
        examples = self.examples
        check_one_of("metric", self.metric, metrics_of(examples))
        check_one_of("class_weights", self.class_weights, ("balanced", "none"))
        check_mode(self.mode, self.patience)
        if examples.classes:
            check_classes(examples.y_true, examples.train, examples.val, "examples")
            check_signal(examples.signal, examples.classes, self.metric, examples.y_true[examples.val])
        elif len(examples.train) == 0 or len(examples.val) < 2:
            n_train, n_val = len(examples.train), len(examples.val)
            raise DataError(f"train, val: {n_train} and {n_val} examples are too few; allowed: at least 1 and 2")
        else:
            self._check_targets()

    def _check_targets(self) -> None:
        """Check that each target, which examples may lack, is known often enough to be measured."""
        examples = self.examples
        for part, least in (("val", 2), ("test", 1)):
            rows = getattr(examples, part)
            known = (~np.isnan(examples.y_true[rows])).sum(axis=0)
            for target, n in zip(examples.targets, known.tolist(), strict=True):
                if len(rows) and n < least:
                    raise DataError(
                        f"{part}: {n} of {len(rows)} examples have {target.name!r}; allowed: at least {least}"
                    )

    def weights(self) -> NDArray[np.float32]:
        """Weight of each example, shape (n,): that of :func:`class_weights` for balanced classes, else 1."""
        examples = self.examples
        if not examples.classes or self.class_weights == "none":
            return np.ones(len(examples.y_true), np.float32)
        weights: NDArray[np.float32] = class_weights(examples.y_true[examples.train], len(examples.classes))
        return np.asarray(weights[examples.y_true])

    def measure(self, part: str, y_pred: NDArray[np.float32]) -> dict[str, float]:
        """Metrics, such as ``val_loss``, of the predictions (n, outputs) of the examples of ``part``."""
        examples = self.examples
        y_true = examples.y_true[getattr(examples, part)]
        if examples.classes:
            measured = measure(y_true, y_pred, signal=examples.signal, classes=examples.classes)
        else:
            measured = measure_values(y_true, y_pred, examples.targets)
        return {f"{part}_{name}": value for name, value in measured.items()}

    def predictions_of(self, part: str, y_pred: NDArray[np.float32]) -> Predictions:
        """Targets and predictions of ``part``: probabilities, or numbers in the units of the targets."""
        examples = self.examples
        rows = getattr(examples, part)
        y_true = examples.y_true[rows]
        if examples.classes:
            return Predictions(rows, y_true, np.exp(y_pred), examples.classes, ())
        centres = np.array([target.centre for target in examples.targets])
        scales = np.array([target.scale for target in examples.targets])
        described = tuple({"name": target.name, "unit": target.unit} for target in examples.targets)
        in_units = [(values * scales + centres).astype(np.float32) for values in (y_true, y_pred)]
        return Predictions(rows, in_units[0], in_units[1], (), described)


@dataclass(frozen=True)
class ExamplesTask(ExamplesGoal):
    """Task that all trials of a network's trainer share."""

    params_type: type[TrainingParams]
    shape_type: ExampleShapes
    precision: Literal["auto", "float32", "mixed_bfloat16"]
    epochs: int
    keep: Keep = "best"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_training(self.precision, self.epochs)

    @property
    def train(self) -> NDArray[np.int32]:
        """The examples to train on."""
        return self.examples.train

    @property
    def facts(self) -> dict[str, Any]:
        """Classes or targets, facts of the inputs, and the fingerprint of the data."""
        examples = self.examples
        described = {"classes": list(examples.classes), "targets": [asdict(target) for target in examples.targets]}
        return {**described, "inputs": dict(examples.facts), "fingerprint": examples.fingerprint}

    def params_of(self, params: Mapping[str, Scalar]) -> TrainingParams:
        """Checked hyperparameters, with the defaults of missing ones."""
        return self.params_type.from_mapping(params)

    def shape_of(self, params: Any) -> Any:
        """Shape of a network with ``params`` for the examples."""
        return self.shape_type.of(params, self.examples)


def default_goal(examples: ExampleSet) -> tuple[str, Literal["max", "min"]]:
    """Default metric and mode: the maximum of ``val_macro_f1`` for classes, the minimum of ``val_loss`` for numbers."""
    return ("val_macro_f1", "max") if examples.classes else ("val_loss", "min")


def metrics_of(examples: ExampleSet) -> tuple[str, ...]:
    """Metrics that an epoch on ``examples`` reports: those of their targets, or of classes and of their signal."""
    if examples.targets:
        return value_metrics([target.name for target in examples.targets])
    return reported_metrics(examples.signal)


class ExamplesTrainer(NetTrainer):
    """Base of the trainers of networks on :class:`~aifs_tune.data.examples.ExampleSet`.

    Parameters
    ----------
    examples
        Examples with classes, or with numbers to predict.
    params
        Hyperparameters of ``params_type``; missing ones have their defaults.
    metric, mode
        Metric that decides which epoch is best. Default: :func:`default_goal`.

    All other parameters are those of :class:`~aifs_tune.trainers.network.trainer.NetTrainer`.
    """

    params_type: ClassVar[Any]
    shape_type: ClassVar[ExampleShapes]
    task_type: ClassVar[Any] = ExamplesTask

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
        keep: Keep = "best",
        threads: int | None = None,
        devices: float = 1,
    ) -> None:
        self._data = examples
        self._score, best = self.measures(examples)
        goal = examples, metric or best[0], mode or best[1], patience, class_weights
        task = self.task_type(*goal, self.params_type, self.shape_type, precision, epochs, keep)
        super().__init__(task, params, seed=seed, precision=precision, threads=threads, devices=devices)

    def measures(self, examples: ExampleSet) -> tuple[str, tuple[str, Literal["max", "min"]]]:
        """Second metric of training batches, and default metric and mode."""
        return ("accuracy" if examples.classes else "mae"), default_goal(examples)

    def augment(self, inputs: Any, hyperparameters: Hyperparameters, seed: Any) -> Any:
        """Augment the inputs of a training batch where targets stay the same; by default not at all."""
        del hyperparameters, seed
        return inputs

    def augment_with_targets(
        self, inputs: Any, y_true: Any, hyperparameters: Hyperparameters, seed: Any
    ) -> tuple[Any, Any]:
        """Augment inputs and targets of a training batch where numbers are predicted."""
        return self.augment(inputs, hyperparameters, seed), y_true

    def predict(self, *inputs: NDArray[Any]) -> NDArray[np.float32]:
        """Predict new examples with the weights of the best epoch.

        Parameters
        ----------
        *inputs
            Arrays like ``examples.inputs``.

        Returns
        -------
        numpy.ndarray
            Probabilities, shape (n, classes), or numbers in the units of their targets, shape (n, targets).
        """
        everything = np.arange(len(inputs[0]), dtype=np.int32)
        stored = tuple(resident(np.array(array)) for array in inputs)
        with self._best_weights() as network:
            y_pred: NDArray[np.float32] = network.predict(stored, everything)
        return in_target_units(y_pred, self._data.targets)

    def _resident(self) -> Examples:
        inputs = tuple(resident(array) for array in self._data.inputs)
        return Examples(inputs, resident(self._data.y_true), resident(self._task.weights()))

    def _make_loss_function(self, shape: Any) -> LossFunction:
        if self._data.classes:
            return ClassificationLoss(self.augment)
        has_gaps = bool(np.isnan(self._data.y_true).any())
        return RegressionLoss(shape.loss, self.augment_with_targets, has_gaps=has_gaps)

    def _part(self, part: str) -> NDArray[np.int32]:
        indices: NDArray[np.int32] = getattr(self._data, part)
        return indices
