"""What a tuned network has to beat on the same data, beside the configuration that its sweep file begins with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, Ridge

from aifs_tune.data.examples import ExampleSet, open_examples
from aifs_tune.errors import RequestError
from aifs_tune.spec import SweepSpec
from aifs_tune.sweep_file import parse_sweep
from aifs_tune.trainers.examples_task import ExamplesGoal

PENALTIES = tuple(10.0**power for power in range(-2, 5))
"""Of the squares of a linear model's weights: the one that is best on the validation part is taken."""
OF_KIND = {"trees": ("table",), "cnn": ("images",), "linear": ("table", "series", "frames")}
"""What each baseline can learn from; those that are not here take what the trainer of the sweep does."""


def check_baseline(name: str, kind: str) -> None:
    """Refuse a baseline that cannot learn from data of this kind.

    Raises
    ------
    RequestError
        If it cannot.
    """
    kinds = OF_KIND.get(name, (kind,))
    if kind not in kinds:
        others = [one for one in ("file", "trainer", *OF_KIND) if kind in OF_KIND.get(one, (kind,))]
        raise RequestError(
            f"--baseline: {name} learns from {' or '.join(kinds)}, the sweep from {kind}; allowed: {', '.join(others)}"
        )


def other_trainer(name: str, spec: SweepSpec) -> tuple[dict[str, Any], dict[str, Any]]:
    """The same question put to another trainer, and its parameters: ``trees``, ten an epoch, or ``cnn``, the published
    network at a learning rate of 1e-3."""
    trainer, params = {"trees": ("boosting", {"trees": 10}), "cnn": ("cnn", {"learning_rate": 1e-3})}[name]
    told = spec.model_dump(mode="json")
    kept = {key: told[key] for key in ("version", "name", "data", "objective")}
    how = {key: told["trainer"][key] for key in ("patience", "class_weights")}
    search = {"epochs": told["search"]["epochs"]}
    return {**kept, "trainer": {"name": trainer, **how}, "search": search, "space": params}, params


def score_linear(told: dict[str, Any], location: str) -> dict[str, float]:
    """Ridge regression, of classes logistic regression, on all numbers of an example in one row: the penalty that is
    best on the validation part, measured on the test part."""
    spec, examples = parse_sweep(told), open_examples(Path(location))
    assert spec.trainer is not None
    metric, mode = spec.objective.metric, spec.objective.mode
    goal = ExamplesGoal(examples, metric, mode, None, spec.trainer.class_weights)
    sign = 1 if mode == "max" else -1
    _, penalty, answers = max(
        ((sign * goal.measure("val", found["val"])[metric], penalty, found) for penalty, found in _linear(goal)),
        key=lambda one: one[0],
    )
    measured = {name.removeprefix("test_"): value for name, value in goal.measure("test", answers["test"]).items()}
    return {"penalty": penalty, "val": goal.measure("val", answers["val"])[metric], **measured}


def _linear(goal: ExamplesGoal) -> Iterator[tuple[float, dict[str, NDArray[np.float32]]]]:
    """Each penalty, and the answers of the model with it for the validation and test part."""
    examples = goal.examples
    rows, weights = _rows(examples), goal.weights()[examples.train]
    for penalty in PENALTIES:
        model = LogisticRegression(C=1 / penalty, max_iter=2000) if examples.classes else Ridge(alpha=penalty)
        model.fit(rows[examples.train], examples.truths[examples.train], sample_weight=weights)
        yield penalty, {part: _answers(model, rows[getattr(examples, part)], examples) for part in ("val", "test")}


def _rows(examples: ExampleSet) -> NDArray[np.float32]:
    """The values of each example beside each other; the lengths of series are left out."""
    values = examples.inputs[0]
    return np.asarray(values.reshape(len(values), -1), np.float32)


def _answers(model: Any, rows: NDArray[np.float32], examples: ExampleSet) -> NDArray[np.float32]:
    if not examples.classes:
        return np.asarray(model.predict(rows), np.float32).reshape(len(rows), -1)
    return np.log(np.maximum(model.predict_proba(rows), np.finfo(np.float32).tiny)).astype(np.float32)
