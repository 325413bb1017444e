"""ROC and precision-recall curves of one class against the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from aifs_tune.analysis.scores import Array


@dataclass(frozen=True, eq=False)
class Curves:
    """Of one class: the areas, and the curves as arrays of equal length.

    ``recalls`` fall along ``precisions``; ``average_precision`` is the sum of the steps below that curve, without
    interpolation.
    """

    name: str
    auc: float
    average_precision: float
    false_positive_rates: Array
    true_positive_rates: Array
    recalls: Array
    precisions: Array

    def to_dict(self) -> dict[str, Any]:
        arrays = ("false_positive_rates", "true_positive_rates", "recalls", "precisions")
        areas = {"name": self.name, "auc": self.auc, "average_precision": self.average_precision}
        return areas | {name: getattr(self, name).tolist() for name in arrays}


def curves_of(name: str, is_one: NDArray[np.bool_], probabilities: Array) -> Curves | None:
    """The curves of a class from its probabilities (n,), or None if all examples are of it or none is."""
    if is_one.all() or not is_one.any():
        return None
    false_positive, true_positive, _ = roc_curve(is_one, probabilities)
    precision, recall, _ = precision_recall_curve(is_one, probabilities, drop_intermediate=True)
    return Curves(
        name,
        float(roc_auc_score(is_one, probabilities)),
        float(average_precision_score(is_one, probabilities)),
        false_positive,
        true_positive,
        recall,
        precision,
    )


class RankedScores:
    """The area under the ROC curve for many weightings of the same examples, sorted once."""

    def __init__(self, is_one: NDArray[np.bool_], probabilities: Array) -> None:
        self._order = np.argsort(probabilities, kind="stable")
        self._is_one = is_one[self._order].astype(np.float64)
        _, starts = np.unique(probabilities[self._order], return_index=True)
        self._starts = starts

    def auc(self, weights: Array) -> float:
        """The weighted share of pairs that are in the right order, ties as half; NaN where there is no pair."""
        drawn = weights[self._order]
        ones = np.add.reduceat(drawn * self._is_one, self._starts)
        others = np.add.reduceat(drawn * (1 - self._is_one), self._starts)
        below = np.cumsum(others) - others
        n_pairs = ones.sum() * others.sum()
        return float((ones * (below + others / 2)).sum() / n_pairs) if n_pairs else float("nan")
