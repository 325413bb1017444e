"""Paired comparisons of configurations with a baseline, corrected for overlapping splits and for multiple testing.

The test is that of :mod:`aifs_tune.analysis.tests`. Holm's procedure controls the family-wise error rate of all
comparisons with one baseline at ``alpha``. Each interval has the confidence 1 - level, where level is the one at which
that procedure decided on its comparison. So an interval contains 0 exactly where the verdict is "not distinguishable".
It is wider than that of a single comparison, at most by the Bonferroni correction. All intervals of a family hold
together with probability 1 - alpha if none is distinguished from the baseline, and with probability
1 - alpha (1 + 1/2 + ... + 1/m) if all m are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd

from aifs_tune.analysis.scores import Array, Scores
from aifs_tune.analysis.tests import ResampledT, are_equal, holm, holm_levels, resampled_t, signed_rank_p
from aifs_tune.errors import RequestError

Verdict: TypeAlias = Literal["better", "worse", "not distinguishable", "not tested"]

MIN_PAIRS = 3
"""Minimum number of differences for a test; the spread of fewer is hardly known."""
MIN_SHARE = 0.5
"""Minimum share of the splits with both scores; a configuration that fails more often is not tested."""


@dataclass(frozen=True)
class Comparison:
    """Comparison of a configuration with a baseline, over the splits in which both have a score.

    Fields of a test are None if it was not possible; ``remark`` says why.

    Parameters
    ----------
    name, baseline : str
        Names of the two configurations.
    metric, unit : str
        Name and unit of the objective.
    verdict : {"better", "worse", "not distinguishable", "not tested"}
        Result of the test, decided by ``p_adjusted``.
    n_splits, n_pairs : int
        Number of all splits, and of those with both scores.
    alpha : float
        Family-wise error rate, between 0 and 1.
    difference : float, optional
        Mean difference in ``unit``. Above 0 means that ``name`` is better, whichever the mode.
    interval : tuple of float, optional
        Interval of the difference.
    confidence : float, optional
        Confidence of both intervals.
    t, df : float and int, optional
        Statistic of the corrected resampled t test, and its degrees of freedom.
    p : float, optional
        Two-sided p of this comparison alone.
    p_adjusted : float, optional
        The p after Holm's correction for the other comparisons of the family.
    signed_rank_p : float, optional
        Wilcoxon's signed-rank p, for information. It is not corrected for overlapping training sets.
    effect : float, optional
        The difference in standard deviations of the differences (Cohen's d for pairs).
    effect_interval : tuple of float, optional
        Interval of the effect.
    remark : str, default ""
        Why there is no test, and how many splits were left out.

    Examples
    --------
    >>> from aifs_tune.analysis import Scores, Split, compare_all
    >>> splits = [Split(repeat, 0, n_train=90, n_test=10) for repeat in range(4)]
    >>> losses = {"baseline": [0.40, 0.42, 0.41, 0.43], "trial 7": [0.30, 0.33, 0.30, 0.32]}
    >>> comparison, = compare_all(Scores("loss", "min", splits, losses), "baseline")
    >>> comparison.verdict, round(comparison.difference, 4)
    ('better', 0.1025)
    """

    name: str
    baseline: str
    metric: str
    unit: str
    verdict: Verdict
    n_splits: int
    n_pairs: int
    alpha: float
    difference: float | None = None
    interval: tuple[float, float] | None = None
    confidence: float | None = None
    t: float | None = None
    df: int | None = None
    p: float | None = None
    p_adjusted: float | None = None
    signed_rank_p: float | None = None
    effect: float | None = None
    effect_interval: tuple[float, float] | None = None
    remark: str = ""

    @property
    def text(self) -> str:
        """The verdict in words: ``trial 17: better than the baseline by 0.031 [0.012, 0.050] (95 % interval)``."""
        return f"{self.name}: {self._verdict()}" + (f" ({self.remark})" if self.remark else "")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON.

        Returns
        -------
        dict
            All fields, and the verdict in words as ``text``.
        """
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()} | {
            "text": self.text
        }

    def _verdict(self) -> str:
        other = "the baseline" if self.baseline == "baseline" else self.baseline
        if self.difference is None:
            return f"not compared with {other}"
        if self.interval is None:
            return f"not tested against {other}: difference {_shown(self.difference, self.unit)}"
        low, high = self.interval
        if self.verdict in ("better", "worse"):
            sign = 1 if self.verdict == "better" else -1
            ends = sorted((sign * low, sign * high))
            by = _with_interval(sign * self.difference, ends, self.unit)
            return f"{self.verdict} than {other} by {by} ({100 * (self.confidence or 0.0):.4g} % interval)"
        whole = _with_interval(self.difference, (low, high), self.unit)
        level = f"{100 * (self.confidence or 0.0):.4g} % interval"
        return f"not distinguishable from {other}: difference {whole} ({level})"


def compare(scores: Scores, name: str, baseline: str, *, alpha: float = 0.05) -> Comparison:
    """Compare ``name`` with ``baseline`` at the two-sided level ``alpha``.

    Raises
    ------
    RequestError
        If one of them has no scores, both are the same, or ``alpha`` is not between 0 and 1.
    """
    return _family(scores, [name], baseline, alpha)[0]


def compare_all(scores: Scores, baseline: str, *, alpha: float = 0.05) -> tuple[Comparison, ...]:
    """Compare every other configuration with a baseline.

    If no configuration really differs from the baseline, the probability of any "better" or "worse" is at most
    ``alpha`` (Holm's procedure). Configurations that cannot be tested count in the family too.

    Parameters
    ----------
    scores : Scores
        Scores of all configurations on the same splits.
    baseline : str
        Name of the configuration to compare with.
    alpha : float, default 0.05
        Family-wise error rate, between 0 and 1.

    Returns
    -------
    tuple of Comparison
        One comparison for each other configuration, in the order of ``scores.values``.

    Raises
    ------
    RequestError
        If the baseline has no scores, or ``alpha`` is not between 0 and 1.

    Examples
    --------
    >>> from aifs_tune.analysis import Scores, Split, compare_all
    >>> splits = [Split(repeat, 0, n_train=90, n_test=10) for repeat in range(5)]
    >>> values = {"baseline": [0.80, 0.81, 0.79, 0.80, 0.82], "trial 4": [0.84, 0.86, 0.83, 0.85, 0.85]}
    >>> for comparison in compare_all(Scores("accuracy", "max", splits, values), "baseline"):
    ...     print(comparison.text)
    trial 4: better than the baseline by 0.042 [0.029, 0.055] (95 % interval)
    """
    scores.of(baseline)
    return _family(scores, [name for name in scores.values if name != baseline], baseline, alpha)


def comparison_table(comparisons: Sequence[Comparison]) -> pd.DataFrame:
    """Return a table with one row for each comparison, and intervals in columns such as ``interval_low``."""
    rows = []
    for comparison in comparisons:
        row = comparison.to_dict()
        for name in ("interval", "effect_interval"):
            row[f"{name}_low"], row[f"{name}_high"] = row.pop(name) or (None, None)
        rows.append(row)
    return pd.DataFrame(rows)


def _family(scores: Scores, names: Sequence[str], baseline: str, alpha: float) -> tuple[Comparison, ...]:
    if not 0 < alpha < 1:
        raise RequestError(f"alpha: {alpha!r} is not allowed; allowed: a number between 0 and 1")
    if baseline in names:
        raise RequestError(f"{baseline} cannot be compared with itself; allowed: two different configurations")
    tests = [_tested(scores, name, baseline) for name in names]
    p = np.array([1.0 if test.t is None else test.t.p for test in tests])
    judged = zip(tests, holm(p), holm_levels(p, alpha), strict=True)
    return tuple(_judged(scores, test, float(adjusted), float(level), alpha) for test, adjusted, level in judged)


@dataclass(frozen=True)
class _Test:
    name: str
    baseline: str
    gains: Array
    remark: str
    t: ResampledT | None


def _tested(scores: Scores, name: str, baseline: str) -> _Test:
    all_gains = scores.gains(name, baseline)
    both = np.isfinite(all_gains)
    gains, n = all_gains[both], len(all_gains)
    remarks = [f"{n - len(gains)} of {n} splits left out because a training run failed"] if len(gains) < n else []
    test = None
    if n == 1:
        remarks.append("one split gives one difference, and a test needs several")
    elif len(gains) < max(MIN_PAIRS, MIN_SHARE * n):
        needed = max(MIN_PAIRS, math.ceil(MIN_SHARE * n))
        remarks.append(f"a test needs at least {needed} pairs of scores, and there are {len(gains)}")
    elif are_equal(gains, np.concatenate([scores.of(name)[both], scores.of(baseline)[both]])):
        remarks.append(f"all {len(gains)} differences are equal, so their spread is unknown")
    else:
        used = [split for split, has_both in zip(scores.splits, both, strict=True) if has_both]
        test = resampled_t(gains, sum(split.n_test for split in used) / sum(split.n_train for split in used))
    return _Test(name, baseline, gains, "; ".join(remarks), test)


def _judged(scores: Scores, test: _Test, p_adjusted: float, level: float, alpha: float) -> Comparison:
    known: dict[str, Any] = {
        "name": test.name,
        "baseline": test.baseline,
        "metric": scores.metric,
        "unit": scores.unit,
        "n_splits": len(scores.splits),
        "n_pairs": len(test.gains),
        "alpha": alpha,
        "difference": float(np.mean(test.gains)) if len(test.gains) else None,
        "remark": test.remark,
    }
    if test.t is None:
        return Comparison(verdict="not tested", **known)
    verdict: Verdict = "not distinguishable"
    if test.t.p <= level:
        verdict = "better" if test.t.mean > 0 else "worse"
    return Comparison(
        verdict=verdict,
        interval=test.t.interval(1 - level),
        confidence=1 - level,
        t=test.t.t,
        df=test.t.df,
        p=test.t.p,
        p_adjusted=p_adjusted,
        signed_rank_p=signed_rank_p(test.gains),
        effect=test.t.effect,
        effect_interval=test.t.effect_interval(1 - level),
        **known,
    )


def _with_interval(value: float, ends: Sequence[float], unit: str) -> str:
    """Format as ``0.031 [0.012, 0.050]``: two digits of the half width, and enough that no end is rounded to 0."""
    half = (ends[1] - ends[0]) / 2
    digits = max([_decimals(half, 2)] + [_decimals(abs(end), 1) for end in ends if end])
    shown = [f"{round(number, digits) + 0.0:.{digits}f}" for number in (value, *ends)]
    return f"{shown[0]}{f' {unit}' if unit else ''} [{shown[1]}, {shown[2]}]"


def _shown(value: float, unit: str) -> str:
    return f"{value:.3g}" + (f" {unit}" if unit else "")


def _decimals(size: float, n_digits: int) -> int:
    """Return the number of decimals that shows ``n_digits`` digits of ``size``, at least 0."""
    return max(0, n_digits - 1 - math.floor(math.log10(size))) if 0 < size < math.inf else 0
