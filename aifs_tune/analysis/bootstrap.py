"""How far a score of a finite test part may lie from that of all data like it: the bootstrap, of examples or of groups.

Groups (fields, patients, plates) are drawn whole where they are given: examples of one group are alike, and drawing
them singly makes intervals too narrow. Intervals are those of percentiles (Efron and Tibshirani 1993, chapter 13).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aifs_tune.analysis.scores import Array
from aifs_tune.errors import RequestError

MIN_UNITS = 5
"""With fewer examples, or groups, the draws hardly differ: there is no interval."""
_MIN_SHARE = 0.9
"""Of the draws must have the score; it is undefined where a draw lacks a class."""


@dataclass(frozen=True)
class ScoreEstimate:
    """A score, and the interval that its draws leave; None where it is undefined or has none."""

    value: float | None
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        if self.value is None:
            return "undefined"
        return f"{self.value:.3f}" + ("" if self.low is None else f" [{self.low:.3f}, {self.high:.3f}]")

    def to_dict(self) -> dict[str, float | None]:
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Resampling:
    """How intervals are made: ``n_draws`` draws from ``seed``, each interval with ``confidence``; 0 draws make none."""

    n_draws: int = 1000
    seed: int = 0
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if self.n_draws < 0:
            raise RequestError(f"n_draws: {self.n_draws} is not allowed; allowed: 0 or more")
        if not 0 < self.confidence < 1:
            raise RequestError(f"confidence: {self.confidence!r} is not allowed; allowed: a number between 0 and 1")

    def estimates(
        self, scores: Callable[[Array], Mapping[str, float]], n: int, groups: Sequence[Any] | None
    ) -> dict[str, ScoreEstimate]:
        """Each of ``scores``, a function of the weights (n,) of the examples, with its interval.

        A draw's weights say how often it has each example. A score is NaN where it is undefined.

        Raises
        ------
        RequestError
            If the groups are not one for each example.
        """
        units = units_of(n, groups)
        values = scores(np.ones(n))
        n_units = int(units.max()) + 1
        if not self.n_draws or n_units < MIN_UNITS:
            return {name: ScoreEstimate(_known(value)) for name, value in values.items()}
        rng = np.random.default_rng(self.seed)
        draws = []
        for _ in range(self.n_draws):
            drawn = np.bincount(rng.integers(0, n_units, n_units), minlength=n_units).astype(np.float64)
            draws.append([*scores(drawn[units]).values()])
        return {
            name: self._estimate(value, np.array(column))
            for (name, value), column in zip(values.items(), zip(*draws, strict=True), strict=True)
        }

    def _estimate(self, value: float, draws: Array) -> ScoreEstimate:
        defined = draws[np.isfinite(draws)]
        if not math.isfinite(value) or len(defined) < _MIN_SHARE * len(draws):
            return ScoreEstimate(_known(value))
        tail = (1 - self.confidence) / 2
        low, high = np.quantile(defined, [tail, 1 - tail])
        return ScoreEstimate(float(value), float(low), float(high))


def units_of(n: int, groups: Sequence[Any] | None) -> np.ndarray[Any, np.dtype[np.int64]]:
    """What is drawn whole, as numbers from 0 (n,): the group of each example, or each example.

    Raises
    ------
    RequestError
        If the groups are not one for each example.
    """
    if groups is None:
        return np.arange(n, dtype=np.int64)
    if len(groups) != n:
        raise RequestError(f"groups: {len(groups)} of them; allowed: one for each of the {n} examples")
    return np.unique([str(group) for group in groups], return_inverse=True)[1].astype(np.int64).reshape(n)


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
