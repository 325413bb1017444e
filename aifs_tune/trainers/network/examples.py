"""Networks, tasks and trainers for examples that are not images of classes: tables, series, images of numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from aifs_tune._util.scalars import Scalar
from aifs_tune.data.examples import ExampleSet
from aifs_tune.errors import DataError, RequestError
from aifs_tune.trainers.network.images import check_classes, check_mode, check_signal, check_training, class_weights
from aifs_tune.trainers.network.losses import (
    ClassesAndValuesLoss,
    ClassificationLoss,
    Hyperparameters,
    LossFunction,
    QuantileLoss,
    RegressionLoss,
)
from aifs_tune.trainers.network.metrics import measure, measure_quantiles, measure_values
from aifs_tune.trainers.network.network import Network
from aifs_tune.trainers.network.ops import log_probabilities
from aifs_tune.trainers.network.params import QUANTILES, TrainingParams, has_loss_of_quantiles
from aifs_tune.trainers.network.program import Examples
from aifs_tune.trainers.network.runtime import resident
from aifs_tune.trainers.network.trainer import NetTrainer
from aifs_tune.trainers.network.trial_state import Keep, check_one_of
from aifs_tune.trainers.predictions import (
    Predictions,
    both_metrics,
    has_quantiles,
    in_target_units,
    point_predictions,
    quantile_metrics,
    quantile_targets,
    reported_metrics,
    value_metrics,
)


class ExamplesNetwork(Network):
    """Network to logits (n, classes), scaled numbers (n, targets), both with the logits first, or quantiles of one
    number (n, levels).

    ``shape`` has ``n_outputs`` and ``is_classes``.
    """

    def __init__(self, shape: Any, weights: Mapping[str, Any], states: Mapping[str, Any]) -> None:
        super().__init__(weights, states)
        self._shape = shape

    @property
    def n_outputs(self) -> int:
        """Number of classes and targets, or of quantiles."""
        n_outputs: int = self._shape.n_outputs
        return n_outputs

    @property
    def n_classes(self) -> int:
        """Number of classes, which are the first outputs."""
        return self.n_outputs if self._shape.is_classes else 0

    def activation(self, outputs: Any) -> Any:
        """Log-probabilities of classes, and the numbers themselves."""
        return log_probabilities(outputs, self.n_classes)


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
        check_one_of("metric", self.metric, self.metrics)
        check_one_of("class_weights", self.class_weights, ("balanced", "none"))
        check_mode(self.mode, self.patience)
        if examples.classes:
            check_classes(examples.labels, examples.train, examples.val, "examples")
            check_signal(examples.signal, examples.classes, self.metric, examples.labels[examples.val])
        elif len(examples.train) == 0 or len(examples.val) < 2:
            n_train, n_val = len(examples.train), len(examples.val)
            raise DataError(f"train, val: {n_train} and {n_val} examples are too few; allowed: at least 1 and 2")
        if examples.targets:
            self._check_targets()

    @property
    def metrics(self) -> tuple[str, ...]:
        """Metrics that may decide which epoch is best."""
        return metrics_of(self.examples)

    def _check_targets(self) -> None:
        """Check that each target, which examples may lack, is known often enough to be measured."""
        examples = self.examples
        for part, least in (("val", 2), ("test", 1)):
            rows = getattr(examples, part)
            known = (~np.isnan(examples.numbers[rows])).sum(axis=0)
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
        weights: NDArray[np.float32] = class_weights(examples.labels[examples.train], len(examples.classes))
        return np.asarray(weights[examples.labels])

    def measure(self, part: str, y_pred: NDArray[np.float32]) -> dict[str, float]:
        """Metrics, such as ``val_loss``, of the predictions (n, outputs) of the examples of ``part``.

        Where both are predicted, the loss is that of the classes.
        """
        examples = self.examples
        rows, n_classes = getattr(examples, part), len(examples.classes)
        if examples.classes:
            labels, logs = examples.labels[rows], y_pred[:, :n_classes]
            measured = measure(labels, logs, signal=examples.signal, classes=examples.classes)
        elif has_quantiles(y_pred, len(examples.targets)):
            measured = measure_quantiles(examples.numbers[rows], y_pred, examples.targets[0])
        else:
            measured = measure_values(examples.numbers[rows], y_pred, examples.targets)
        if examples.classes and examples.targets:
            of_numbers = measure_values(examples.numbers[rows], y_pred[:, n_classes:], examples.targets)
            measured |= {name: value for name, value in of_numbers.items() if name not in measured}
        return {f"{part}_{name}": value for name, value in measured.items()}

    def predictions_of(self, part: str, y_pred: NDArray[np.float32]) -> Predictions:
        """Targets and predictions of ``part``: probabilities, and numbers in the units of the targets.

        Of quantiles it is the median.
        """
        examples = self.examples
        points = y_pred if examples.classes else point_predictions(y_pred, len(examples.targets))
        in_units = in_target_units(points, examples.targets, n_classes=len(examples.classes))
        return Predictions.of(examples, getattr(examples, part), in_units)


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
    def metrics(self) -> tuple[str, ...]:
        """Metrics that may decide which epoch is best; some are reported with the loss of quantiles alone."""
        return super().metrics + self._quantile_metrics

    @property
    def _quantile_metrics(self) -> tuple[str, ...]:
        """Metrics of quantiles, if networks can predict them from these examples."""
        targets = self.examples.targets
        can = len(targets) == 1 and not self.examples.classes
        can = can and has_loss_of_quantiles(getattr(self.params_type, "allowed", {}))
        return quantile_metrics(targets[0].name) if can else ()

    def facts_of(self, shape: Any) -> dict[str, Any]:
        """Classes, or targets with one for each quantile, facts of the inputs, and the fingerprint of the data."""
        examples, targets = self.examples, self.examples.targets
        if getattr(shape, "loss", None) == QUANTILES and targets:
            targets = quantile_targets(*targets)
        described = {"classes": list(examples.classes), "targets": [asdict(target) for target in targets]}
        return {**described, "inputs": dict(examples.facts), "fingerprint": examples.fingerprint}

    def params_of(self, params: Mapping[str, Scalar]) -> TrainingParams:
        """Checked hyperparameters, with the defaults of missing ones.

        Raises
        ------
        RequestError
            If a value is not allowed, or the loss does not give the metric that decides.
        """
        checked = self.params_type.from_mapping(params)
        loss = getattr(checked, "loss", None)
        if self.metric in self._quantile_metrics and loss != QUANTILES:
            raise RequestError(f"loss: {loss!r} does not report {self.metric}; allowed: {QUANTILES}")
        return checked

    def shape_of(self, params: Any) -> Any:
        """Shape of a network with ``params`` for the examples."""
        return self.shape_type.of(params, self.examples)


def default_goal(examples: ExampleSet) -> tuple[str, Literal["max", "min"]]:
    """Default metric and mode: the maximum of ``val_macro_f1`` for classes, the minimum of ``val_loss`` for numbers."""
    return ("val_macro_f1", "max") if examples.classes else ("val_loss", "min")


def metrics_of(examples: ExampleSet) -> tuple[str, ...]:
    """Metrics that an epoch on ``examples`` reports: those of their targets, or of classes and of their signal."""
    names = [target.name for target in examples.targets]
    if not names:
        return reported_metrics(examples.signal)
    return both_metrics(reported_metrics(examples.signal), names) if examples.classes else value_metrics(names)


class ExamplesTrainer(NetTrainer):
    """Base of the trainers of networks on :class:`~aifs_tune.data.examples.ExampleSet`.

    Parameters
    ----------
    examples
        Examples with classes, or with numbers to predict, or with both where the trainer ``learns_both``.
    params
        Hyperparameters of ``params_type``; missing ones have their defaults.
    metric, mode
        Metric that decides which epoch is best. Default: :func:`default_goal`.

    All other parameters are those of :class:`~aifs_tune.trainers.network.trainer.NetTrainer`.
    """

    params_type: ClassVar[Any]
    shape_type: ClassVar[ExampleShapes]
    task_type: ClassVar[Any] = ExamplesTask
    learns_both: ClassVar[bool] = False
    """Whether it learns classes and numbers together."""

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
        if examples.classes and examples.targets and not self.learns_both:
            names = ", ".join(target.name for target in examples.targets)
            raise RequestError(f"targets: {names} beside classes are not allowed here; allowed: classes or numbers")
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
            Probabilities, shape (n, classes), or numbers in the units of their targets, shape (n, targets), or both in
            this order, shape (n, classes + targets), or quantiles of one number at
            :data:`~aifs_tune.trainers.predictions.LEVELS`, shape (n, levels).
        """
        everything = np.arange(len(inputs[0]), dtype=np.int32)
        stored = tuple(resident(np.array(array)) for array in inputs)
        with self._best_weights() as network:
            y_pred: NDArray[np.float32] = network.predict(stored, everything)
        return in_target_units(y_pred, self._data.targets, n_classes=len(self._data.classes))

    def _resident(self) -> Examples:
        inputs = tuple(resident(array) for array in self._data.inputs)
        return Examples(inputs, resident(self._data.y_true), resident(self._task.weights()))

    def _make_loss_function(self, shape: Any) -> LossFunction:
        if not self._data.targets:
            return ClassificationLoss(self.augment)
        has_gaps = bool(np.isnan(self._data.numbers).any())
        if shape.loss == QUANTILES:
            return QuantileLoss(self.augment_with_targets, has_gaps=has_gaps)
        values = RegressionLoss(shape.loss, self.augment_with_targets, has_gaps=has_gaps)
        return ClassesAndValuesLoss(values, len(self._data.classes)) if self._data.classes else values

    def _part(self, part: str) -> NDArray[np.int32]:
        indices: NDArray[np.int32] = getattr(self._data, part)
        return indices
