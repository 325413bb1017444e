"""Gradient boosting on a table: hyperparameters and trainer. Loads no scikit-learn before a trial."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from aifs_tune._util.scalars import Scalar
from aifs_tune.data.examples import ExampleSet
from aifs_tune.errors import DataError, RequestError
from aifs_tune.space.parameters import FloatParameter, IntParameter, Parameter
from aifs_tune.trainers.feature_selection import KEPT_COLUMNS, n_kept, ranked_columns
from aifs_tune.trainers.network.examples import ExamplesGoal, default_goal
from aifs_tune.trainers.network.params import Configuration
from aifs_tune.trainers.network.trial_state import BestEpochTracker, Keep, check_one_of, check_seed
from aifs_tune.trainers.predictions import write_predictions
from aifs_tune.trainers.trees import write_trees

ALLOWED: dict[str, Parameter] = {
    "learning_rate": FloatParameter(low=1e-6, high=1, description="Factor of each tree's values."),
    "trees": IntParameter(low=1, high=10_000, description="Trees that an epoch adds for each class."),
    "leaves": IntParameter(low=2, high=65536, description="Maximum number of leaves of a tree."),
    "leaf_samples": IntParameter(low=1, high=1_000_000, description="Minimum number of rows in a leaf."),
    "l2": FloatParameter(low=0, high=1e6, description="L2 penalty of the leaves' values."),
    "columns": FloatParameter(low=1e-4, high=1, description="Share of the columns that are candidates for a split."),
    "kept_columns": KEPT_COLUMNS,
}
"""Allowed values of each hyperparameter."""


@dataclass(frozen=True, kw_only=True)
class BoostingParams(Configuration):
    """Hyperparameters. The defaults are those of scikit-learn, with ten trees in each epoch."""

    trainer: ClassVar[str] = "boosting"
    allowed: ClassVar = ALLOWED

    learning_rate: float = 0.1
    trees: int = 10
    leaves: int = 31
    leaf_samples: int = 20
    l2: float = 0.0
    columns: float = 1.0
    kept_columns: float = 1.0


_MAX_BINS = 255
"""Largest number of bins of a column in scikit-learn's trees."""


def bin_edges(training: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bounds of bins that hold equally many values of ``training`` (m,).

    None if ``training`` has no more different values than there are bins.
    """
    if len(np.unique(training)) <= _MAX_BINS:
        return np.zeros(0, np.float32)
    shares = np.arange(1, _MAX_BINS) / _MAX_BINS
    return np.unique(np.quantile(training, shares, method="averaged_inverted_cdf")).astype(np.float32)


def binned(column: NDArray[np.float32], edges: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bin of each value of ``column`` (n,); the values themselves without ``edges``."""
    return np.searchsorted(edges, column, side="right").astype(np.float32) if len(edges) else column


class BoostingTrainer:
    """Trainer of histogram-based gradient boosting (Ke et al. 2017, as in scikit-learn).

    An epoch adds ``trees`` trees for each output.

    Parameters
    ----------
    examples
        Examples with one float32 input, shape (n, columns), and classes or one number to predict.
    threads
        CPU threads of a trial. Default: all CPUs.

    All other parameters are those of :class:`~aifs_tune.trainers.network.examples.ExamplesTrainer`; ``precision``,
    ``epochs`` and ``devices`` have no effect.
    """

    params_type: ClassVar = BoostingParams

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
        keep: Keep = "best",
        threads: int | None = None,
        devices: float = 1,
    ) -> None:
        del precision, epochs, devices
        best = default_goal(examples)
        self._goal = ExamplesGoal(examples, metric or best[0], mode or best[1], patience, class_weights)
        self._threads, self._keep = threads, keep
        if examples.targets and bool(examples.classes) + len(examples.targets) > 1:
            names, beside = ", ".join(target.name for target in examples.targets), " beside classes"
            found = f"{names} are {len(examples.targets)} numbers{beside if examples.classes else ''}"
            raise RequestError(f"target: {found}; allowed for boosting: classes, or one number")
        self.reset(params or {}, seed=seed)

    @property
    def is_finished(self) -> bool:
        """Whether the best epoch is ``patience`` epochs ago."""
        return self._progress.is_finished

    @property
    def best_epoch(self) -> int | None:
        """Best epoch, counted from 1; None before the first finite value."""
        return self._progress.best_epoch

    @property
    def best_value(self) -> float | None:
        """Metric of the best epoch; None before the first finite value."""
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
        self._params, self._seed = BoostingParams.from_mapping(params), seed
        self._progress = BestEpochTracker(goal.metric, goal.mode, goal.patience, self._keep)
        self._model = self._make_model(seed)
        n_columns = goal.examples.inputs[0].shape[1]
        kept = n_kept(self._params.kept_columns, n_columns)
        self._columns = np.sort(self._ranking[:kept]) if kept < n_columns else np.arange(n_columns)

    @cached_property
    def _ranking(self) -> NDArray[np.intp]:
        return ranked_columns(self._goal.examples)

    def epoch(self) -> dict[str, float]:
        """Add trees and measure; empty if already finished."""
        if self.is_finished:
            return {}
        metrics = self.train_epoch()
        self.finish_epoch(metrics)
        return metrics

    def train_epoch(self) -> dict[str, float]:
        """First half of :meth:`epoch`: add trees and measure, without a decision on the best epoch."""
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

    def finish_epoch(self, metrics: Mapping[str, float]) -> None:
        """Second half of :meth:`epoch`: record ``metrics`` for the last epoch."""
        self._progress.finish_epoch(metrics)

    def evaluate(self, part: Literal["train", "val", "test"]) -> dict[str, float]:
        """Metrics, such as ``test_loss``, of the trees up to the best epoch on one part of the data.

        Raises
        ------
        RequestError
            If there is no such part.
        TrainerError
            If no epoch was trained yet.
        """
        check_one_of("part", part, ("train", "val", "test"))
        with self._best_trees():
            return self._measure(part)

    def save_best(self, folder: Path) -> Path:
        """Write the trees up to the best epoch as ``weights.npz`` and ``weights.json``; return the path of the first.

        Raises
        ------
        TrainerError
            If no epoch was trained yet.
        """
        goal, progress = self._goal, self._progress
        examples = goal.examples
        facts = {
            "params": asdict(self._params),
            "seed": self._seed,
            "epoch": progress.best_epoch,
            "metric": goal.metric,
            "value": progress.best_value,
            "classes": list(examples.classes),
            "targets": [asdict(target) for target in examples.targets],
            "inputs": dict(examples.facts),
            "n_columns": examples.inputs[0].shape[1],
            "fingerprint": examples.fingerprint,
        }
        with self._best_trees():
            edges = [self._edges[column] for column in self._columns]
            return write_trees(folder, self._model, self._columns, edges, facts)

    def save_predictions(self, folder: Path) -> Path:
        """Write the predictions of the best epoch for the test part into ``folder``; return the path of the arrays.

        Raises
        ------
        DataError
            If there is no test part.
        TrainerError
            If no epoch was trained yet.
        """
        if len(self._goal.examples.test) == 0:
            raise DataError("part: 'test' has no examples; allowed: a part with examples")
        with self._best_trees():
            return write_predictions(folder, self._goal.predictions_of("test", self._predict("test")))

    @contextmanager
    def _best_trees(self) -> Iterator[None]:
        self._progress.check_trained()
        all_trees, self._model = self._model, self._first_trees((self.best_epoch or 0) * self._params.trees)
        try:
            yield
        finally:
            self._model = all_trees

    def _first_trees(self, n: int) -> Any:
        model = copy.copy(self._model)
        model._predictors = model._predictors[:n]
        return model

    def _measure(self, part: str) -> dict[str, float]:
        return self._goal.measure(part, self._predict(part))

    def _predict(self, part: str) -> NDArray[np.float32]:
        """Log-probabilities (n, classes), or scaled numbers (n, 1)."""
        examples = self._goal.examples
        inputs = self._inputs(part)
        if not examples.classes:
            return np.asarray(self._model.predict(inputs), np.float32)[:, None]
        probabilities = np.zeros((len(inputs), len(examples.classes)))
        probabilities[:, self._model.classes_] = self._model.predict_proba(inputs)
        return np.log(np.maximum(probabilities, np.finfo(np.float32).tiny)).astype(np.float32)

    def _inputs(self, part: str) -> NDArray[np.float32]:
        """Binned values of the kept columns in one part."""
        rows = getattr(self._goal.examples, part)
        return np.asarray(self._binned[np.ix_(rows, self._columns)])

    @cached_property
    def _binned(self) -> NDArray[np.float32]:
        """Inputs (n, columns) in at most 255 bins each, as many as scikit-learn's trees have.

        Without this, scikit-learn would search the bins again in the fit of each epoch, and slowly with weights.
        """
        inputs = self._goal.examples.inputs[0]
        return np.stack([binned(*each) for each in zip(inputs.T, self._edges, strict=True)], axis=1)

    @cached_property
    def _edges(self) -> list[NDArray[np.float32]]:
        """Bounds of the bins of each column."""
        examples = self._goal.examples
        return [bin_edges(column[examples.train]) for column in examples.inputs[0].T]

    def _make_model(self, seed: int) -> Any:
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
