"""Whether one configuration is better than another, in numbers and in words.

    scores = Scores("val_macro_f1", "max", splits, {"baseline": ..., "trial 17": ..., "trial 4": ...})
    for comparison in compare_all(scores, "baseline"):
        print(comparison.text)     # trial 17: better than the baseline by 0.031 [0.012, 0.050]

The test is that of :mod:`aifs_tune.analysis.tests`. A family of comparisons with one baseline is held to ``alpha``
as a whole by Holm's procedure. Each interval has the confidence 1 - level, with the level at which that procedure
decided on its comparison; so an interval holds 0 exactly where the verdict is that nothing was distinguished. It is
wider than a single comparison's, by up to the Bonferroni correction. That all intervals of a family hold at once is
sure at 1 - alpha where none is distinguished from the baseline; where all of m are, at 1 - alpha (1 + 1/2 + ... + 1/m).
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
"""With fewer differences their spread says next to nothing."""
MIN_SHARE = 0.5
"""Of the splits must have both scores: a configuration that fails more often is not judged by where it did not."""


@dataclass(frozen=True)
class Comparison:
    """A configuration against a baseline, over the splits in which both have a score.

    ``difference`` is above 0 where ``name`` is better, whether large values are good or small ones; so are ``effect``,
    the difference in standard deviations of the differences, and both intervals. ``p`` is of this comparison alone,
    ``p_adjusted`` allows for the others of its family and decides the verdict. ``signed_rank_p`` (Wilcoxon) is not
    corrected for training sets that overlap and decides nothing. What a test that was not made would have said is
    None, and ``remark`` says why; it also says how many splits were left out.
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
        """The verdict as a sentence: ``trial 17: better than the baseline by 0.031 [0.012, 0.050]``."""
        return f"{self.name}: {self._verdict()}" + (f" ({self.remark})" if self.remark else "")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with the sentence as ``text``."""
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
            return f"{self.verdict} than {other} by {_with_interval(sign * self.difference, ends, self.unit)}"
        whole = _with_interval(self.difference, (low, high), self.unit)
        return f"not distinguishable from {other}: difference {whole}"


def compare(scores: Scores, name: str, baseline: str, *, alpha: float = 0.05) -> Comparison:
    """``name`` against ``baseline``, at the two-sided level ``alpha``.

    Raises
    ------
    RequestError
        If one of them is not among the scores, both are the same, or alpha is not between 0 and 1.
    """
    return _family(scores, [name], baseline, alpha)[0]


def compare_all(scores: Scores, baseline: str, *, alpha: float = 0.05) -> tuple[Comparison, ...]:
    """Every other configuration against ``baseline``, in the order of the scores: if none differs in truth, the chance
    that any verdict says so is at most ``alpha``. One that cannot be tested counts in the family all the same.

    Raises
    ------
    RequestError
        As :func:`compare`.
    """
    scores.of(baseline)
    return _family(scores, [name for name in scores.values if name != baseline], baseline, alpha)


def comparison_table(comparisons: Sequence[Comparison]) -> pd.DataFrame:
    """A row a comparison; intervals as two columns, ``interval_low`` and ``interval_high``."""
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
        raise RequestError(f"{baseline}: cannot be compared with itself; allowed: two different configurations")
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
    remarks = [f"{n - len(gains)} of {n} splits left out, where one of the two failed"] if len(gains) < n else []
    test = None
    if n == 1:
        remarks.append("one split: a single difference has no spread to judge it by")
    elif len(gains) < max(MIN_PAIRS, MIN_SHARE * n):
        needed = max(MIN_PAIRS, math.ceil(MIN_SHARE * n))
        remarks.append(f"{len(gains)} pairs are too few to test, {needed} are needed")
    elif are_equal(gains, np.concatenate([scores.of(name)[both], scores.of(baseline)[both]])):
        remarks.append(f"all {len(gains)} differences are equal: without spread there is nothing to judge them by")
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
    """``0.031 [0.012, 0.050]``, to two digits of the half width, and so many that an end beside 0 is not shown as 0."""
    half = (ends[1] - ends[0]) / 2
    digits = max([_decimals(half, 2)] + [_decimals(abs(end), 1) for end in ends if end])
    shown = [f"{round(number, digits) + 0.0:.{digits}f}" for number in (value, *ends)]
    return f"{shown[0]}{f' {unit}' if unit else ''} [{shown[1]}, {shown[2]}]"


def _shown(value: float, unit: str) -> str:
    return f"{value:.3g}" + (f" {unit}" if unit else "")


def _decimals(size: float, n_digits: int) -> int:
    """Decimals that show ``n_digits`` digits of ``size``, at least 0."""
    return max(0, n_digits - 1 - math.floor(math.log10(size))) if 0 < size < math.inf else 0
