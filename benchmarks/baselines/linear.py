"""A linear model on the examples of a sweep: the least that a network has to beat."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, Ridge

from aifs_tune.config.loading import parse_sweep
from aifs_tune.data.examples import ExampleSet, open_examples
from aifs_tune.trainers.network.examples import ExamplesGoal

PENALTIES = tuple(10.0**power for power in range(-2, 5))
"""Of the squares of a linear model's weights: the one that is best on the validation part is taken."""


def score_linear(told: dict[str, Any], location: str) -> dict[str, float]:
    """Ridge regression, of classes logistic regression, on all numbers of an example in one row: the penalty that is
    best on the validation part, measured on the test part."""
    spec, examples = parse_sweep(told), open_examples(Path(location))
    assert spec.trainer is not None
    metric, mode = spec.objective.metric, spec.objective.mode
    goal = ExamplesGoal(examples, metric, mode, None, spec.trainer.class_weights)
    sign = 1 if mode == "max" else -1
    _, penalty, y_pred = max(
        ((sign * goal.measure("val", found["val"])[metric], penalty, found) for penalty, found in _linear(goal)),
        key=lambda one: one[0],
    )
    measured = {name.removeprefix("test_"): value for name, value in goal.measure("test", y_pred["test"]).items()}
    return {"penalty": penalty, "val": goal.measure("val", y_pred["val"])[metric], **measured}


def _linear(goal: ExamplesGoal) -> Iterator[tuple[float, dict[str, NDArray[np.float32]]]]:
    """Each penalty, and the answers of the model with it for the validation and test part."""
    examples = goal.examples
    rows, weights = _rows(examples), goal.weights()[examples.train]
    for penalty in PENALTIES:
        if not examples.classes:
            models = [_ridge(penalty, rows, examples, target) for target in range(len(examples.targets))]
            yield (
                penalty,
                {
                    part: np.stack([each.predict(rows[getattr(examples, part)]) for each in models], axis=1)
                    for part in ("val", "test")
                },
            )
            continue
        model = LogisticRegression(C=1 / penalty, max_iter=2000)
        model.fit(rows[examples.train], examples.y_true[examples.train], sample_weight=weights)
        yield penalty, {part: _answers(model, rows[getattr(examples, part)]) for part in ("val", "test")}


def _ridge(penalty: float, rows: NDArray[np.float32], examples: ExampleSet, target: int) -> Any:
    """Ridge regression of one target on the training rows that have it."""
    known = examples.train[~np.isnan(examples.y_true[examples.train, target])]
    return Ridge(alpha=penalty).fit(rows[known], examples.y_true[known, target])


def _rows(examples: ExampleSet) -> NDArray[np.float32]:
    """The values of each example beside each other; the lengths of series are left out."""
    values = examples.inputs[0]
    return np.asarray(values.reshape(len(values), -1), np.float32)


def _answers(model: Any, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.log(np.maximum(model.predict_proba(rows), np.finfo(np.float32).tiny)).astype(np.float32)
