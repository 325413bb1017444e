"""The two lines that a scientist types first: scikit-learn's boosted trees with their defaults, on all rows but the
test part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from aifs_tune.data.examples import ExampleSet, open_examples
from aifs_tune.trainers.network.metrics import measure, measure_values


def score_plain(location: str) -> dict[str, float]:
    """Fit to the training and validation parts, and measure on the test part; of several numbers, one model each."""
    examples = open_examples(Path(location))
    rows = examples.inputs[0].reshape(len(examples.inputs[0]), -1)
    both = np.concatenate([examples.train, examples.val])
    y_true = examples.y_true[examples.test]
    if examples.classes:
        model = HistGradientBoostingClassifier().fit(rows[both], examples.y_true[both])
        probabilities = np.zeros((len(y_true), len(examples.classes)))
        probabilities[:, model.classes_] = model.predict_proba(rows[examples.test])
        return measure(y_true, np.log(np.maximum(probabilities, np.finfo(np.float32).tiny)).astype(np.float32))
    y_pred = np.stack([_fitted(examples, rows, both, target) for target in range(y_true.shape[1])], axis=1)
    return measure_values(y_true, y_pred.astype(np.float32), examples.targets)


def _fitted(examples: ExampleSet, rows: Any, both: Any, target: int) -> Any:
    model = HistGradientBoostingRegressor().fit(rows[both], examples.y_true[both, target])
    return model.predict(rows[examples.test])
