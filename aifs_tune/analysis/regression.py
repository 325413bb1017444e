"""What predicted numbers are worth on examples that no trial saw, in their own units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from aifs_tune.analysis.bootstrap import Resampling, ScoreEstimate
from aifs_tune.analysis.scores import Array
from aifs_tune.errors import RequestError

QUANTILES = (0.5, 0.9, 0.95, 0.99)
"""Of the absolute error; ``error_q90`` is what nine in ten errors stay below."""
SCORES = ("r2", "mae", "rmse", "bias", *(f"error_q{round(100 * quantile)}" for quantile in QUANTILES))


@dataclass(frozen=True)
class Miss:
    """An example whose error is among the largest: its index, what is true and what was predicted."""

    index: int
    truth: float
    predicted: float


@dataclass(frozen=True)
class HeldOutTarget:
    """The scores of one predicted number on ``n`` examples, all but ``r2`` in ``unit``.

    ``scores`` has each of :data:`SCORES` with its interval; ``bias`` is the mean of predicted minus true, and ``r2`` is
    undefined where the truth does not vary. ``worst`` has the largest errors first.
    """

    name: str
    unit: str
    n: int
    scores: Mapping[str, ScoreEstimate]
    worst: tuple[Miss, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
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
    """The scores of each target; see :class:`HeldOutTarget`.

    Parameters
    ----------
    y_true, y_pred
        What is true and what was predicted (n, targets), in units; (n,) where there is one target.
    targets
        The unit of each target by its name, empty where it has none.
    groups
        As of :func:`~aifs_tune.analysis.classification.evaluate_classes`.

    Raises
    ------
    RequestError
        If shapes do not fit or a number is not finite.
    """
    true, found = (_columns(name, values, len(targets)) for name, values in (("y_true", y_true), ("y_pred", y_pred)))
    if true.shape != found.shape:
        raise RequestError(f"y_pred: {len(found)} of them; allowed: {len(true)}, as many as y_true")
    used = resampling or Resampling()
    return tuple(
        HeldOutTarget(
            name,
            unit,
            len(true),
            used.estimates(_TargetScores(true[:, i], found[:, i]), len(true), groups),
            _worst(true[:, i], found[:, i], n_worst),
        )
        for i, (name, unit) in enumerate(targets.items())
    )


def scores_table(targets: Sequence[HeldOutTarget]) -> pd.DataFrame:
    """A row a target and score: target, unit, score, value, low, high."""
    rows = [
        {"target": target.name, "unit": "" if name == "r2" else target.unit, "score": name} | estimate.to_dict()
        for target in targets
        for name, estimate in target.scores.items()
    ]
    return pd.DataFrame(rows).astype(dict.fromkeys(("value", "low", "high"), "Float64"))


class _TargetScores:
    """:data:`SCORES` of one target as a function of the weights of the examples."""

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
        """As NumPy's on each example repeated as often as its weight says."""
        last = np.cumsum(weights[self._order])  # the place in the repeated examples after each
        place = np.array(QUANTILES) * (last[-1] - 1)
        below, above = (np.searchsorted(last, rounded(place), side="right") for rounded in (np.floor, np.ceil))
        low, high = self._sorted[below], self._sorted[above]
        return np.asarray(low + (place - np.floor(place)) * (high - low))


def _columns(what: str, values: ArrayLike, n_targets: int) -> Array:
    array = np.asarray(values, dtype=np.float64)
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or array.shape[1] != n_targets or len(array) == 0:
        wanted = f"(examples, {n_targets}), one column for each target and at least one example"
        raise RequestError(f"{what}: shape {array.shape}; allowed: {wanted}")
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        example, target = bad[0]
        raise RequestError(f"{what}: {array[example, target]} of example {example}; allowed: finite numbers")
    return array


def _worst(y_true: Array, y_pred: Array, n_worst: int) -> tuple[Miss, ...]:
    order = np.argsort(-np.abs(y_pred - y_true), kind="stable")[:n_worst]
    return tuple(Miss(int(i), float(y_true[i]), float(y_pred[i])) for i in order)
