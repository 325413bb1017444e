"""Evaluation of predicted class probabilities on held-out examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from aifs_tune.analysis.bootstrap import Proportion, Resampling, ScoreEstimate, units_of
from aifs_tune.analysis.scores import Array
from aifs_tune.data.signal import RankedSignal, Signal, rate_of
from aifs_tune.errors import RequestError

SCORES = ("accuracy", "balanced_accuracy", "macro_f1", "auc", "brier", "calibration_error")
_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True)
class ReportRow:
    """Scores of one class, or an average; ``support`` is the number of its examples. Undefined scores are 0."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class ClassReport:
    """Precision, recall and F1 of each class, and their averages.

    Averages are over all decisions (micro), over classes (macro), and over classes weighted by support. A class without
    examples is left out of averages over classes. An example predicted as that class is an error of its own class.
    """

    classes: tuple[ReportRow, ...]
    averages: tuple[ReportRow, ...]

    def to_text(self, digits: int = 3) -> str:
        """Return the table in the layout of scikit-learn's ``classification_report``."""
        width = max(len(row.name) for row in (*self.classes, *self.averages))
        heads = "".join(f" {head:>9}" for head in ("precision", "recall", "f1-score", "support"))
        blocks = [[_line(row, width, digits) for row in rows] for rows in (self.classes, self.averages)]
        return "\n".join([" " * width + " " + heads, "", *blocks[0], "", *blocks[1]])

    def to_frame(self) -> pd.DataFrame:
        """Return a table with one row for each class and each average, named by the index."""
        rows = [asdict(row) for row in (*self.classes, *self.averages)]
        return pd.DataFrame(rows).set_index("name")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "classes": [asdict(row) for row in self.classes],
            "averages": [asdict(row) for row in self.averages],
        }


def class_report(confusion: NDArray[np.int64], names: Sequence[str]) -> ClassReport:
    """Compute the report of a confusion matrix (k, k), with true classes in rows and predicted ones in columns."""
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
    """Compute precision, recall and F1 (k,) each, 0 where undefined; entries may be weights."""
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
    """Predictions with a confidence above ``low`` and up to ``high``; the confidence is that of the predicted class.

    ``n`` is their number, ``confidence`` their mean confidence and ``accuracy`` the share of correct ones, None for an
    empty bin.
    """

    low: float
    high: float
    n: int
    confidence: float | None
    accuracy: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


class Reliability:
    """Reliability diagram with bins of equal width, for many weightings of the same predictions."""

    def __init__(self, confidence: Array, is_right: NDArray[np.bool_], n_bins: int) -> None:
        self.edges = np.linspace(0, 1, n_bins + 1)
        self._bin = np.clip(np.searchsorted(self.edges, confidence, side="left") - 1, 0, n_bins - 1)
        self._confidence, self._is_right = confidence, is_right.astype(np.float64)

    def sums(self, weights: Array) -> tuple[Array, Array, Array]:
        """Sum the weights, the weighted confidence and the weighted correct predictions of each bin."""
        n_bins = len(self.edges) - 1
        columns = (weights, weights * self._confidence, weights * self._is_right)
        n, confidence, right = (
            np.bincount(self._bin, weights=column, minlength=n_bins).astype(np.float64) for column in columns
        )
        return n, confidence, right

    def expected_error(self, weights: Array) -> float:
        """Compute the expected calibration error (Naeini et al. 2015).

        It is the mean over predictions of the difference between the accuracy and the mean confidence of their bin.
        """
        n, confidence, right = self.sums(weights)
        return float(np.abs(confidence - right).sum() / n.sum())

    def of_calibrated(self, seed: int, n_draws: int = 500) -> tuple[float, float]:
        """Compute mean and 95 % quantile of the expected calibration error of a calibrated model, by simulation."""
        rng, n_bins = np.random.default_rng(seed), len(self.edges) - 1
        confidence = np.bincount(self._bin, weights=self._confidence, minlength=n_bins)
        errors = []
        for _ in range(n_draws):
            right = rng.random(len(self._bin)) < self._confidence
            drawn = np.bincount(self._bin, weights=right.astype(np.float64), minlength=n_bins)
            errors.append(np.abs(confidence - drawn).sum() / len(self._bin))
        return float(np.mean(errors)), float(np.quantile(errors, 0.95))

    def bins(self) -> tuple[ReliabilityBin, ...]:
        """Return the bins, each prediction with weight 1."""
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
    """ROC and precision-recall curve of one class, and the areas under them.

    ``recalls`` decrease along ``precisions``. ``average_precision`` is the step-wise area under that curve, without
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
        """Return plain values for JSON."""
        arrays = ("false_positive_rates", "true_positive_rates", "recalls", "precisions")
        areas = {"name": self.name, "auc": self.auc, "average_precision": self.average_precision}
        return areas | {name: getattr(self, name).tolist() for name in arrays}


def curves_of(name: str, is_one: NDArray[np.bool_], probabilities: Array) -> Curves | None:
    """Compute the curves of a class from its probabilities (n,); None if all examples or none belong to it."""
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
    """Area under the ROC curve for many weightings of the same examples, which are sorted once."""

    def __init__(self, is_one: NDArray[np.bool_], probabilities: Array) -> None:
        self._order = np.argsort(probabilities, kind="stable")
        self._is_one = is_one[self._order].astype(np.float64)
        _, starts = np.unique(probabilities[self._order], return_index=True)
        self._starts = starts

    def auc(self, weights: Array) -> float:
        """Compute the weighted share of correctly ordered pairs, with ties as half; NaN without pairs."""
        drawn = weights[self._order]
        ones = np.add.reduceat(drawn * self._is_one, self._starts)
        others = np.add.reduceat(drawn * (1 - self._is_one), self._starts)
        below = np.cumsum(others) - others
        n_pairs = ones.sum() * others.sum()
        return float((ones * (below + others / 2)).sum() / n_pairs) if n_pairs else float("nan")


@dataclass(frozen=True)
class Mistake:
    """Misclassified example: its index, its true and predicted class, and the probabilities of both."""

    index: int
    truth: str
    predicted: str
    probability: float
    probability_of_truth: float


@dataclass(frozen=True, eq=False)
class HeldOutClasses:
    """Scores of a classifier on held-out examples, made by :func:`evaluate_classes`.

    Parameters
    ----------
    classes : tuple of str
        Names of the k classes.
    n : int
        Number of examples.
    scores : mapping of str to ScoreEstimate
        ``accuracy``, ``balanced_accuracy``, ``macro_f1``, ``auc``, ``brier`` and ``calibration_error``, each but the
        last with its interval. ``auc`` is the mean over classes of one against the rest. ``brier`` is the squared
        distance between probabilities and true class, summed over classes and averaged over examples (0 to 2; for two
        classes twice the score of one class). ``calibration_error`` is the expected calibration error over the bins of
        ``reliability``.
    report : ClassReport
        Precision, recall and F1 of each class.
    confusion : numpy.ndarray
        Confusion matrix (k, k), with true classes in rows and predicted ones in columns.
    reliability : tuple of ReliabilityBin
        Bins of the reliability diagram.
    calibrated : tuple of float
        Expected calibration error of a perfectly calibrated model with these confidences, which is above 0 by chance:
        mean and 95 % quantile. ``calibration_error`` says something only if it is larger.
    curves : tuple of Curves
        ROC and precision-recall curves, without classes to which all examples or none belong.
    signal : str, optional
        The class whose ``signal_efficiency@...`` are among the scores: the share of it that is kept at each
        false-positive rate of all other classes.
    worst : tuple of Mistake
        Misclassified examples, the smallest probability of the true class first.

    Examples
    --------
    >>> from aifs_tune.analysis import evaluate_classes
    >>> found = evaluate_classes([0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], classes=["galaxy", "star"])
    >>> found.confusion.tolist()
    [[1, 0], [1, 1]]
    >>> found.worst[0].index
    2
    """

    classes: tuple[str, ...]
    n: int
    scores: Mapping[str, ScoreEstimate]
    report: ClassReport = field(repr=False)
    confusion: NDArray[np.int64]
    reliability: tuple[ReliabilityBin, ...] = field(repr=False)
    curves: tuple[Curves, ...] = field(repr=False)
    worst: tuple[Mistake, ...] = field(repr=False)
    calibrated: tuple[float, float] = field(repr=False)
    signal: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON.

        Returns
        -------
        dict
            All scores and tables.
        """
        return {
            "classes": list(self.classes),
            "signal": self.signal,
            "n": self.n,
            "scores": {name: estimate.to_dict() for name, estimate in self.scores.items()},
            "report": self.report.to_dict(),
            "confusion": self.confusion.tolist(),
            "reliability": [one.to_dict() for one in self.reliability],
            "calibration_error_by_chance": {"mean": self.calibrated[0], "quantile_95": self.calibrated[1]},
            "curves": [curves.to_dict() for curves in self.curves],
            "worst": [asdict(mistake) for mistake in self.worst],
        }

    def scores_frame(self) -> pd.DataFrame:
        """Return the scores as a table.

        Returns
        -------
        pandas.DataFrame
            One row for each score, with its value and interval: value, low, high.
        """
        return pd.DataFrame({name: estimate.to_dict() for name, estimate in self.scores.items()}).T.astype("Float64")

    def confusion_frame(self) -> pd.DataFrame:
        """Return the confusion matrix as a table.

        Returns
        -------
        pandas.DataFrame
            One row for each true class, one column for each predicted class.
        """
        return pd.DataFrame(
            self.confusion,
            index=pd.Index(self.classes, name="true"),
            columns=pd.Index(self.classes, name="predicted"),
        )

    def worst_frame(self) -> pd.DataFrame:
        """Return the worst mistakes as a table.

        Returns
        -------
        pandas.DataFrame
            One row for each mistake: index, truth, predicted, probability, probability_of_truth.
        """
        columns = ["index", "truth", "predicted", "probability", "probability_of_truth"]
        return pd.DataFrame([asdict(mistake) for mistake in self.worst], columns=pd.Index(columns))


def evaluate_classes(
    y_true: ArrayLike,
    probabilities: ArrayLike,
    *,
    classes: Sequence[str],
    groups: Sequence[Any] | None = None,
    signal: Signal | str | None = None,
    resampling: Resampling | None = None,
    n_bins: int = 10,
    n_worst: int = 20,
) -> HeldOutClasses:
    """Evaluate predicted class probabilities on held-out examples.

    Parameters
    ----------
    y_true : array_like of int
        True class of each example (n,), as an index into ``classes``.
    probabilities : array_like of float
        Predicted probability of each class for each example (n, k). Rows sum to 1.
    classes : sequence of str
        Names of the k classes, at least two.
    groups : sequence, optional
        Group of each example (n,), such as its patient or field. If given, whole groups are resampled for intervals.
    signal : str or Signal, optional
        The class that is the signal, whose efficiency at few false positives is then one of the scores. By default at
        1, 2, 5, 10 and 20 % of all other examples; each resample has a threshold of its own.
    resampling : Resampling, optional
        Bootstrap settings. By default 1,000 resamples and 95 % intervals.
    n_bins : int, default 10
        Number of bins of the reliability diagram.
    n_worst : int, default 20
        Maximum number of mistakes to keep.

    Returns
    -------
    HeldOutClasses
        All scores with their intervals.

    Raises
    ------
    RequestError
        If shapes do not match, a true class is out of range, a row is not a probability distribution, or ``signal`` is
        not one of the classes.

    Examples
    --------
    >>> from aifs_tune.analysis import evaluate_classes
    >>> probabilities = [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.7, 0.3]]
    >>> found = evaluate_classes([0, 1, 1, 0], probabilities, classes=["galaxy", "star"])
    >>> print(found.scores["accuracy"])
    0.750
    """
    labels, shares = _checked(y_true, probabilities, classes)
    wanted = Signal(signal) if isinstance(signal, str) else signal
    if wanted is not None and wanted.name not in classes:
        raise RequestError(f"signal: {wanted.name!r} is not one of the classes; allowed: {', '.join(classes)}")
    n, k = shares.shape
    predicted = shares.argmax(axis=1)
    is_one = labels[:, None] == np.arange(k)
    reliability = Reliability(shares[np.arange(n), predicted], predicted == labels, n_bins)
    of_signal = None if wanted is None else (wanted, list(classes).index(wanted.name))
    score = ClassScores(labels, predicted, shares, reliability, of_signal)
    confusion = score.confusion(np.ones(n)).round().astype(np.int64)
    found = [curves_of(name, is_one[:, i], shares[:, i]) for i, name in enumerate(classes)]
    return HeldOutClasses(
        classes=tuple(classes),
        n=n,
        scores=(resampling or Resampling()).estimates(
            score, n, groups, proportions=score.proportions(units_of(n, groups)), without=("calibration_error",)
        ),
        calibrated=reliability.of_calibrated((resampling or Resampling()).seed),
        report=class_report(confusion, classes),
        confusion=confusion,
        reliability=reliability.bins(),
        curves=tuple(curves for curves in found if curves is not None),
        worst=_worst(labels, predicted, shares, classes, n_worst),
        signal=None if wanted is None else wanted.name,
    )


class ClassScores:
    """Function that computes :data:`SCORES`, and those of a signal, from the weights of the examples.

    ``signal`` is given with its number among the classes.
    """

    def __init__(
        self,
        labels: NDArray[np.int64],
        predicted: NDArray[np.int64],
        shares: Array,
        reliability: Reliability,
        signal: tuple[Signal, int] | None = None,
    ) -> None:
        self._signal = None if signal is None else signal[1]
        self._metrics = () if signal is None else signal[0].metrics
        self._rates = [rate for rate in map(rate_of, self._metrics) if rate is not None]
        self._kept = None if signal is None else RankedSignal(labels == signal[1], shares[:, signal[1]])
        self._k = shares.shape[1]
        self._cells, self._reliability = labels * self._k + predicted, reliability
        is_one = labels[:, None] == np.arange(self._k)
        self._squares = ((shares - is_one) ** 2).sum(axis=1)
        self._ranked = [RankedScores(is_one[:, i], shares[:, i]) for i in range(self._k) if is_one[:, i].any()]

    def confusion(self, weights: Array) -> Array:
        """Compute the weighted confusion matrix (k, k)."""
        cells = np.bincount(self._cells, weights=weights, minlength=self._k**2)
        return cells.reshape(self._k, self._k).astype(np.float64)

    def proportions(self, units: NDArray[np.int64]) -> dict[str, Proportion]:
        """What is known of the scores between 0 and 1 besides their bootstrap.

        A class whose examples are all right, or all wrong, adds nothing to a bootstrap's variance; here it adds that of
        a share with one more right and one more wrong (Laplace). ``units`` (n,) are the groups of the examples.
        """
        confusion = self.confusion(np.ones(len(units)))
        labels, total = self._cells // self._k, confusion.sum()
        n_units = len(np.unique(units))
        right = float(np.trace(confusion))
        near, variances, nears = (right + 1) / (total + 2), [], []
        for i in np.flatnonzero(confusion.sum(axis=1) > 0):
            n_right, n = confusion[i, i], confusion[i].sum()
            smooth = (n_right + 1) / (n + 2)
            share = n_right / n if 0 < n_right < n else smooth
            variances.append(share * (1 - share) / len(np.unique(units[labels == i])))
            nears.append(smooth)
        of_classes = Proportion(float(np.sum(variances)) / len(nears) ** 2, float(np.mean(nears)))
        accuracy = Proportion(near * (1 - near) / n_units if right in (0, total) else 0.0, near)
        perfect = Proportion(
            0.0 if any(0 < r.auc(np.ones(len(units))) < 1 for r in self._ranked) else of_classes.variance,
            of_classes.near,
        )
        known = {"accuracy": accuracy, "balanced_accuracy": of_classes, "macro_f1": of_classes, "auc": perfect}
        return known | self._proportions_of_signal(units)

    def _proportions_of_signal(self, units: NDArray[np.int64]) -> dict[str, Proportion]:
        """That of each efficiency: at least the variance of a share of the signal, at a fixed threshold."""
        if self._signal is None or self._kept is None:
            return {}
        is_signal = self._cells // self._k == self._signal
        n, n_units = int(is_signal.sum()), len(np.unique(units[is_signal]))
        found = {}
        for metric, share in zip(self._metrics, self._kept.efficiencies(np.ones(len(units)), self._rates), strict=True):
            if np.isfinite(share):
                near = (share * n + 1) / (n + 2)
                found[metric] = Proportion(near * (1 - near) / n_units, near)
        return found

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
        found = dict(zip(SCORES, map(float, values), strict=True))
        if self._kept is not None:
            found |= zip(self._metrics, self._kept.efficiencies(weights, self._rates), strict=True)
        return found


def _checked(y_true: ArrayLike, probabilities: ArrayLike, classes: Sequence[str]) -> tuple[NDArray[np.int64], Array]:
    shares, k = np.asarray(probabilities, dtype=np.float64), len(classes)
    labels = np.asarray(y_true)
    if shares.ndim != 2 or shares.shape[1] != k or k < 2 or len(shares) == 0:
        wanted = f"(examples, {k}), one column for each class, at least two classes and one example"
        raise RequestError(f"probabilities: shape {shares.shape}; allowed: {wanted}")
    if labels.shape != (len(shares),):
        raise RequestError(
            f"y_true: shape {labels.shape}; allowed: ({len(shares)},), one for each row of probabilities"
        )
    wrong = np.flatnonzero((labels < 0) | (labels >= k) | (labels != np.floor(labels)))
    if len(wrong):
        raise RequestError(
            f"y_true: {labels[wrong[0]]} of example {wrong[0]}; allowed: the index of a class, from 0 to {k - 1}"
        )
    with np.errstate(invalid="ignore"):
        is_distribution = (shares >= 0).all(axis=1) & (np.abs(shares.sum(axis=1) - 1) <= _SUM_TOLERANCE)
    bad = np.flatnonzero(~is_distribution)
    if len(bad):
        row = ", ".join(f"{share:g}" for share in shares[bad[0]][:6])
        raise RequestError(f"probabilities: {row} of example {bad[0]}; allowed: numbers from 0 to 1 that sum to 1")
    return labels.astype(np.int64), shares


def _worst(
    labels: NDArray[np.int64], predicted: NDArray[np.int64], shares: Array, classes: Sequence[str], n_worst: int
) -> tuple[Mistake, ...]:
    of_truth = shares[np.arange(len(labels)), labels]
    order = [int(i) for i in np.argsort(of_truth, kind="stable") if predicted[i] != labels[i]]
    return tuple(
        Mistake(i, classes[labels[i]], classes[predicted[i]], float(shares[i, predicted[i]]), float(of_truth[i]))
        for i in order[:n_worst]
    )
