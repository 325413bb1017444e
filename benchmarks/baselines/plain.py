"""The two lines that a scientist types first: scikit-learn's boosted trees with their defaults, or a ridge regression
whose penalty is chosen by leaving out one row at a time, on all rows but the test part."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import RidgeCV

from aifs_tune.data.examples import ExampleSet, open_examples
from aifs_tune.trainers.network.examples import ExamplesGoal, default_goal

PENALTIES = tuple(10.0 ** (power / 2) for power in range(-4, 9))


def score_ridge(location: str) -> dict[str, float]:
    """Fit ridge regressions to the training and validation parts, and measure them on the test part, one a number."""
    examples = open_examples(Path(location))
    return measure_test(examples, _numbers(examples, lambda: RidgeCV(PENALTIES)))


def score_plain(location: str) -> dict[str, float]:
    """Fit to the training and validation parts, and measure on the test part: a model of the classes, if there are any,
    and one of each number."""
    return score_plain_of(open_examples(Path(location)))


def score_plain_of(examples: ExampleSet) -> dict[str, float]:
    """:func:`score_plain` of examples in memory."""
    parts = [_numbers(examples, HistGradientBoostingRegressor)] if examples.targets else []
    if examples.classes:
        rows, both, test = _rows(examples), np.concatenate([examples.train, examples.val]), examples.test
        model = HistGradientBoostingClassifier().fit(rows[both], examples.labels[both])
        probabilities = np.zeros((len(test), len(examples.classes)))
        probabilities[:, model.classes_] = model.predict_proba(rows[test])
        parts.insert(0, np.log(np.maximum(probabilities, np.finfo(np.float32).tiny)))
    return measure_test(examples, np.concatenate(parts, axis=1))


def measure_test(examples: ExampleSet, outputs: NDArray[np.floating]) -> dict[str, float]:
    """Metrics of the test part, named without its prefix.

    ``outputs`` has shape (n, classes + targets): log-probabilities, then scaled numbers.
    """
    goal = ExamplesGoal(examples, *default_goal(examples), None, "none")
    measured = goal.measure("test", outputs.astype(np.float32))
    return {name.removeprefix("test_"): value for name, value in measured.items()}


def _rows(examples: ExampleSet) -> NDArray[np.float32]:
    return examples.inputs[0].reshape(len(examples.inputs[0]), -1)


def _numbers(examples: ExampleSet, make: Callable[[], Any]) -> NDArray[np.float64]:
    """Answers for the test part of one model for each number, fitted to the rows that have it, shape (n, targets)."""
    rows, both = _rows(examples), np.concatenate([examples.train, examples.val])
    answers = []
    for column in examples.numbers.T:
        known = both[~np.isnan(column[both])]
        answers.append(make().fit(rows[known], column[known]).predict(rows[examples.test]))
    return np.stack(answers, axis=1)
