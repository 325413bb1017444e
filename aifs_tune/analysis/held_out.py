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

from aifs_tune.analysis.bootstrap import Resampling, ScoreEstimate
from aifs_tune.analysis.class_report import ClassReport, class_report, scores_of
from aifs_tune.analysis.curves import Curves, RankedScores, curves_of
from aifs_tune.analysis.reliability import Reliability, ReliabilityBin
from aifs_tune.analysis.scores import Array
from aifs_tune.errors import RequestError

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
