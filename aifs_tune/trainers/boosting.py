"""What can be tuned in a trial of gradient boosting. Loads no scikit-learn."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from aifs_tune._util.scalars import Scalar
from aifs_tune.data.examples import ExampleSet
from aifs_tune.errors import DataError, RequestError
from aifs_tune.space.parameters import FloatParameter, IntParameter, Parameter
from aifs_tune.trainers.feature_selection import KEPT, n_kept, ranked_columns
from aifs_tune.trainers.network.examples import ExamplesGoal, default_goal
from aifs_tune.trainers.network.params import Configuration
from aifs_tune.trainers.network.trial_state import BestEpochTracker, check_one_of, check_seed
from aifs_tune.trainers.predictions import write_predictions

ALLOWED: dict[str, Parameter] = {
    "learning_rate": FloatParameter(low=1e-6, high=1),
    "trees": IntParameter(low=1, high=10_000, description="Added in each epoch, for each class."),
    "leaves": IntParameter(low=2, high=65536, description="Of a tree, at most."),
    "leaf_samples": IntParameter(low=1, high=1_000_000, description="Rows in a leaf, at least."),
    "l2": FloatParameter(low=0, high=1e6, description="Regularisation of the leaves' values."),
    "columns": FloatParameter(low=1e-4, high=1, description="Share of the columns that a split is searched in."),
    "kept_columns": KEPT,
}
"""What each parameter can be."""

STATIC_PARAMS: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class BoostingParams(Configuration):
    """One configuration. The defaults are scikit-learn's, ten trees an epoch."""

    trainer: ClassVar[str] = "boosting"
    allowed: ClassVar = ALLOWED

    learning_rate: float = 0.1
    trees: int = 10
    leaves: int = 31
    leaf_samples: int = 20
    l2: float = 0.0
    columns: float = 1.0
    kept_columns: float = 1.0


_STEPS = 255
"""That scikit-learn's trees tell apart at most."""


def stepped(column: NDArray[np.float32], training: NDArray[np.float32]) -> NDArray[np.float32]:
    """``column`` (n,) as the number of the step that each value is in: steps hold equally many of ``training`` (m,).
    Unchanged if there are no more different values there than steps."""
    if len(np.unique(training)) <= _STEPS:
        return column
    edges = np.unique(np.quantile(training, np.arange(1, _STEPS) / _STEPS, method="averaged_inverted_cdf"))
    return np.searchsorted(edges, column, side="right").astype(np.float32)


class BoostingTrainer:
    """Histogram-based boosting (Ke et al. 2017, as scikit-learn has it); an epoch adds ``trees`` trees for each output.

    Parameters
    ----------
    examples
        One input of float32, shape (n, columns); classes, or one number to predict.
    threads
        Of a trial; None for all CPUs.

    All others are those of :class:`~aifs_tune.trainers.network.examples.ExamplesTrainer`; ``precision``, ``epochs`` and
    ``devices`` mean nothing to trees.
    """

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
        precision: str = "auto",
        epochs: int = 20,
        threads: int | None = None,
        devices: float = 1,
    ) -> None:
        del precision, epochs, devices
        best = default_goal(examples)
        self._goal = ExamplesGoal(examples, metric or best[0], mode or best[1], patience, class_weights)
        self._threads = threads
        if not examples.classes and len(examples.targets) != 1:
            names = ", ".join(target.name for target in examples.targets)
            raise RequestError(f"target: {names} are {len(examples.targets)} numbers; allowed for boosting: one")
        self.reset(params or {}, seed=seed)

    @property
    def is_finished(self) -> bool:
        """Whether ``patience`` ran out."""
        return self._progress.is_finished

    @property
    def best_epoch(self) -> int | None:
        """Counted from 1; None before the first finite value."""
        return self._progress.best_epoch

    @property
    def best_value(self) -> float | None:
        """The metric at the best epoch."""
        return self._progress.best_value

    def reset(self, params: Mapping[str, Scalar], *, seed: int) -> None:
        """Start a new trial.

        Raises
        ------
        RequestError
            If a parameter is unknown or not allowed, or the seed is negative.
        """
        check_seed(seed)
        goal = self._goal
        self._params = BoostingParams.from_mapping(params)
        self._progress = BestEpochTracker(goal.metric, goal.mode, goal.patience)
        self._model = self._made(seed)
        n_columns = goal.examples.inputs[0].shape[1]
        kept = n_kept(self._params.kept_columns, n_columns)
        self._columns = np.sort(self._ranked[:kept]) if kept < n_columns else np.arange(n_columns)

    @cached_property
    def _ranked(self) -> NDArray[np.intp]:
        return ranked_columns(self._goal.examples)

    def epoch(self) -> dict[str, float]:
        """Add trees and measure; empty if already finished."""
        if self.is_finished:
            return {}
        metrics = self.train_epoch()
        self.judge(metrics)
        return metrics

    def train_epoch(self) -> dict[str, float]:
        """The first half of :meth:`epoch`: add trees and measure, and leave open what that is worth."""
        from threadpoolctl import threadpool_limits

        goal, model = self._goal, self._model
        examples = goal.examples
        model.set_params(max_iter=(self._progress.epochs_done + 1) * self._params.trees)
        inputs, y_true = self._inputs("train"), examples.y_true[examples.train]
        weights = goal.weights()[examples.train]
        with threadpool_limits(self._threads):
            model.fit(inputs, y_true if examples.classes else y_true[:, 0], sample_weight=weights)
            trained, measured = self._measure("train"), self._measure("val")
        if examples.classes:
            return {"loss": trained["train_loss"], "accuracy": trained["train_accuracy"], **measured}
        (target,) = examples.targets
        mae = trained[f"train_mae_{target.name}"] / target.scale
        return {"loss": trained["train_loss"], "mae": mae, **measured}

    def judge(self, metrics: Mapping[str, float]) -> None:
        """The second half: the trees that were added last count as worth ``metrics``, their own or others."""
        self._progress.finish_epoch(metrics)

    def evaluate(self, part: Literal["train", "val", "test"]) -> dict[str, float]:
        """Measure the trees up to the best epoch on one part: ``test_loss`` and so on.

        Raises
        ------
        RequestError
            If there is no such part; TrainerError if no epoch was trained yet.
        """
        check_one_of("part", part, ("train", "val", "test"))
        with self._best_trees():
            return self._measure(part)

    def save_predictions(self, folder: Path) -> Path:
        """Write what the trees up to the best epoch answer for the test part into ``folder``; the path of the arrays.

        Raises
        ------
        DataError
            If there is no test part; TrainerError if no epoch was trained yet.
        """
        if len(self._goal.examples.test) == 0:
            raise DataError("part: 'test' is empty; allowed: a part with examples")
        with self._best_trees():
            return write_predictions(folder, self._goal.predictions_of("test", self._predict("test")))

    @contextmanager
    def _best_trees(self) -> Iterator[None]:
        self._progress.check_trained()
        everything, self._model = self._model, self._first_trees((self.best_epoch or 0) * self._params.trees)
        try:
            yield
        finally:
            self._model = everything

    def _first_trees(self, n: int) -> Any:
        model = copy.copy(self._model)
        model._predictors = model._predictors[:n]
        return model

    def _measure(self, part: str) -> dict[str, float]:
        return self._goal.measure(part, self._predict(part))

    def _predict(self, part: str) -> NDArray[np.float32]:
        """Logarithms (n, classes) of probabilities, or scaled numbers (n, 1)."""
        examples = self._goal.examples
        inputs = self._inputs(part)
        if not examples.classes:
            return np.asarray(self._model.predict(inputs), np.float32)[:, None]
        shares = np.zeros((len(inputs), len(examples.classes)))
        shares[:, self._model.classes_] = self._model.predict_proba(inputs)
        return np.log(np.maximum(shares, np.finfo(np.float32).tiny)).astype(np.float32)

    def _inputs(self, part: str) -> NDArray[np.float32]:
        """Of the columns that are kept."""
        rows = getattr(self._goal.examples, part)
        return np.asarray(self._stepped[np.ix_(rows, self._columns)])

    @cached_property
    def _stepped(self) -> NDArray[np.float32]:
        """The inputs (n, columns) in at most 255 steps each, which are as many as trees tell apart.

        Each fit of scikit-learn looks for these steps anew, with weights one quantile at a time, and an epoch is a fit.
        """
        inputs = self._goal.examples.inputs[0]
        return np.stack([stepped(column, column[self._goal.examples.train]) for column in inputs.T], axis=1)

    def _made(self, seed: int) -> Any:
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        params, kind = self._params, HistGradientBoostingClassifier
        if not self._goal.examples.classes:
            kind = HistGradientBoostingRegressor
        return kind(
            learning_rate=params.learning_rate,
            max_leaf_nodes=params.leaves,
            min_samples_leaf=params.leaf_samples,
            l2_regularization=params.l2,
            max_features=params.columns,
            early_stopping=False,
            warm_start=True,
            random_state=seed,
        )
