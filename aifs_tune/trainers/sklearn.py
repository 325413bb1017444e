"""Trainer of an estimator of scikit-learn, or of a library with the same interface, on a table.

Loads no scikit-learn before an estimator is made.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from aifs_tune._util.scalars import Scalar, brief, did_you_mean
from aifs_tune.config.data import DataSpec
from aifs_tune.config.sweep import LIBRARIES, SweepSpec
from aifs_tune.config.trusted_code import is_estimator_class
from aifs_tune.data.examples import ExampleSet
from aifs_tune.errors import DataError, RequestError
from aifs_tune.space.parameters import Parameter
from aifs_tune.trainers.network.examples import ExamplesGoal, default_goal
from aifs_tune.trainers.network.trial_state import BestEpochTracker, Keep, check_one_of, check_seed
from aifs_tune.trainers.objectives import check_metrics
from aifs_tune.trainers.predictions import class_metrics, value_metrics, write_predictions
from aifs_tune.trainers.sklearn_files import can_write_model, log_probabilities, write_model

_WITHOUT_PROBABILITIES = ("accuracy", "val_accuracy", "val_balanced_accuracy", "val_macro_f1")
"""Metrics of classes that need no probabilities."""
_WITH_PROBABILITIES = "an estimator with predict_proba, such as this one in sklearn.calibration.CalibratedClassifierCV"
_NOT_GIVEN = ("trial", "epochs")
"""Arguments of an objective function, which is no function that returns an estimator."""


@dataclass(frozen=True)
class EstimatorEntry:
    """What the registry says of a trainer, for an estimator ``name``."""

    name: str
    kind: ClassVar[Literal["table"]] = "table"
    is_adaptable: ClassVar[bool] = False
    needs_weights: ClassVar[bool] = False
    static_params: ClassVar[tuple[str, ...]] = ()
    allowed: ClassVar[Mapping[str, Parameter]] = {}

    @property
    def trainer_type(self) -> Any:
        """Its trainer."""
        return SklearnTrainer

    @property
    def preload(self) -> tuple[str, ...]:
        """Modules that a worker can import before it has work."""
        module = self.name.partition(":")[0]
        return (module if module.partition(".")[0] in LIBRARIES else "sklearn.base",)


@dataclass(frozen=True)
class EstimatorRecipe:
    """How the estimator of a trial is made.

    Parameters
    ----------
    name
        Name of ``code``, for messages.
    code
        An estimator class, or a function that returns an estimator. The function is given the parameters that it takes
        by name, and ``seed`` if it takes that; the estimator is given all others.
    """

    name: str
    code: Callable[..., Any]

    def make(self, params: Mapping[str, Scalar], *, seed: int = 0, threads: int | None = None) -> Any:
        """Make a new estimator.

        Parameters
        ----------
        params
            Values by name of an argument of the function, or of a parameter of the estimator such as ``max_depth`` or
            ``svc__C``.
        seed
            Value of every ``random_state`` that is None and not in ``params``.
        threads
            Value of every ``n_jobs`` that is None and not in ``params``; None leaves them.

        Raises
        ------
        RequestError
            If it is no estimator, or has no such parameter.
        """
        own = {name: value for name, value in params.items() if name in self._arguments}
        if "seed" in self._arguments:
            own.setdefault("seed", seed)
        try:
            made = self.code(**own)
        except TypeError as error:
            if is_estimator_class(self.code):
                raise RequestError(
                    f"trainer {self.name}: cannot be made without arguments ({error}); allowed: a function of yours "
                    "that returns it"
                ) from None
            raise
        if not all(callable(getattr(made, name, None)) for name in ("fit", "predict", "get_params", "set_params")):
            raise RequestError(
                f"data: has no effect: {self.name} returned {brief(made)}, and a function reads its own data; allowed: "
                "leave it out, or a function that returns an estimator with fit, predict and get_params"
            )
        known = made.get_params()
        given = {name: value for name, value in params.items() if name not in own}
        self.check_names(list(given), made)
        for name, value in known.items():
            last = name.rpartition("__")[2]
            if value is None and name not in params and last == "random_state":
                given[name] = seed
            elif value is None and name not in params and last == "n_jobs" and threads is not None:
                given[name] = threads
        return made.set_params(**given)

    def check_arguments(self, names: Sequence[str]) -> None:
        """Check that a space with parameters ``names`` has what the function requires.

        Raises
        ------
        RequestError
            If an argument is missing, or it takes ``trial`` or ``epochs`` as an objective function does.
        """
        for name, argument in self._arguments.items():
            if name in _NOT_GIVEN and name not in names:
                raise RequestError(
                    f"data: has no effect: {self.name} takes {name}, so it is an objective function, which reads its "
                    "own data; allowed: leave it out, or a function that returns an estimator"
                )
            if argument.default is argument.empty and name not in (*names, "seed"):
                raise RequestError(
                    f"trainer {self.name}: requires the argument {name}, which is no parameter of the space"
                    f"{did_you_mean(name, list(names))}; allowed: {', '.join(names)}, or a default for it"
                )

    def check_names(self, names: Sequence[str], estimator: Any) -> None:
        """Check that each of ``names`` is an argument of the function or a parameter of its ``estimator``.

        Raises
        ------
        RequestError
            If one is not; names what is allowed.
        """
        every = sorted({*self._arguments, *estimator.get_params()})
        for name in names:
            if name not in every:
                raise RequestError(
                    f"space.{name}: {self.name} has no such parameter{did_you_mean(name, every)}; "
                    f"allowed: {', '.join(every)}"
                )

    @cached_property
    def _arguments(self) -> Mapping[str, inspect.Parameter]:
        """Arguments of a function by name; none for a class, whose estimators are given all parameters."""
        if is_estimator_class(self.code):
            return {}
        try:
            signature = inspect.signature(self.code).parameters
        except (TypeError, ValueError):
            return {}
        return {name: p for name, p in signature.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}


def is_estimator(code: Any) -> bool:
    """Whether ``code`` is a class of estimators, or a function that copies one."""
    return is_estimator_class(code) or (
        isinstance(code, partial) and any(is_estimator_class(type(each)) for each in code.args)
    )


def estimator_metrics(estimator: Any, data: DataSpec, asked: Sequence[str] = ()) -> tuple[str, ...]:
    """Metrics that the epoch of ``estimator`` reports on ``data``; ``asked`` is as for other trainers."""
    targets = data.targets("table")
    if targets:
        return value_metrics(targets)
    return class_metrics(data.signal, asked) if _has_probabilities(estimator) else _WITHOUT_PROBABILITIES


def check_estimator(spec: SweepSpec, code: Callable[..., Any]) -> None:
    """Check that the estimator of ``spec`` can be made, fits its data, and has its parameters and metrics.

    ``code`` is a class of estimators, or a function that returns one. It is called with the defaults of the space.

    Raises
    ------
    RequestError
        If something does not fit; names it, and what is allowed.
    """
    assert spec.trainer is not None
    data, name = spec.data or DataSpec(), spec.trainer.name
    made = _first_estimator(spec, code)
    targets = data.targets("table")
    kind, wanted = _kind(made), "regressor" if targets else "classifier"
    if kind is not None and kind != wanted:
        raise RequestError(
            f"trainer: {name} is a {kind}, and data.table.predict is {'values' if targets else 'classes'}; allowed: a "
            f"{wanted}, or data.table.predict: {'classes' if targets else 'values'}"
        )
    asked = [objective.metric for objective in spec.objectives]
    metrics = estimator_metrics(made, data, asked)
    reasons = {
        metric: f"{metric} needs probabilities of the classes, which {name} does not give; allowed: "
        f"{', '.join(metrics)}; or {_WITH_PROBABILITIES}"
        for metric in (() if targets else class_metrics(data.signal, asked))
    }
    check_metrics(spec, name, metrics, reasons, has_classes=not targets)
    if spec.evaluate_test and not targets and not _has_probabilities(made):
        raise RequestError(
            f"evaluate_test: true is not possible: {name} gives no probabilities of the classes; allowed: false, or "
            f"{_WITH_PROBABILITIES}"
        )


def effects_of_weights(spec: SweepSpec, code: Callable[..., Any]) -> str | None:
    """Why ``trainer.class_weights`` has no effect on the estimator of ``spec``; None if it has."""
    targets = (spec.data or DataSpec()).targets("table")
    if targets:
        return f"{', '.join(targets)}: numbers, not classes"
    if (name := _weights_in(spec.space.root)) is not None:
        return f"the space has {name}"
    if _weights_argument(_first_estimator(spec, code)) is None:
        return "fit of the estimator takes no sample_weight"
    return None


def _first_estimator(spec: SweepSpec, code: Callable[..., Any]) -> Any:
    """The estimator with the defaults of the space."""
    assert spec.trainer is not None
    recipe = EstimatorRecipe(spec.trainer.name, code)
    names = [name for name in spec.space.root if spec.cross_validation is None or name != "split"]
    recipe.check_arguments(names)
    params = spec.space.default_params() or {name: spec.space[name].extremes[0] for name in names}
    try:
        made = recipe.make({name: value for name, value in params.items() if name in names})
    except RequestError:
        raise
    except Exception as error:  # a user's code may raise anything
        raise RequestError(
            f"trainer: {spec.trainer.name} cannot be made with {params} ({type(error).__name__}: {error})"
        ) from error
    recipe.check_names(names, made)
    return made


def _kind(estimator: Any) -> str | None:
    from sklearn.base import is_classifier, is_regressor

    return "classifier" if is_classifier(estimator) else "regressor" if is_regressor(estimator) else None


def _has_probabilities(estimator: Any) -> bool:
    return hasattr(estimator, "predict_proba")


def _weights_in(names: Mapping[str, Any]) -> str | None:
    """A parameter that weighs the classes itself."""
    return next((name for name in names if name.rpartition("__")[2] == "class_weight"), None)


def _weights_argument(estimator: Any) -> str | None:
    """Argument of ``fit`` that takes a weight for each row, that of the last step of a pipeline; None without one."""
    from sklearn.pipeline import Pipeline
    from sklearn.utils.validation import has_fit_parameter

    if isinstance(estimator, Pipeline):
        name, last = estimator.steps[-1]
        inner = None if last is None or isinstance(last, str) else _weights_argument(last)
        return None if inner is None else f"{name}__{inner}"
    return "sample_weight" if has_fit_parameter(estimator, "sample_weight") else None


class SklearnTrainer:
    """Trainer of an estimator, which is fitted in one epoch.

    Parameters
    ----------
    examples
        Examples with one float32 input, shape (n, columns), and classes or numbers to predict.
    params
        Parameters of the first trial.
    estimator
        How estimators are made.
    seed
        Seed of the first trial, from 0.
    metric, mode
        The objective. Default: ``val_macro_f1`` of classes, ``val_loss`` of numbers.
    class_weights
        ``balanced``: rows of rare classes weigh more, if ``fit`` takes weights and ``params`` have no
        ``class_weight``.
    keep
        No effect, as there is one epoch.
    threads
        CPU threads of a trial. Default: as many as the libraries take.
    """

    def __init__(
        self,
        examples: ExampleSet,
        params: Mapping[str, Scalar] | None = None,
        *,
        estimator: EstimatorRecipe,
        seed: int = 0,
        metric: str | None = None,
        mode: Literal["max", "min"] | None = None,
        class_weights: Literal["balanced", "none"] = "balanced",
        keep: Keep = "best",
        threads: int | None = None,
    ) -> None:
        best = default_goal(examples)
        self._goal = ExamplesGoal(examples, metric or best[0], mode or best[1], None, class_weights)
        self._estimator, self._threads, self._keep = estimator, threads, keep
        self.reset(params or {}, seed=seed)

    @property
    def is_finished(self) -> bool:
        """Whether the estimator is fitted."""
        return self._progress.epochs_done > 0

    @property
    def has_files(self) -> bool:
        """Whether the model can be kept: skops is installed."""
        return can_write_model()

    @property
    def best_epoch(self) -> int | None:
        """1 once the estimator is fitted."""
        return self._progress.best_epoch

    @property
    def best_value(self) -> float | None:
        """Metric of the fitted estimator; None before."""
        return self._progress.best_value

    def reset(self, params: Mapping[str, Scalar], *, seed: int) -> None:
        """Start a new trial.

        Raises
        ------
        RequestError
            If the estimator has no such parameter, or the seed is negative.
        """
        check_seed(seed)
        goal = self._goal
        self._params, self._seed = dict(params), seed
        self._progress = BestEpochTracker(goal.metric, goal.mode, None, self._keep)
        self._model = self._estimator.make(params, seed=seed, threads=self._threads)
        self.notes: dict[str, Any] = {}

    def epoch(self) -> dict[str, float]:
        """Fit the estimator and measure it; empty if it is fitted already."""
        if self.is_finished:
            return {}
        metrics = self.train_epoch()
        self.finish_epoch(metrics)
        return metrics

    def train_epoch(self) -> dict[str, float]:
        """First half of :meth:`epoch`: fit and measure."""
        from threadpoolctl import threadpool_limits

        examples = self._goal.examples
        inputs, y_true = self._inputs("train"), np.asarray(examples.y_true[examples.train])
        if examples.targets:
            inputs, y_true = self._complete(inputs, y_true)
        with threadpool_limits(self._threads):
            self._model.fit(inputs, y_true, **self._weights())
            trained, measured = self._measure("train"), self._measure("val")
        if examples.classes:
            of_train = {name: trained[f"train_{name}"] for name in ("loss", "accuracy") if f"train_{name}" in trained}
            return {**of_train, **measured}
        scaled = [trained[f"train_mae_{target.name}"] / target.scale for target in examples.targets]
        return {"loss": trained["train_loss"], "mae": float(np.mean(scaled)), **measured}

    def _complete(
        self, inputs: NDArray[np.float32], y_true: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Rows that have all targets, which is what an estimator takes; one target as (n,)."""
        has_all = ~np.isnan(y_true).any(axis=1)
        if not has_all.all():
            left_out = int((~has_all).sum())
            self.notes["targets"] = f"{left_out} training rows without one of the targets were left out"
        if not has_all.any():
            raise DataError("train: no example has all targets; allowed: at least one, or the trainer mlp")
        return inputs[has_all], y_true[has_all, 0] if y_true.shape[1] == 1 else y_true[has_all]

    def finish_epoch(self, metrics: Mapping[str, float]) -> None:
        """Second half of :meth:`epoch`: record ``metrics``."""
        self._progress.finish_epoch({self._goal.metric: float("nan")} | dict(metrics))

    def evaluate(self, part: Literal["train", "val", "test"]) -> dict[str, float]:
        """Metrics, such as ``test_accuracy``, on one part of the data.

        Raises
        ------
        DataError
            If the part is empty.
        TrainerError
            If the estimator is not fitted.
        """
        check_one_of("part", part, ("train", "val", "test"))
        self._check_part(part)
        return self._measure(part)

    def save_best(self, folder: Path) -> Path:
        """Write the fitted estimator as ``model.skops`` and ``model.json``; return the path of the first.

        Raises
        ------
        StorageError
            If skops cannot write it.
        TrainerError
            If the estimator is not fitted.
        """
        self._progress.check_trained()
        goal = self._goal
        examples = goal.examples
        facts = {
            "trainer": self._estimator.name,
            "params": self._params,
            "seed": self._seed,
            "metric": goal.metric,
            "value": self._progress.best_value,
            "classes": list(examples.classes),
            "targets": [asdict(target) for target in examples.targets],
            "inputs": dict(examples.facts),
            "n_columns": examples.inputs[0].shape[1],
            "fingerprint": examples.fingerprint,
        }
        return write_model(folder, self._model, facts)

    def save_predictions(self, folder: Path) -> Path:
        """Write the predictions for the test part into ``folder``; return the path of the arrays.

        Raises
        ------
        DataError
            If there is no test part.
        TrainerError
            If the estimator is not fitted.
        """
        self._check_part("test")
        return write_predictions(folder, self._goal.predictions_of("test", self._predict("test")))

    def _check_part(self, part: str) -> None:
        self._progress.check_trained()
        if len(getattr(self._goal.examples, part)) == 0:
            raise DataError(f"part: {part!r} has no examples; allowed: a part with examples")

    def _weights(self) -> dict[str, NDArray[np.float32]]:
        """The argument of ``fit`` with the weights of the rows."""
        goal = self._goal
        if not goal.examples.classes or goal.class_weights == "none" or _weights_in(self._params) is not None:
            return {}
        argument = _weights_argument(self._model)
        if argument is None:
            self.notes["class_weights"] = f"none: fit of {self._estimator.name} takes no sample_weight"
            return {}
        return {argument: goal.weights()[goal.examples.train]}

    def _measure(self, part: str) -> dict[str, float]:
        measured = self._goal.measure(part, self._predict(part))
        if self._goal.examples.classes and not _has_probabilities(self._model):
            names = {metric.removeprefix("val_") for metric in _WITHOUT_PROBABILITIES}
            return {name: value for name, value in measured.items() if name.removeprefix(f"{part}_") in names}
        return measured

    def _predict(self, part: str) -> NDArray[np.float32]:
        """Log-probabilities (n, classes), or scaled numbers (n, targets)."""
        examples, inputs = self._goal.examples, self._inputs(part)
        if examples.classes:
            return log_probabilities(self._model, inputs, len(examples.classes))
        return np.asarray(self._model.predict(inputs), np.float32).reshape(len(inputs), -1)

    def _inputs(self, part: str) -> NDArray[np.float32]:
        rows = getattr(self._goal.examples, part)
        return np.asarray(self._goal.examples.inputs[0][rows], np.float32)
