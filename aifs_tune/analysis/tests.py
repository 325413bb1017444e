"""Corrected resampled t test for mean differences over overlapping splits, and other tests of differences.

Splits of one data set share training examples. So their differences are correlated, and the usual variance of their
mean, S²/J, is too small. Nadeau and Bengio 2003 (Inference for the generalization error, Machine Learning 52, 239-281)
replace it by

    (1/J + n_test / n_train) S²

with S² the sample variance of the J differences; the statistic has a t distribution with J - 1 degrees of freedom.
Bouckaert and Frank 2004 (Evaluating the replicability of significance tests for comparing learning algorithms,
PAKDD) use the same for J = repeats x folds of repeated cross-validation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy  # its modules are imported when they are used, which few sweeps do

from aifs_tune.analysis.scores import Array

_ROUNDING = 1e-12
"""Differences are equal if they agree to this fraction of the scores: the rest is rounding."""
_MAX_T = 300.0
"""Largest |t| for the numerical integral; beyond it the distribution is that of the denominator, to three digits."""
_TAIL, _GRID = 1e-12, 801


@dataclass(frozen=True)
class ResampledT:
    """Test of J differences: ``mean``, standard deviation ``spread``, and corrected ``standard_error`` of the mean."""

    mean: float
    spread: float
    standard_error: float
    df: int

    @property
    def t(self) -> float:
        """Statistic, with a t distribution under the null hypothesis."""
        return self.mean / self.standard_error

    @property
    def p(self) -> float:
        """Two-sided p."""
        return float(2 * scipy.stats.t.sf(abs(self.t), self.df))

    @property
    def effect(self) -> float:
        """Mean in standard deviations of the differences (Cohen's d for pairs)."""
        return self.mean / self.spread

    def interval(self, confidence: float) -> tuple[float, float]:
        """Compute the interval of the mean; it excludes 0 exactly where ``p`` is below 1 - ``confidence``."""
        half = float(scipy.stats.t.isf((1 - confidence) / 2, self.df)) * self.standard_error
        return self.mean - half, self.mean + half

    def effect_interval(self, confidence: float) -> tuple[float, float]:
        """Compute the interval of the effect, from the noncentral t distribution with the corrected standard error.

        It excludes 0 exactly where the interval of the mean does.
        """
        scale, tail = self.standard_error / self.spread, (1 - confidence) / 2
        return _noncentrality(self.t, self.df, 1 - tail) * scale, _noncentrality(self.t, self.df, tail) * scale


def resampled_t(differences: Array, test_to_train: float) -> ResampledT:
    """Test ``differences`` (J,), J at least 2; ``test_to_train`` is n_test / n_train."""
    n = len(differences)
    mean, spread = float(np.mean(differences)), float(np.std(differences, ddof=1))
    return ResampledT(mean, spread, math.sqrt(1 / n + test_to_train) * spread, n - 1)


def are_equal(differences: Array, scores: Array) -> bool:
    """Return whether all ``differences`` between ``scores`` are equal up to rounding."""
    return float(np.ptp(differences)) <= _ROUNDING * float(np.max(np.abs(scores), initial=0.0))


def signed_rank_p(differences: Array) -> float:
    """Compute the exact two-sided p of Wilcoxon's signed-rank test.

    Ties get their mean rank, and pairs without a difference are left out; p is 1 if none is left. The test assumes
    independent splits. Splits of one data set are not independent, so its p is too small.
    """
    moved = differences[differences != 0]
    if not len(moved):
        return 1.0
    sizes = np.abs(moved) / np.max(np.abs(moved))
    doubled = np.rint(2 * scipy.stats.rankdata(sizes.round(12))).astype(int)  # integers, as ranks are multiples of 1/2
    chances = np.zeros(
        int(doubled.sum()) + 1
    )  # probability of each sum of positive ranks, if both signs are equally likely
    chances[0] = 1.0
    for rank in doubled:
        chances[rank:] = (chances[rank:] + chances[:-rank]) / 2
        chances[:rank] /= 2
    observed = int(doubled[moved > 0].sum())
    return float(min(1.0, 2 * min(chances[: observed + 1].sum(), chances[observed:].sum())))


def holm(p: Array) -> Array:
    """Adjust p (m,) by Holm's step-down procedure (Scandinavian Journal of Statistics 6, 1979, 65-70)."""
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def holm_levels(p: Array, alpha: float) -> Array:
    """Return the level (m,) at which Holm's procedure decides on each p.

    It is alpha / m for the smallest p and alpha / (m - 1) for the next. All p from the first that is not rejected on
    have the level of that one. A p is below its level exactly where its adjusted p is below ``alpha``.
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
    """Find the noncentrality at which a noncentral t is below ``t`` with ``probability``.

    A noncentral t is (Z + noncentrality) / s, with Z normal and s² = chi² / df. So it is below ``t`` where Z is below
    t s - noncentrality, and the probability is a mean over s, computed on a grid. SciPy's own distribution function is
    NaN in the tails.
    """
    if abs(t) > _MAX_T:
        share = probability if t > 0 else 1 - probability
        return t * math.sqrt(float(scipy.stats.chi2.isf(share, df)) / df)
    low, high = np.sqrt(scipy.stats.chi2.isf([1 - _TAIL, _TAIL], df) / df)
    s = np.linspace(low, high, _GRID)
    weights = scipy.stats.chi.pdf(s * math.sqrt(df), df)
    weights /= weights.sum()

    def excess(noncentrality: float) -> float:
        return float(weights @ scipy.special.ndtr(t * s - noncentrality)) - probability

    reach = 10 + abs(t) * float(high)
    return float(scipy.optimize.brentq(excess, -reach, reach, xtol=1e-10))
