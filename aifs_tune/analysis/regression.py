"""Evaluation of predicted numbers on held-out examples, in their own units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from aifs_tune.analysis.bootstrap import Resampling, ScoreEstimate
from aifs_tune.analysis.scores import Array
from aifs_tune.errors import RequestError

QUANTILES = (0.5, 0.9, 0.95, 0.99)
"""Quantiles of the absolute error; nine in ten errors are below ``error_q90``."""
SCORES = ("r2", "mae", "rmse", "bias", *(f"error_q{round(100 * quantile)}" for quantile in QUANTILES))


@dataclass(frozen=True)
class Miss:
    """Example with one of the largest errors: its index, its true and its predicted value."""

    index: int
    truth: float
    predicted: float


@dataclass(frozen=True)
class HeldOutTarget:
    """Scores of one predicted number on held-out examples, made by :func:`evaluate_values`.

    Parameters
    ----------
    name : str
        Name of the target.
    unit : str
        Its unit, empty if it has none.
    n : int
        Number of examples that have it.
    scores : mapping of str to ScoreEstimate
        ``r2``, ``mae``, ``rmse``, ``bias``, and the quantiles of the absolute error ``error_q50``, ``error_q90``,
        ``error_q95`` and ``error_q99``, each with its interval. All but ``r2`` are in ``unit``. ``bias`` is the mean of
        predicted minus true value. ``r2`` is undefined where the true value does not vary.
    worst : tuple of Miss
        Examples with the largest absolute errors, the largest first.

    Examples
    --------
    >>> from aifs_tune.analysis import evaluate_values
    >>> target, = evaluate_values([1.0, 2.0, 3.0], [1.0, 2.0, 3.6], targets={"mass": "kg"})
    >>> target.worst[0]
    Miss(index=2, truth=3.0, predicted=3.6)
    """

    name: str
    unit: str
    n: int
    scores: Mapping[str, ScoreEstimate]
    worst: tuple[Miss, ...] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON.

        Returns
        -------
        dict
            All scores.
        """
        return {
            "name": self.name,
            "unit": self.unit,
            "n": self.n,
            "scores": {name: estimate.to_dict() for name, estimate in self.scores.items()},
            "worst": [asdict(miss) for miss in self.worst],
        }


def evaluate_values(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    targets: Mapping[str, str],
    groups: Sequence[Any] | None = None,
    resampling: Resampling | None = None,
    n_worst: int = 20,
) -> tuple[HeldOutTarget, ...]:
    """Evaluate predicted numbers on held-out examples.

    Parameters
    ----------
    y_true, y_pred : array_like of float
        True and predicted values (n, targets), in units; (n,) for a single target. A true value that is missing is
        NaN: the example does not count for that target.
    targets : mapping of str to str
        Unit of each target by its name, empty if it has none.
    groups : sequence, optional
        Group of each example (n,), such as its patient or field. If given, whole groups are resampled for intervals.
    resampling : Resampling, optional
        Bootstrap settings. By default 1,000 resamples and 95 % intervals.
    n_worst : int, default 20
        Maximum number of largest errors to keep.

    Returns
    -------
    tuple of HeldOutTarget
        The scores of each target.

    Raises
    ------
    RequestError
        If shapes do not match, a number is not finite, or a target has no true value.

    Examples
    --------
    >>> from aifs_tune.analysis import evaluate_values
    >>> mass, = evaluate_values([1.0, 2.0, 3.0, 4.0], [1.1, 2.0, 2.9, 4.2], targets={"mass": "kg"})
    >>> print(mass.scores["mae"], mass.unit)
    0.100 kg
    """
    true = _columns("y_true", y_true, len(targets), allows_gaps=True)
    found = _columns("y_pred", y_pred, len(targets))
    if true.shape != found.shape:
        raise RequestError(f"y_pred: {len(found)} given; allowed: {len(true)}, as in y_true")
    used = resampling or Resampling()
    if groups is not None and len(groups) != len(true):
        raise RequestError(f"groups: {len(groups)} given; allowed: {len(true)}, one for each example")
    evaluated = []
    for i, (name, unit) in enumerate(targets.items()):
        known = np.flatnonzero(~np.isnan(true[:, i]))
        if not len(known):
            raise RequestError(f"y_true: no value of {name!r}; allowed: at least one")
        of_known = None if groups is None else [groups[row] for row in known.tolist()]
        scores = used.estimates(_TargetScores(true[known, i], found[known, i]), len(known), of_known)
        worst = _worst(true[known, i], found[known, i], n_worst)
        worst = tuple(replace(miss, index=int(known[miss.index])) for miss in worst)
        evaluated.append(HeldOutTarget(name, unit, len(known), scores, worst))
    return tuple(evaluated)


def scores_table(targets: Sequence[HeldOutTarget]) -> pd.DataFrame:
    """Return a table with one row for each target and score: target, unit, score, value, low, high."""
    rows = [
        {"target": target.name, "unit": "" if name == "r2" else target.unit, "score": name} | estimate.to_dict()
        for target in targets
        for name, estimate in target.scores.items()
    ]
    return pd.DataFrame(rows).astype(dict.fromkeys(("value", "low", "high"), "Float64"))


class _TargetScores:
    """Function that computes :data:`SCORES` of one target from the weights of the examples."""

    def __init__(self, y_true: Array, y_pred: Array) -> None:
        self._y_true, self._errors = y_true, y_pred - y_true
        sizes = np.abs(self._errors)
        self._order = np.argsort(sizes, kind="stable")
        self._sorted = sizes[self._order]

    def __call__(self, weights: Array) -> dict[str, float]:
        total = weights.sum()
        square = weights @ self._errors**2 / total
        mean = weights @ self._y_true / total
        spread = weights @ (self._y_true - mean) ** 2 / total
        r2 = 1 - square / spread if np.ptp(self._y_true[weights > 0]) > 0 else np.nan
        values = (r2, weights @ np.abs(self._errors) / total, np.sqrt(square), weights @ self._errors / total)
        return dict(zip(SCORES, map(float, (*values, *self._quantiles(weights))), strict=True))

    def _quantiles(self, weights: Array) -> Array:
        """Compute the quantiles as NumPy does on examples repeated as often as their weight."""
        last = np.cumsum(weights[self._order])  # end position of each in the repeated examples
        position = np.array(QUANTILES) * (last[-1] - 1)
        below, above = (np.searchsorted(last, rounded(position), side="right") for rounded in (np.floor, np.ceil))
        low, high = self._sorted[below], self._sorted[above]
        return np.asarray(low + (position - np.floor(position)) * (high - low))


def _columns(name: str, values: ArrayLike, n_targets: int, *, allows_gaps: bool = False) -> Array:
    array = np.asarray(values, dtype=np.float64)
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or array.shape[1] != n_targets or len(array) == 0:
        wanted = f"(examples, {n_targets}), one column for each target and at least one example"
        raise RequestError(f"{name}: shape {array.shape}; allowed: {wanted}")
    bad = np.argwhere(np.isinf(array) if allows_gaps else ~np.isfinite(array))
    if len(bad):
        example, target = bad[0]
        raise RequestError(f"{name}: {array[example, target]} of example {example}; allowed: finite numbers")
    return array


def _worst(y_true: Array, y_pred: Array, n_worst: int) -> tuple[Miss, ...]:
    order = np.argsort(-np.abs(y_pred - y_true), kind="stable")[:n_worst]
    return tuple(Miss(int(i), float(y_true[i]), float(y_pred[i])) for i in order)
