"""The corrected resampled t test: whether a mean difference over overlapping splits is more than chance.

Splits of one data set share training examples, so that their differences are correlated and the plain variance of
their mean, S²/J, is too small. Nadeau and Bengio 2003 (Inference for the generalization error, Machine Learning 52,
239-281) put in its place

    (1/J + n_test / n_train) S²

with S² the sample variance of the J differences; the statistic has a t distribution with J - 1 degrees of freedom.
Bouckaert and Frank 2004 (Evaluating the replicability of significance tests for comparing learning algorithms,
PAKDD) use the same for J = repeats x folds of repeated cross-validation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special, stats

from aifs_tune.analysis.scores import Array

_ROUNDING = 1e-12
"""Differences that agree to this part of the scores are equal: the rest is what floating-point numbers lose."""
_MAX_T = 300.0
"""Beyond it the noncentral t distribution is that of its denominator, to three digits."""
_TAIL, _GRID = 1e-12, 801


@dataclass(frozen=True)
class ResampledT:
    """The test of J differences: their ``mean``, their standard deviation ``spread``, and the ``standard_error`` of the
    mean with the correction; ``p`` is two-sided."""

    mean: float
    spread: float
    standard_error: float
    df: int

    @property
    def t(self) -> float:
        return self.mean / self.standard_error

    @property
    def p(self) -> float:
        return float(2 * stats.t.sf(abs(self.t), self.df))

    @property
    def effect(self) -> float:
        """The mean in units of the standard deviation of the differences (Cohen's d for pairs)."""
        return self.mean / self.spread

    def interval(self, confidence: float) -> tuple[float, float]:
        """Of the mean; it excludes 0 exactly where ``p`` is below 1 - ``confidence``."""
        half = float(stats.t.isf((1 - confidence) / 2, self.df)) * self.standard_error
        return self.mean - half, self.mean + half

    def effect_interval(self, confidence: float) -> tuple[float, float]:
        """Of the effect, from the noncentral t distribution of ``t`` with the corrected standard error; it excludes 0
        where that of the mean does."""
        scale, tail = self.standard_error / self.spread, (1 - confidence) / 2
        return _noncentrality(self.t, self.df, 1 - tail) * scale, _noncentrality(self.t, self.df, tail) * scale


def resampled_t(differences: Array, test_to_train: float) -> ResampledT:
    """The test of ``differences`` (J,), J at least 2; ``test_to_train`` is n_test / n_train."""
    n = len(differences)
    mean, spread = float(np.mean(differences)), float(np.std(differences, ddof=1))
    return ResampledT(mean, spread, math.sqrt(1 / n + test_to_train) * spread, n - 1)


def are_equal(differences: Array, scores: Array) -> bool:
    """Whether all ``differences`` between ``scores`` are the same but for rounding, so that they have no spread."""
    return float(np.ptp(differences)) <= _ROUNDING * float(np.max(np.abs(scores), initial=0.0))


def signed_rank_p(differences: Array) -> float:
    """Exact two-sided p of Wilcoxon's signed-rank test, ties with their mean rank, pairs without a difference left out;
    1 if none has any.

    It takes the splits for independent, which those of one data set are not: its p is too small.
    """
    moved = differences[differences != 0]
    if not len(moved):
        return 1.0
    sizes = np.abs(moved) / np.max(np.abs(moved))
    doubled = np.rint(2 * stats.rankdata(sizes.round(12))).astype(int)  # whole numbers where ranks are halves
    chances = np.zeros(int(doubled.sum()) + 1)  # of each sum of the ranks whose sign is +, all signs alike
    chances[0] = 1.0
    for rank in doubled:
        chances[rank:] = (chances[rank:] + chances[:-rank]) / 2
        chances[:rank] /= 2
    observed = int(doubled[moved > 0].sum())
    return float(min(1.0, 2 * min(chances[: observed + 1].sum(), chances[observed:].sum())))


def holm(p: Array) -> Array:
    """Adjusted p (m,) of Holm's step-down procedure (Scandinavian Journal of Statistics 6, 1979, 65-70)."""
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def holm_levels(p: Array, alpha: float) -> Array:
    """The level (m,) at which Holm's procedure decides on each p: alpha / m on the smallest, alpha / (m - 1) on the
    next, and from the first that it does not reject on, the level of that one for all.

    A p is below its level exactly where its adjusted p is below ``alpha``.
    """
    levels = np.empty(len(p))
    level, is_rejecting = alpha, True
    for rank, i in enumerate(np.argsort(p, kind="stable")):
        if is_rejecting:
            level = alpha / (len(p) - rank)
            is_rejecting = bool(p[i] <= level)
        levels[i] = level
    return levels


def _noncentrality(t: float, df: int, probability: float) -> float:
    """The noncentrality at which a noncentral t is below ``t`` with ``probability``.

    With Z normal and s² = chi² / df it is (Z + noncentrality) / s, so that it is below ``t`` where Z is below
    t s - noncentrality: the mean over s is taken on a grid. SciPy's own distribution function is NaN in its tails.
    """
    if abs(t) > _MAX_T:
        share = probability if t > 0 else 1 - probability
        return t * math.sqrt(float(stats.chi2.isf(share, df)) / df)
    low, high = np.sqrt(stats.chi2.isf([1 - _TAIL, _TAIL], df) / df)
    s = np.linspace(low, high, _GRID)
    weights = stats.chi.pdf(s * math.sqrt(df), df)
    weights /= weights.sum()

    def excess(noncentrality: float) -> float:
        return float(weights @ special.ndtr(t * s - noncentrality)) - probability

    reach = 10 + abs(t) * float(high)
    return float(optimize.brentq(excess, -reach, reach, xtol=1e-10))
