"""Suggestions for changes of a study, each with statistical evidence.

A suggestion of one kind is made by chance in at most a fraction :data:`ALPHA` of the studies in which no parameter
matters, with a Bonferroni correction for all parameters that it could be about. ``fix`` and ``noise`` have criteria of
their own. ``benchmarks/suggestions.py`` measures how often suggestions are wrong.

A sampler changes all parameters together, so that a parameter without effect correlates with one that has an effect. A
suggestion about a parameter must therefore also hold in the residuals that the other parameters do not explain.

With several objectives there is no single best trial, and only ``fix``, ``exclude`` and ``trials`` are suggested.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import scipy  # its modules are imported when they are used, which few sweeps do
from numpy.typing import NDArray

from aifs_tune._util.scalars import show
from aifs_tune.analysis.importance import Explained
from aifs_tune.analysis.scores import Array
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.study.ranking import ranked
from aifs_tune.study.recommendation import MIN_RESULTS
from aifs_tune.study.results import scores_of
from aifs_tune.study.trial import Trial

Marked: TypeAlias = NDArray[np.bool_]

ALPHA = 0.02
"""Maximum probability of evidence of one kind by chance."""
KINDS = ("widen", "drop", "fix", "exclude", "trials", "search", "noise", "epochs")
"""Kinds of suggestions, in the order of the table.

- ``widen``: the best results lie at the end of a range.
- ``drop``: a choice is never among the best trials.
- ``fix``: a parameter explains almost nothing.
- ``exclude``: trials fail in a part of the space.
- ``trials``: there are too few trials, or they still improve the result.
- ``search``: later trials improve nothing.
- ``noise``: the gain is within the noise.
- ``epochs``: trials still improve in the last epochs.
"""
_OUTER = 0.1
"""Fraction of a range that counts as its end."""
_MIN_OUTER = 3
"""Minimum number of the best trials at the end of a range for ``widen``."""
_MIN_EXPLAINED = 0.3
"""Minimum share of the variance of unseen trials that the forest must predict for ``fix``."""
_ALONE = 0.05
"""Maximum p of a finding in the residuals that the other parameters do not explain."""
_MAX_LOST = 0.02
"""Maximum share of the variance that the forest may lose without a parameter for ``fix``."""
_NORMAL_95 = 1.96
_MIN_FAILED = 3
"""Minimum number of failed trials for ``exclude``."""
_MIN_GAIN = 0.05
"""Minimum gain of the last third for ``trials``, as a fraction of the gain of the best trial over the median."""


@dataclass(frozen=True)
class Suggestion:
    """Suggestion to change ``parameter``, or the whole study where it is None."""

    parameter: str | None
    kind: str
    text: str
    evidence: str


def n_best(n: int) -> int:
    """Return how many of ``n`` trials count as the best ones."""
    return max(5, n // 4)


def oriented(trials: Sequence[Trial], spec: SweepSpec) -> Array:
    """Return the first objective (n,), with a sign so that larger is better."""
    return np.array([scores_of(t, spec.objectives)[0] for t in trials], dtype=float)


def shown(p: float) -> str:
    """Format a probability."""
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.1g}"


def at_least(n_marked_best: int, *, n: int, n_marked: int, n_best: int) -> float:
    """Compute the probability of so many marked trials or more among the best ``n_best`` of ``n`` (hypergeometric)."""
    return float(scipy.stats.hypergeom.sf(n_marked_best - 1, n, n_marked, n_best))


def at_most(n_marked_best: int, *, n: int, n_marked: int, n_best: int) -> float:
    """Compute the probability of so few marked trials or fewer among the best ``n_best`` of ``n`` (hypergeometric)."""
    return float(scipy.stats.hypergeom.cdf(n_marked_best, n, n_marked, n_best))


def rises(unit_values: Array, scores: Array) -> float:
    """Compute p of the rise of ``scores`` (n,) with ``unit_values`` (n,): Spearman's rank correlation, one-sided."""
    if len(unit_values) < 3 or np.ptp(unit_values) == 0 or np.ptp(scores) == 0:
        return 1.0
    return float(scipy.stats.spearmanr(unit_values, scores, alternative="greater").pvalue)


def are_below(ones: Array, others: Array) -> float:
    """Compute p of ``ones`` being below ``others``: Mann-Whitney test, one-sided."""
    if not len(ones) or not len(others):
        return 1.0
    return float(scipy.stats.mannwhitneyu(ones, others, alternative="less").pvalue)


def differ(ones: Array, others: Array) -> float:
    """Compute p of the difference of two distributions: Kolmogorov-Smirnov test."""
    if not len(ones) or not len(others):
        return 1.0
    return float(scipy.stats.ks_2samp(ones, others).pvalue)


def repeated(n_hits: int, n: int, chance: float) -> float:
    """Compute the probability of ``n_hits`` or more of ``n`` independent events of probability ``chance``."""
    return float(scipy.stats.binom.sf(n_hits - 1, n, chance))


def noise_gain(sd: float, n: int, level: float) -> float:
    """Compute the gain of the best of ``n`` equal trials over their median by noise of standard deviation ``sd``.

    It is exceeded with probability ``level``.
    """
    return float(sd * scipy.stats.norm.ppf((1.0 - level) ** (1.0 / n)))


def parted(ones: Array, others: Array) -> tuple[float, bool]:
    """Find the cut that separates ``ones`` best from ``others``, and whether ``ones`` lie above it (Youden's index)."""
    best = (-1.0, 0.0, True)
    for cut in ones:
        for is_above in (True, False):
            gap = _share(ones, cut, is_above) - _share(others, cut, is_above)
            best = max(best, (gap, float(cut), is_above))
    return best[1], best[2]


def beyond(unit_values: Sequence[float] | Array, cut: float, is_above: bool) -> Marked:
    """Mark the values at or above ``cut``, or at or below it."""
    found = np.asarray(unit_values)
    return np.asarray(found >= cut if is_above else found <= cut)


def _share(unit_values: Array, cut: float, is_above: bool) -> float:
    return float(np.mean(beyond(unit_values, cut, is_above)))


@dataclass(frozen=True, eq=False)
class ScoreHistory:
    """Scores (n,) of the complete trials in the order of their numbers; larger is better."""

    scores: Array

    @staticmethod
    def of(spec: SweepSpec, best_first: Sequence[Trial]) -> ScoreHistory:
        """Return the history of ranked trials."""
        return ScoreHistory(oriented(sorted(best_first, key=lambda t: t.number), spec))

    @property
    def _n_late(self) -> int:
        return len(self.scores) // 3

    def _late_best(self) -> tuple[int, int]:
        """Return how many of the best trials are in the last third, and the number of best trials."""
        n, k = len(self.scores), n_best(len(self.scores))
        best = np.argsort(-self.scores, kind="stable")[:k]
        return int((best >= n - self._n_late).sum()), k

    def still_gains(self) -> list[Suggestion]:
        """Suggest more trials if the last third still improved the result."""
        n, late = len(self.scores), self._n_late
        (hits, k), spread = self._late_best(), float(self.scores.max() - np.median(self.scores)) if n else 0.0
        if n <= k or late == 0:
            return []
        gain = float(self.scores[-late:].max() - self.scores[:-late].max())
        p = at_least(hits, n=n, n_marked=late, n_best=k) * 2
        if p > ALPHA or gain <= _MIN_GAIN * spread:
            return []
        evidence = (
            f"{hits} of the best {k} trials are among the last {late}, "
            f"and the best value improved by {gain:.3g}; {shown(p)}"
        )
        text = "The last third of the trials still improved the result. Run more trials."
        return [Suggestion(None, "trials", text, evidence)]

    def has_stopped(self) -> list[Suggestion]:
        """Suggest another search if the last third has none of the best trials."""
        n, late = len(self.scores), self._n_late
        hits, k = self._late_best()
        if n <= k or hits:
            return []
        p = at_most(0, n=n, n_marked=late, n_best=k) * 2
        if p > ALPHA:
            return []
        evidence = f"none of the best {k} trials is among the last {late}; {shown(p)}"
        text = "The last third of the trials has none of the best ones. More of the same search will hardly help."
        return [Suggestion(None, "search", text, evidence)]

    def is_within(self, noise: float | None) -> list[Suggestion]:
        """Suggest repetitions if noise alone could explain the gain of the best trial."""
        n = len(self.scores)
        if noise is None or n < 5:
            return []
        gain, by_noise = float(self.scores.max() - np.median(self.scores)), noise_gain(noise, n, 0.05)
        if gain > by_noise:
            return []
        text = "The gain of the best trial is within the noise. Repeat it, measure more precisely, or widen the space."
        evidence = (
            f"the best trial is {gain:.3g} better than the median trial; "
            f"noise alone gives the best of {n} equal trials up to {by_noise:.3g}"
        )
        return [Suggestion(None, "noise", text, evidence)]


def train_longer(best_first: Sequence[Trial], n_epochs: int) -> list[Suggestion]:
    """Suggest more epochs if the best epochs of the best trials are the last ones."""
    whole = [t for t in best_first if t.epochs >= n_epochs and t.epoch is not None]
    k = min(n_best(len(whole)), len(whole))
    last = max(1, round(0.1 * n_epochs))
    if n_epochs <= 1 or k == 0:
        return []
    hits = sum((t.epoch or 0) > n_epochs - last for t in whole[:k])
    p = repeated(hits, k, last / n_epochs)
    if p > ALPHA or 2 * hits <= k:
        return []
    when = "the last one" if last == 1 else f"one of the last {last}"
    evidence = f"in {hits} of the best {k} trials, the best of {n_epochs} epochs is {when}; {shown(p)}"
    return [Suggestion(None, "epochs", "Trials still improve at the end. Train for more epochs.", evidence)]


def suggestions_of(
    spec: SweepSpec, trials: Sequence[Trial], explained: Explained, *, noise: float | None, n_epochs: int
) -> list[Suggestion]:
    """Return the suggestions for a study, in the order of :data:`KINDS`.

    ``noise`` is the standard deviation of one measurement, and ``n_epochs`` the number of epochs of a trial that is not
    stopped, 0 without epochs.
    """
    best_first = ranked(trials, spec)
    found = [*_fix(spec, explained), *_exclude(trials, explained), *_few(best_first, explained)]
    if not spec.trade_off:
        history = ScoreHistory.of(spec, best_first)
        found += [*_widen(spec, best_first, explained), *_drop(spec, best_first, explained)]
        found += [*history.still_gains(), *history.has_stopped(), *history.is_within(noise)]
        found += train_longer(best_first, n_epochs)
    return sorted(found, key=lambda each: KINDS.index(each.kind))


def min_trials(explained: Explained) -> int:
    """Return how many complete trials a study needs, given its number of parameters."""
    return MIN_RESULTS * (1 + len(explained.names))


def _widen(spec: SweepSpec, best_first: Sequence[Trial], explained: Explained) -> list[Suggestion]:
    mixed = {name for mixture in spec.mixtures for name in mixture.components}
    ranges = [i for i, name in enumerate(explained.names) if not explained.axis(i).is_nominal and name not in mixed]
    found = []
    for i in ranges:
        name = explained.names[i]
        active = [t for t in best_first if name in t.params]
        n, k = len(active), n_best(len(active))
        if n <= k:
            continue
        unit_values = explained.encoded(active)[:, i]
        scores = oriented(active, spec)
        for is_upper in (True, False):
            end = explained.axis(i).snapped(np.array([float(is_upper)]))[0]
            cut = min(1 - _OUTER, end) if is_upper else max(_OUTER, end)
            outer = beyond(unit_values, cut, is_upper)
            hits, n_outer = int(outer[:k].sum()), int(outer.sum())
            if hits < _MIN_OUTER or 2 * hits <= min(k, n_outer):
                continue
            draw = at_least(hits, n=n, n_marked=n_outer, n_best=k)
            p = 2 * min(draw, rises(unit_values if is_upper else -unit_values, scores)) * 2 * len(ranges)
            if p <= ALPHA and _rises_alone(explained, i, active, spec, is_upper):
                bound = show(explained.axis(i).values(np.array([float(is_upper)]))[0])
                side = "upper" if is_upper else "lower"
                text = f"The best results lie at the {side} bound {bound}. Widen the range if {name} can go further."
                evidence = (
                    f"{hits} of the best {k} trials lie near this bound, "
                    f"and {n_outer} of all {n} complete trials; {shown(p)}"
                )
                found.append(Suggestion(name, "widen", text, evidence))
    return found


def _rises_alone(explained: Explained, i: int, active: Sequence[Trial], spec: SweepSpec, is_upper: bool) -> bool:
    unit_values = explained.encoded(active)[:, i]
    rest = explained.unexplained(i, active, oriented(active, spec))
    return rises(unit_values if is_upper else -unit_values, rest) <= _ALONE


def _rests(
    explained: Explained, i: int, active: Sequence[Trial], spec: SweepSpec, chosen: Marked
) -> tuple[Array, Array]:
    """Return the residuals that the other parameters do not explain, of chosen trials and of the others."""
    rest = explained.unexplained(i, active, oriented(active, spec))
    return rest[chosen], rest[~chosen]


def _drop(spec: SweepSpec, best_first: Sequence[Trial], explained: Explained) -> list[Suggestion]:
    nominal = [i for i in range(len(explained.names)) if explained.axis(i).is_nominal]
    n_choices = sum(len(explained.axis(i).choices) for i in nominal)
    found = []
    for i in nominal:
        name = explained.names[i]
        active = [t for t in best_first if name in t.params]
        values, scores = [t.coded_params[name] for t in active], oriented(active, spec)
        n, k = len(values), n_best(len(values))
        for choice in explained.axis(i).choices:
            n_chosen = values.count(choice)
            if n <= k or choice in values[:k]:
                continue
            chosen = np.array([value == choice for value in values])
            draw = at_most(0, n=n, n_marked=n_chosen, n_best=k)
            p = 2 * min(draw, are_below(scores[chosen], scores[~chosen])) * n_choices
            if p <= ALPHA and are_below(*_rests(explained, i, active, spec, chosen)) <= _ALONE:
                evidence = (
                    f"none of the best {k} trials uses it, but {n_chosen} of all {n} complete trials do; {shown(p)}"
                )
                text = f"{show(choice)} is never among the best trials. Drop it."
                found.append(Suggestion(name, "drop", text, evidence))
    return found


def _fix(spec: SweepSpec, explained: Explained) -> list[Suggestion]:
    """Suggest to fix parameters without which the forest explains as much, for all objectives.

    Conditional parameters are left out: they matter little overall because they are seldom active. It needs more trials
    than other suggestions, because few trials may miss the region in which a parameter matters.
    """
    if 2 * len(explained.trials) < 3 * min_trials(explained):
        return []
    most = np.zeros(len(explained.names))
    for objective in spec.objectives:
        forest = explained.find_forest(objective)
        if forest is None or forest.explained < _MIN_EXPLAINED:
            return []
        most = np.maximum(most, [_most_lost(explained, i, explained.values(objective)) for i in range(len(most))])
    found = []
    for i, name in enumerate(explained.names):
        if most[i] < _MAX_LOST and not spec.space[name].when:
            text = "This parameter makes almost no difference. Fix it."
            evidence = (
                "without it, the random forest explains at most "
                f"{most[i]:.1%} less of the variance of unseen trials (upper end of the 95 % interval)"
            )
            found.append(Suggestion(name, "fix", text, evidence))
    return found


def _most_lost(explained: Explained, i: int, values: Array) -> float:
    """Compute the upper end (95 %) of the share of the variance that is predicted with a parameter and not without it.

    Leave-one-covariate-out (LOCO): Lei et al., Journal of the American Statistical Association 113, 2018, section 6.
    """
    squares = [explained.unexplained(without, explained.trials, values) ** 2 for without in (i, None)]
    lost = (squares[0] - squares[1]) / np.var(values)
    return float(lost.mean() + _NORMAL_95 * lost.std(ddof=1) / np.sqrt(len(lost)))


def _exclude(trials: Sequence[Trial], explained: Explained) -> list[Suggestion]:
    failed = [t for t in trials if t.state == "failed"]
    others = [t for t in trials if t.state in ("complete", "pruned")]
    if len(failed) < _MIN_FAILED or not others:
        return []
    found = []
    for i, name in enumerate(explained.names):
        ones, rest = ([t for t in group if name in t.params] for group in (failed, others))
        axis = explained.axis(i)
        if axis.is_nominal:
            found += _failing_choices(name, axis.choices, ones, rest, len(explained.names))
            continue
        unit_values = [explained.encoded(group)[:, i] for group in (ones, rest)]
        p = differ(*unit_values) * len(explained.names)
        if p > ALPHA:
            continue
        cut, is_above = parted(*unit_values)
        bound, side = show(_rounded(axis.values(np.array([cut]))[0])), "above" if is_above else "below"
        inside = [int(beyond(group, cut, is_above).sum()) for group in unit_values]
        evidence = (
            f"{inside[0]} of {len(ones)} failed trials lie there, "
            f"and {inside[1]} of {len(rest)} other trials; {shown(p)}"
        )
        text = f"Trials fail at {bound} and {side}. Find the cause, or exclude this part of the range."
        found.append(Suggestion(name, "exclude", text, evidence))
    return found


def _failing_choices(
    name: str, choices: Sequence[object], failed: Sequence[Trial], others: Sequence[Trial], n_parameters: int
) -> list[Suggestion]:
    found = []
    n = len(failed) + len(others)
    for choice in choices:
        n_failed = sum(t.coded_params[name] == choice for t in failed)
        n_others = sum(t.coded_params[name] == choice for t in others)
        p = at_least(n_failed, n=n, n_marked=n_failed + n_others, n_best=len(failed)) * n_parameters * len(choices)
        if n_failed and p <= ALPHA:
            evidence = (
                f"{n_failed} of {len(failed)} failed trials use it, "
                f"and {n_others} of {len(others)} other trials; {shown(p)}"
            )
            text = f"Trials fail with {show(choice)}. Find the cause, or exclude this choice."
            found.append(Suggestion(name, "exclude", text, evidence))
    return found


def _few(best_first: Sequence[Trial], explained: Explained) -> list[Suggestion]:
    n_needed = min_trials(explained)
    if not explained.names or len(best_first) >= n_needed:
        return []
    text = f"There are too few trials to see what matters. Run at least {n_needed}."
    evidence = f"{len(best_first)} trials are complete, and {len(explained.names)} of the parameters vary"
    return [Suggestion(None, "trials", text, evidence)]


def _rounded(value: object) -> object:
    return float(f"{value:.3g}") if isinstance(value, float) else value
