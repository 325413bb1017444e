"""What predicted probabilities are worth on examples that no trial saw.

found = evaluate_classes(y_true, probabilities, classes=["galaxy", "star"], groups=fields)
print(found.report.to_text())
found.scores["macro_f1"]      # 0.736 [0.702, 0.768]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from aifs_tune.analysis.bootstrap import Resampling, ScoreEstimate
from aifs_tune.analysis.scores import Array
from aifs_tune.errors import RequestError


@dataclass(frozen=True)
class ReportRow:
    """One class, or an average; ``support`` is the number of examples that are of it. What would divide by 0 is 0."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class ClassReport:
    """A row a class in their order, then the averages: over all decisions (micro), over classes (macro), and over
    classes weighted by support.

    A class without an example here counts in no average over classes; an example taken for it counts against its own.
    """

    classes: tuple[ReportRow, ...]
    averages: tuple[ReportRow, ...]

    def to_text(self, digits: int = 3) -> str:
        """The table, laid out as scikit-learn's ``classification_report``."""
        width = max(len(row.name) for row in (*self.classes, *self.averages))
        heads = "".join(f" {head:>9}" for head in ("precision", "recall", "f1-score", "support"))
        blocks = [[_line(row, width, digits) for row in rows] for rows in (self.classes, self.averages)]
        return "\n".join([" " * width + " " + heads, "", *blocks[0], "", *blocks[1]])

    def to_frame(self) -> pd.DataFrame:
        """A row a class and a row an average, named by the index."""
        rows = [asdict(row) for row in (*self.classes, *self.averages)]
        return pd.DataFrame(rows).set_index("name")

    def to_dict(self) -> dict[str, Any]:
        return {
            "classes": [asdict(row) for row in self.classes],
            "averages": [asdict(row) for row in self.averages],
        }


def class_report(confusion: NDArray[np.int64], names: Sequence[str]) -> ClassReport:
    """From a confusion matrix (k, k), rows true and columns predicted."""
    precision, recall, f1 = scores_of(confusion.astype(np.float64))
    support = confusion.sum(axis=1)
    rows = tuple(
        ReportRow(name, float(precision[i]), float(recall[i]), float(f1[i]), int(support[i]))
        for i, name in enumerate(names)
    )
    n, present = int(support.sum()), support > 0
    right = float(np.trace(confusion)) / n
    averages = [ReportRow("micro avg", right, right, right, n)]
    for name, weights in (("macro avg", present.astype(np.float64)), ("weighted avg", support.astype(np.float64))):
        means = (float(np.average(column, weights=weights)) for column in (precision, recall, f1))
        averages.append(ReportRow(name, next(means), next(means), next(means), n))
    return ClassReport(rows, tuple(averages))


def scores_of(confusion: Array) -> tuple[Array, Array, Array]:
    """Precision, recall and F1 (k,) each, 0 where they are undefined; entries may be weights."""
    right = np.diag(confusion)
    predicted, true = confusion.sum(axis=0), confusion.sum(axis=1)
    return _part(right, predicted), _part(right, true), _part(2 * right, predicted + true)


def _part(part: Array, whole: Array) -> Array:
    return np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)


def _line(row: ReportRow, width: int, digits: int) -> str:
    scores = "".join(f" {score:9.{digits}f}" for score in (row.precision, row.recall, row.f1))
    return f"{row.name:>{width}} {scores} {row.support:9d}"


@dataclass(frozen=True)
class ReliabilityBin:
    """The predictions whose confidence, the probability of the predicted class, lies above ``low`` and up to ``high``:
    how many, their mean confidence, and the share of them that is right. None for both where there are none."""

    low: float
    high: float
    n: int
    confidence: float | None
    accuracy: float | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Reliability:
    """Predictions sorted into bins of equal width once, for many weightings of them."""

    def __init__(self, confidence: Array, is_right: NDArray[np.bool_], n_bins: int) -> None:
        self.edges = np.linspace(0, 1, n_bins + 1)
        self._bin = np.clip(np.searchsorted(self.edges, confidence, side="left") - 1, 0, n_bins - 1)
        self._confidence, self._is_right = confidence, is_right.astype(np.float64)

    def sums(self, weights: Array) -> tuple[Array, Array, Array]:
        """Of each bin the weight of its predictions, the sum of their confidence and that of the right ones."""
        n_bins = len(self.edges) - 1
        columns = (weights, weights * self._confidence, weights * self._is_right)
        n, confidence, right = (
            np.bincount(self._bin, weights=column, minlength=n_bins).astype(np.float64) for column in columns
        )
        return n, confidence, right

    def expected_error(self, weights: Array) -> float:
        """Expected calibration error (Naeini et al. 2015): the mean over predictions of how far their bin's share of
        right ones lies from its mean confidence."""
        n, confidence, right = self.sums(weights)
        return float(np.abs(confidence - right).sum() / n.sum())

    def bins(self) -> tuple[ReliabilityBin, ...]:
        n, confidence, right = self.sums(np.ones(len(self._bin)))
        return tuple(
            ReliabilityBin(
                float(self.edges[i]),
                float(self.edges[i + 1]),
                int(n[i]),
                float(confidence[i] / n[i]) if n[i] else None,
                float(right[i] / n[i]) if n[i] else None,
            )
            for i in range(len(n))
        )


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


SCORES = ("accuracy", "balanced_accuracy", "macro_f1", "auc", "brier", "calibration_error")
_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Mistake:
    """An example that was taken for another class: its index, and the probabilities of both."""

    index: int
    truth: str
    predicted: str
    probability: float
    probability_of_truth: float


@dataclass(frozen=True, eq=False)
class HeldOutClasses:
    """The scores of one model on ``n`` examples.

    ``scores`` has each of :data:`SCORES` with its interval: ``auc`` is the mean over classes of one against the rest,
    ``brier`` the mean over examples of the squared distance between probabilities and truth summed over classes (0 to
    2, for two classes twice the one-class score), ``calibration_error`` the expected one over the bins of
    ``reliability``.
    ``confusion`` (k, k) has rows true and columns predicted. ``curves`` leaves out a class that all examples or none
    are of. ``worst`` has the mistakes made with the least probability for the truth.
    """

    classes: tuple[str, ...]
    n: int
    scores: Mapping[str, ScoreEstimate]
    report: ClassReport
    confusion: NDArray[np.int64]
    reliability: tuple[ReliabilityBin, ...]
    curves: tuple[Curves, ...]
    worst: tuple[Mistake, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "classes": list(self.classes),
            "n": self.n,
            "scores": {name: estimate.to_dict() for name, estimate in self.scores.items()},
            "report": self.report.to_dict(),
            "confusion": self.confusion.tolist(),
            "reliability": [one.to_dict() for one in self.reliability],
            "curves": [curves.to_dict() for curves in self.curves],
            "worst": [asdict(mistake) for mistake in self.worst],
        }

    def scores_frame(self) -> pd.DataFrame:
        """A row a score: value, low, high."""
        return pd.DataFrame({name: estimate.to_dict() for name, estimate in self.scores.items()}).T.astype("Float64")

    def confusion_frame(self) -> pd.DataFrame:
        return pd.DataFrame(
            self.confusion,
            index=pd.Index(self.classes, name="true"),
            columns=pd.Index(self.classes, name="predicted"),
        )

    def worst_frame(self) -> pd.DataFrame:
        columns = ["index", "truth", "predicted", "probability", "probability_of_truth"]
        return pd.DataFrame([asdict(mistake) for mistake in self.worst], columns=pd.Index(columns))


def evaluate_classes(
    y_true: ArrayLike,
    probabilities: ArrayLike,
    *,
    classes: Sequence[str],
    groups: Sequence[Any] | None = None,
    resampling: Resampling | None = None,
    n_bins: int = 10,
    n_worst: int = 20,
) -> HeldOutClasses:
    """All scores of predictions; see :class:`HeldOutClasses`.

    Parameters
    ----------
    y_true
        The true class of each example (n,), as an index into ``classes``.
    probabilities
        Of each class for each example (n, k); rows sum to 1.
    groups
        The group of each example (n,), of which intervals draw whole ones; None draws examples.

    Raises
    ------
    RequestError
        If shapes do not fit, a truth is no class, or a row is no distribution.
    """
    labels, shares = _checked(y_true, probabilities, classes)
    n, k = shares.shape
    guesses = shares.argmax(axis=1)
    is_one = labels[:, None] == np.arange(k)
    reliability = Reliability(shares[np.arange(n), guesses], guesses == labels, n_bins)
    score = _ClassScores(labels, guesses, shares, reliability)
    confusion = score.confusion(np.ones(n)).round().astype(np.int64)
    found = [curves_of(name, is_one[:, i], shares[:, i]) for i, name in enumerate(classes)]
    return HeldOutClasses(
        classes=tuple(classes),
        n=n,
        scores=(resampling or Resampling()).estimates(score, n, groups),
        report=class_report(confusion, classes),
        confusion=confusion,
        reliability=reliability.bins(),
        curves=tuple(curves for curves in found if curves is not None),
        worst=_worst(labels, guesses, shares, classes, n_worst),
    )


class _ClassScores:
    """:data:`SCORES` as a function of the weights of the examples."""

    def __init__(
        self, labels: NDArray[np.int64], guesses: NDArray[np.int64], shares: Array, reliability: Reliability
    ) -> None:
        self._k = shares.shape[1]
        self._cells, self._reliability = labels * self._k + guesses, reliability
        is_one = labels[:, None] == np.arange(self._k)
        self._squares = ((shares - is_one) ** 2).sum(axis=1)
        self._ranked = [RankedScores(is_one[:, i], shares[:, i]) for i in range(self._k) if is_one[:, i].any()]

    def confusion(self, weights: Array) -> Array:
        cells = np.bincount(self._cells, weights=weights, minlength=self._k**2)
        return cells.reshape(self._k, self._k).astype(np.float64)

    def __call__(self, weights: Array) -> dict[str, float]:
        confusion = self.confusion(weights)
        _, recall, f1 = scores_of(confusion)
        present, total = confusion.sum(axis=1) > 0, weights.sum()
        values = (
            np.trace(confusion) / total,
            recall[present].mean(),
            f1[present].mean(),
            np.mean([ranked.auc(weights) for ranked in self._ranked]),
            weights @ self._squares / total,
            self._reliability.expected_error(weights),
        )
        return dict(zip(SCORES, map(float, values), strict=True))


def _checked(y_true: ArrayLike, probabilities: ArrayLike, classes: Sequence[str]) -> tuple[NDArray[np.int64], Array]:
    shares, k = np.asarray(probabilities, dtype=np.float64), len(classes)
    labels = np.asarray(y_true)
    if shares.ndim != 2 or shares.shape[1] != k or k < 2 or len(shares) == 0:
        wanted = f"(examples, {k}), one column for each class, at least two classes and one example"
        raise RequestError(f"probabilities: shape {shares.shape}; allowed: {wanted}")
    if labels.shape != (len(shares),):
        raise RequestError(f"y_true: shape {labels.shape}; allowed: ({len(shares)},), as many as probabilities")
    wrong = np.flatnonzero((labels < 0) | (labels >= k) | (labels != np.floor(labels)))
    if len(wrong):
        raise RequestError(f"y_true: {labels[wrong[0]]} of example {wrong[0]}; allowed: a class, from 0 to {k - 1}")
    with np.errstate(invalid="ignore"):
        is_distribution = (shares >= 0).all(axis=1) & (np.abs(shares.sum(axis=1) - 1) <= _SUM_TOLERANCE)
    bad = np.flatnonzero(~is_distribution)
    if len(bad):
        row = ", ".join(f"{share:g}" for share in shares[bad[0]][:6])
        raise RequestError(f"probabilities: {row} of example {bad[0]}; allowed: numbers from 0 to 1 that sum to 1")
    return labels.astype(np.int64), shares


def _worst(
    labels: NDArray[np.int64], guesses: NDArray[np.int64], shares: Array, classes: Sequence[str], n_worst: int
) -> tuple[Mistake, ...]:
    of_truth = shares[np.arange(len(labels)), labels]
    order = [int(i) for i in np.argsort(of_truth, kind="stable") if guesses[i] != labels[i]]
    return tuple(
        Mistake(i, classes[labels[i]], classes[guesses[i]], float(shares[i, guesses[i]]), float(of_truth[i]))
        for i in order[:n_worst]
    )
