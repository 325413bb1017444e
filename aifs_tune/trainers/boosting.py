"""Gradient boosting of trees on a table: the honest baseline of every network there (scikit-learn)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from aifs_tune.data.examples import ExampleSet
from aifs_tune.errors import RequestError, TrainerError
from aifs_tune.scalars import Scalar, brief
from aifs_tune.trainers.boosting_params import ALLOWED, BoostingParams
from aifs_tune.trainers.course import check_one_of
from aifs_tune.trainers.examples_task import metrics_of
from aifs_tune.trainers.image_task import check_classes, class_weights
from aifs_tune.trainers.metrics import measure, measure_values


class BoostingTrainer:
    """Histogram-based boosting (Ke et al. 2017, as scikit-learn has it); an epoch adds ``trees`` trees for each output.

    Parameters
    ----------
    examples
        One input of float32, shape (n, columns); classes, or one number to predict.
    metric, mode
        What decides which epoch is best; see :class:`~aifs_tune.trainers.examples_trainer.ExamplesTrainer`.
    patience
        Epochs without a better value after which the trial is finished; None for no limit.
    threads
        Of a trial; None for all CPUs.

    Raises
    ------
    RequestError
        If an argument is not allowed; DataError if nothing can be learnt or measured on ``examples``.
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
        devices: int = 1,
    ) -> None:
        del precision, epochs, devices  # every trainer of a sweep gets them; trees need none
        self._examples, self._patience, self._threads = examples, patience, threads
        self._metric = metric or ("val_macro_f1" if examples.classes else "val_loss")
        self._sign = 1 if (mode or ("max" if examples.classes else "min")) == "max" else -1
        self._is_balanced = class_weights == "balanced"
        check_one_of("metric", self._metric, metrics_of([target.name for target in examples.targets]))
        check_one_of("class_weights", class_weights, ("balanced", "none"))
        if examples.classes:
            check_classes(examples.truths, examples.train, examples.val, "examples")
        elif len(examples.targets) != 1:
            names = ", ".join(target.name for target in examples.targets)
            raise RequestError(f"target: {names} are {len(examples.targets)} numbers; allowed for boosting: one")
        self.reset(params or {}, seed=seed)

    @property
    def is_finished(self) -> bool:
        """Whether ``patience`` ran out."""
        return self._patience is not None and self._epochs - self._best_epoch >= self._patience

    def reset(self, params: Mapping[str, Scalar], *, seed: int) -> None:
        """Start a new trial.

        Raises
        ------
        RequestError
            If a parameter is unknown or not allowed, or the seed is negative.
        """
        if seed < 0:
            raise RequestError(f"seed: {seed} is not allowed; allowed: a whole number from 0")
        for name, value in params.items():
            if name not in ALLOWED:
                known = ", ".join(ALLOWED)
                raise RequestError(f"{brief(name)}: {brief(value)} is for no parameter of boosting; allowed: {known}")
        self._params = BoostingParams(**params)  # type: ignore[arg-type]
        self._model = self._made(seed)
        self._epochs = self._best_epoch = 0
        self._best_value: float | None = None

    def epoch(self) -> dict[str, float]:
        """Add trees and measure; empty if already finished."""
        from threadpoolctl import threadpool_limits

        if self.is_finished:
            return {}
        examples, model = self._examples, self._model
        self._epochs += 1
        model.set_params(max_iter=self._epochs * self._params.trees)
        inputs, truths = examples.inputs[0][examples.train], examples.truths[examples.train]
        weights = None
        if examples.classes and self._is_balanced:
            weights = class_weights(truths, len(examples.classes))[truths]
        with threadpool_limits(self._threads):
            model.fit(inputs, truths if examples.classes else truths[:, 0], sample_weight=weights)
            trained, measured = self._measure("train"), self._measure("val")
        first = "accuracy" if examples.classes else "mae"
        spread = 1.0 if examples.classes else examples.targets[0].scale
        score = trained["train_accuracy" if examples.classes else f"train_mae_{examples.targets[0].name}"] / spread
        metrics = {"loss": trained["train_loss"], first: score, **measured}
        value = metrics[self._metric]
        if np.isfinite(value) and (self._best_value is None or self._sign * (value - self._best_value) > 0):
            self._best_epoch, self._best_value = self._epochs, value
        return metrics

    @property
    def best_epoch(self) -> int | None:
        """Counted from 1; None before the first finite value."""
        return self._best_epoch or None

    @property
    def best_value(self) -> float | None:
        """The metric at the best epoch."""
        return self._best_value

    def evaluate(self, part: Literal["train", "val", "test"]) -> dict[str, float]:
        """Measure the trees up to the best epoch on one part: ``test_loss`` and so on.

        Raises
        ------
        RequestError
            If there is no such part; TrainerError if no epoch was trained yet.
        """
        check_one_of("part", part, ("train", "val", "test"))
        if self._best_value is None:
            raise TrainerError(f"no epoch of {self._epochs} has a finite {self._metric}, so none is best")
        everything, self._model = self._model, self._first_trees(self._best_epoch * self._params.trees)
        try:
            return self._measure(part)
        finally:
            self._model = everything

    def _first_trees(self, n: int) -> Any:
        model = copy.copy(self._model)
        model._predictors = model._predictors[:n]
        return model

    def _measure(self, part: str) -> dict[str, float]:
        examples, picked = self._examples, getattr(self._examples, part)
        inputs, truths = examples.inputs[0][picked], examples.truths[picked]
        if examples.classes:
            with np.errstate(divide="ignore"):
                shares = np.zeros((len(picked), len(examples.classes)))
                shares[:, self._model.classes_] = self._model.predict_proba(inputs)
                answers = np.log(np.maximum(shares, np.finfo(np.float32).tiny)).astype(np.float32)
            found = measure(truths, answers)
        else:
            answers = np.asarray(self._model.predict(inputs), np.float32)[:, None]
            found = measure_values(truths, answers, examples.targets)
        return {f"{part}_{name}": value for name, value in found.items()}

    def _made(self, seed: int) -> Any:
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        params, kind = self._params, HistGradientBoostingClassifier
        if not self._examples.classes:
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
