"""How likely it is that trials would look so by chance.

A trial's result does not depend on its place under chance, however the places were chosen. So the best trials are as a
draw from all of them, and a count among the best is hypergeometric, given the places that were tried.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from aifs_tune.analysis.scores import Array

Marked = NDArray[np.bool_]


def at_least(n_marked_best: int, *, n: int, n_marked: int, n_best: int) -> float:
    """The chance of so many marked ones or more among the best ``n_best`` of ``n``, of which ``n_marked`` are."""
    return float(stats.hypergeom.sf(n_marked_best - 1, n, n_marked, n_best))


def at_most(n_marked_best: int, *, n: int, n_marked: int, n_best: int) -> float:
    """The chance of so few marked ones, or fewer, among the best ``n_best`` of ``n``, of which ``n_marked`` are."""
    return float(stats.hypergeom.cdf(n_marked_best, n, n_marked, n_best))


def rises(places: Array, scores: Array) -> float:
    """The chance that ``scores`` (n,) rise so with ``places`` (n,), or more: Spearman's rank correlation, one-sided."""
    if len(places) < 3 or np.ptp(places) == 0 or np.ptp(scores) == 0:
        return 1.0
    return float(stats.spearmanr(places, scores, alternative="greater").pvalue)


def are_below(ones: Array, others: Array) -> float:
    """The chance that ``ones`` are so far below ``others``: Mann and Whitney's test, one-sided."""
    if not len(ones) or not len(others):
        return 1.0
    return float(stats.mannwhitneyu(ones, others, alternative="less").pvalue)


def differ(ones: Array, others: Array) -> float:
    """The chance that two groups of places are parted so well by one cut: Kolmogorov and Smirnov's test."""
    if not len(ones) or not len(others):
        return 1.0
    return float(stats.ks_2samp(ones, others).pvalue)


def repeated(n_hits: int, n: int, chance: float) -> float:
    """The chance of ``n_hits`` or more of ``n`` independent events of probability ``chance``."""
    return float(stats.binom.sf(n_hits - 1, n, chance))


def lucky_gain(sd: float, n: int, level: float) -> float:
    """What the best of ``n`` equally good trials gains over their middle by luck of standard deviation ``sd``, at most
    with probability ``1 - level``."""
    return float(sd * stats.norm.ppf((1.0 - level) ** (1.0 / n)))


def parted(ones: Array, others: Array) -> tuple[float, bool]:
    """Where ``ones`` are parted best from ``others``: the place of an outermost one, and whether they lie above it
    (Youden's index)."""
    best = (-1.0, 0.0, True)
    for cut in ones:
        for is_above in (True, False):
            gap = _share(ones, cut, is_above) - _share(others, cut, is_above)
            best = max(best, (gap, float(cut), is_above))
    return best[1], best[2]


def beyond(places: Sequence[float] | Array, cut: float, is_above: bool) -> Marked:
    """Which places lie at or above, or at or below, ``cut``."""
    found = np.asarray(places)
    return np.asarray(found >= cut if is_above else found <= cut)


def _share(places: Array, cut: float, is_above: bool) -> float:
    return float(np.mean(beyond(places, cut, is_above)))
