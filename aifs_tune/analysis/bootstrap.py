"""Intervals for scores on a test set.

Where groups are given (fields, patients, plates), whole groups are resampled: examples of one group are similar, and
resampling single examples would give intervals that are too narrow.

Scores between 0 and 1 have Wilson's interval with the effective number of examples, score (1 - score) / variance, where
the variance is that of the bootstrap (Wilson 1927; Franco, Little, Louis and Slud, Journal of Survey Statistics and
Methodology 7, 2019): percentiles of a bootstrap are far too narrow near 1. Other scores have percentile intervals
(Efron and Tibshirani 1993, chapter 13).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from aifs_tune.analysis.scores import Array
from aifs_tune.errors import RequestError

MIN_UNITS = 5
"""Minimum number of examples or groups for an interval; with fewer, the resamples hardly differ."""
_MIN_SHARE = 0.9
"""Minimum share of the resamples in which a score is defined; it is undefined where a class is missing."""


@dataclass(frozen=True)
class ScoreEstimate:
    """A score and the ends of its interval; None where it is undefined or has no interval."""

    value: float | None
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        if self.value is None:
            return "undefined"
        return f"{self.value:.3f}" + ("" if self.low is None else f" [{self.low:.3f}, {self.high:.3f}]")

    def to_dict(self) -> dict[str, float | None]:
        """Return plain values for JSON."""
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Proportion:
    """What is known of a score between 0 and 1 besides its bootstrap.

    ``variance`` is the least that it can have, and ``near`` a value near it that is neither 0 nor 1.
    """

    variance: float
    near: float


@dataclass(frozen=True)
class Resampling:
    """Bootstrap settings for the intervals of scores.

    Parameters
    ----------
    n_draws : int, default 1000
        Number of resamples, 0 or more. With 0, scores have no intervals.
    seed : int, default 0
        Seed of the resamples.
    confidence : float, default 0.95
        Confidence of each interval, between 0 and 1.

    Raises
    ------
    RequestError
        If ``n_draws`` or ``confidence`` is out of range.

    Examples
    --------
    >>> from aifs_tune.analysis import Resampling, evaluate_values
    >>> no_intervals = Resampling(n_draws=0)
    >>> mass, = evaluate_values([1, 2, 3, 4, 5], [1, 2, 3, 4, 6], targets={"mass": "kg"}, resampling=no_intervals)
    >>> print(mass.scores["mae"])
    0.200
    """

    n_draws: int = 1000
    seed: int = 0
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if self.n_draws < 0:
            raise RequestError(f"n_draws: {self.n_draws} is not allowed; allowed: 0 or more")
        if not 0 < self.confidence < 1:
            raise RequestError(f"confidence: {self.confidence!r} is not allowed; allowed: a number between 0 and 1")

    def estimates(
        self,
        scores: Callable[[Array], Mapping[str, float]],
        n: int,
        groups: Sequence[Any] | None,
        *,
        proportions: Mapping[str, Proportion] | None = None,
        without: Sequence[str] = (),
    ) -> dict[str, ScoreEstimate]:
        """Compute scores with their intervals.

        Parameters
        ----------
        scores : callable
            Function of the weights (n,) of the examples that returns scores by name, NaN where undefined. In a
            resample, the weight of an example is the number of its copies.
        n : int
            Number of examples.
        groups : sequence, optional
            The group of each example (n,). If given, whole groups are resampled.
        proportions : mapping, optional
            The scores between 0 and 1, which have Wilson's interval.
        without : sequence of str, optional
            Scores that have no interval.

        Returns
        -------
        dict of str to ScoreEstimate
            Each score with its interval.

        Raises
        ------
        RequestError
            If the number of groups is not ``n``.
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
            name: ScoreEstimate(_known(value))
            if name in without
            else self._estimate(value, np.array(column), (proportions or {}).get(name))
            for (name, value), column in zip(values.items(), zip(*draws, strict=True), strict=True)
        }

    def _estimate(self, value: float, draws: Array, proportion: Proportion | None) -> ScoreEstimate:
        defined = draws[np.isfinite(draws)]
        if not math.isfinite(value) or len(defined) < _MIN_SHARE * len(draws):
            return ScoreEstimate(_known(value))
        if proportion is not None:
            variance = max(float(defined.var()), proportion.variance)
            if not variance:  # such as the area under the curve of a model that always says the same
                return ScoreEstimate(float(value), float(value), float(value))
            near = value if 0 < value < 1 else proportion.near
            return ScoreEstimate(float(value), *wilson_interval(value, near * (1 - near) / variance, self.confidence))
        tail = (1 - self.confidence) / 2
        low, high = np.quantile(defined, [tail, 1 - tail])
        return ScoreEstimate(float(value), float(low), float(high))


def wilson_interval(share: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Compute Wilson's interval of a share of ``n`` examples, which need not be a whole number.

    Parameters
    ----------
    share : float
        The share, from 0 to 1.
    n : float
        Number of examples, above 0.
    confidence : float, default 0.95
        Confidence of the interval, between 0 and 1.

    Returns
    -------
    tuple of float and float
        Its ends.

    Examples
    --------
    >>> from aifs_tune.analysis.bootstrap import wilson_interval
    >>> [round(end, 3) for end in wilson_interval(1.0, 20)]
    [0.839, 1.0]
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    centre, half = share + z**2 / (2 * n), z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    low, high = ((centre + side * half) / (1 + z**2 / n) for side in (-1, 1))
    return max(0.0, min(low, share)), min(1.0, max(high, share))


def units_of(n: int, groups: Sequence[Any] | None) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Number the units to resample, from 0 (n,): the group of each example, or the example itself.

    Raises
    ------
    RequestError
        If the number of groups is not ``n``.
    """
    if groups is None:
        return np.arange(n, dtype=np.int64)
    if len(groups) != n:
        raise RequestError(f"groups: {len(groups)} given; allowed: {n}, one for each example")
    return np.unique([str(group) for group in groups], return_inverse=True)[1].astype(np.int64).reshape(n)


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
