"""The two lines that a scientist types first: scikit-learn's boosted trees with their defaults, or a ridge regression
whose penalty is chosen by leaving out one row at a time, on all rows but the test part."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import RidgeCV

from aifs_tune.data.examples import ExampleSet, open_examples
from aifs_tune.trainers.network.metrics import measure, measure_values

PENALTIES = tuple(10.0 ** (power / 2) for power in range(-4, 9))


def score_ridge(location: str) -> dict[str, float]:
    """Fit ridge regressions to the training and validation parts, and measure them on the test part, one a number."""
    examples = open_examples(Path(location))
    return _score_values(examples, lambda: RidgeCV(PENALTIES))


def score_plain(location: str) -> dict[str, float]:
    """Fit to the training and validation parts, and measure on the test part; of several numbers, one model each."""
    examples = open_examples(Path(location))
    if examples.classes:
        rows = examples.inputs[0].reshape(len(examples.inputs[0]), -1)
        both = np.concatenate([examples.train, examples.val])
        y_true = examples.y_true[examples.test]
        model = HistGradientBoostingClassifier().fit(rows[both], examples.y_true[both])
        probabilities = np.zeros((len(y_true), len(examples.classes)))
        probabilities[:, model.classes_] = model.predict_proba(rows[examples.test])
        return measure(y_true, np.log(np.maximum(probabilities, np.finfo(np.float32).tiny)).astype(np.float32))
    return _score_values(examples, HistGradientBoostingRegressor)


def _score_values(examples: ExampleSet, make: Callable[[], Any]) -> dict[str, float]:
    """Fit one model for each target to the rows that have it."""
    rows = examples.inputs[0].reshape(len(examples.inputs[0]), -1)
    both = np.concatenate([examples.train, examples.val])
    answers = []
    for column in examples.y_true.T:
        known = both[~np.isnan(column[both])]
        answers.append(make().fit(rows[known], column[known]).predict(rows[examples.test]))
    y_pred = np.stack(answers, axis=1).astype(np.float32)
    return measure_values(examples.y_true[examples.test], y_pred, examples.targets)
