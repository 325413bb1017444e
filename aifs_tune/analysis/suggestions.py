"""What a study's results suggest to change before more is measured.

A suggestion needs evidence that chance gives in at most :data:`ALPHA` of studies in which nothing matters, for its kind
and with all parameters that it could be of counted (Bonferroni); ``fix`` and ``noise`` go by criteria of their own. How
often it errs is measured by ``benchmarks/suggestions.py``.
A sampler moves all parameters at once, so that one which does nothing goes along with one that does: what is said of a
parameter must show in what the others leave unexplained, too.
Where several objectives are traded off there is no one best, and only ``fix``, ``exclude`` and ``trials`` are given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from aifs_tune._util.scalars import show
from aifs_tune.analysis.importance import Explained
from aifs_tune.analysis.scores import Array
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.study.ranking import ranked
from aifs_tune.study.recommendation import MIN_RESULTS
from aifs_tune.study.results import scores_of
from aifs_tune.study.trial import Trial

ALPHA = 0.02
"""The chance, at most, with which luck gives the evidence of a kind."""


@dataclass(frozen=True)
class Suggestion:
    """``parameter`` is None where it is of the whole study."""

    parameter: str | None
    kind: str
    text: str
    evidence: str


def n_best(n: int) -> int:
    """How many of ``n`` trials are the best ones."""
    return max(5, n // 4)


def oriented(trials: Sequence[Trial], spec: SweepSpec) -> Array:
    """Of the first objective, the larger the better: (n,)."""
    return np.array([scores_of(t, spec.objectives)[0] for t in trials], dtype=float)


def shown(p: float) -> str:
    """A probability in words."""
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.1g}"


Marked = NDArray[np.bool_]


def at_least(n_marked_best: int, *, n: int, n_marked: int, n_best: int) -> float:
    """The chance of so many marked ones or more among the best ``n_best`` of ``n``, of which ``n_marked`` are."""
    return float(stats.hypergeom.sf(n_marked_best - 1, n, n_marked, n_best))


def at_most(n_marked_best: int, *, n: int, n_marked: int, n_best: int) -> float:
    """The chance of so few marked ones, or fewer, among the best ``n_best`` of ``n``, of which ``n_marked`` are."""
    return float(stats.hypergeom.cdf(n_marked_best, n, n_marked, n_best))


def rises(unit_values: Array, scores: Array) -> float:
    """The chance that ``scores`` (n,) rise so with ``unit_values`` (n,), or more: one-sided Spearman rank correlation."""
    if len(unit_values) < 3 or np.ptp(unit_values) == 0 or np.ptp(scores) == 0:
        return 1.0
    return float(stats.spearmanr(unit_values, scores, alternative="greater").pvalue)


def are_below(ones: Array, others: Array) -> float:
    """The chance that ``ones`` are so far below ``others``: Mann and Whitney's test, one-sided."""
    if not len(ones) or not len(others):
        return 1.0
    return float(stats.mannwhitneyu(ones, others, alternative="less").pvalue)


def differ(ones: Array, others: Array) -> float:
    """The chance that two groups of unit_values are parted so well by one cut: Kolmogorov and Smirnov's test."""
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


def beyond(unit_values: Sequence[float] | Array, cut: float, is_above: bool) -> Marked:
    """Which unit_values lie at or above, or at or below, ``cut``."""
    found = np.asarray(unit_values)
    return np.asarray(found >= cut if is_above else found <= cut)


def _share(unit_values: Array, cut: float, is_above: bool) -> float:
    return float(np.mean(beyond(unit_values, cut, is_above)))


_MIN_GAIN = 0.05


@dataclass(frozen=True, eq=False)
class ScoreHistory:
    """Scores of the complete trials in the order of their numbers, the larger the better: (n,)."""

    scores: Array

    @staticmethod
    def of(spec: SweepSpec, best_first: Sequence[Trial]) -> ScoreHistory:
        return ScoreHistory(oriented(sorted(best_first, key=lambda t: t.number), spec))

    @property
    def _n_late(self) -> int:
        return len(self.scores) // 3

    def _late_best(self) -> tuple[int, int]:
        """How many of the best trials are in the last third, and how many the best are."""
        n, k = len(self.scores), n_best(len(self.scores))
        best = np.argsort(-self.scores, kind="stable")[:k]
        return int((best >= n - self._n_late).sum()), k

    def still_gains(self) -> list[Suggestion]:
        n, late = len(self.scores), self._n_late
        (hits, k), spread = self._late_best(), float(self.scores.max() - np.median(self.scores)) if n else 0.0
        if n <= k or late == 0:
            return []
        gain = float(self.scores[-late:].max() - self.scores[:-late].max())
        p = at_least(hits, n=n, n_marked=late, n_best=k) * 2
        if p > ALPHA or gain <= _MIN_GAIN * spread:
            return []
        evidence = (
            f"{hits} of the best {k} trials are among the last {late}, and the best gained {gain:.3g}; {shown(p)}"
        )
        return [Suggestion(None, "trials", "the last third was still gaining: make more trials", evidence)]

    def has_stopped(self) -> list[Suggestion]:
        n, late = len(self.scores), self._n_late
        hits, k = self._late_best()
        if n <= k or hits:
            return []
        p = at_most(0, n=n, n_marked=late, n_best=k) * 2
        if p > ALPHA:
            return []
        evidence = f"0 of the best {k} trials are among the last {late}; {shown(p)}"
        text = "the last third gained nothing: more of the same search will hardly help"
        return [Suggestion(None, "search", text, evidence)]

    def is_within(self, noise: float | None) -> list[Suggestion]:
        n = len(self.scores)
        if noise is None or n < 5:
            return []
        gain, luck = float(self.scores.max() - np.median(self.scores)), lucky_gain(noise, n, 0.05)
        if gain > luck:
            return []
        text = "what the best gained is within the noise: repeat it, measure more exactly, or widen the space"
        evidence = f"the best is {gain:.3g} above the middle trial; luck alone gives the best of {n} up to {luck:.3g}"
        return [Suggestion(None, "noise", text, evidence)]


def train_longer(best_first: Sequence[Trial], n_epochs: int) -> list[Suggestion]:
    whole = [t for t in best_first if t.epochs >= n_epochs and t.epoch is not None]
    k = min(n_best(len(whole)), len(whole))
    last = max(1, round(0.1 * n_epochs))
    if n_epochs <= 1 or k == 0:
        return []
    hits = sum((t.epoch or 0) > n_epochs - last for t in whole[:k])
    p = repeated(hits, k, last / n_epochs)
    if p > ALPHA or 2 * hits <= k:
        return []
    when = "the last epoch" if last == 1 else f"the last {last} epochs"
    evidence = f"in {hits} of the best {k} trials the best of {n_epochs} epochs is one of {when}; {shown(p)}"
    evidence = evidence.replace("is one of the last epoch", "is the last one")
    return [Suggestion(None, "epochs", "trials still get better at the end: train longer", evidence)]


KINDS = ("widen", "drop", "fix", "exclude", "trials", "search", "noise", "epochs")
"""widen: a range whose best results lie at its end. drop: a choice that is never among the best. fix: a parameter that
explains next to nothing. exclude: where trials fail. trials: there are too few, or they still gain. search: it gains
nothing any more. noise: what was gained is within it. epochs: trials still get better at the last one."""
_OUTER = 0.1
_MIN_OUTER = 3
_MIN_EXPLAINED = 0.3
_ALONE = 0.05
"""The chance at which a finding still shows in what the other parameters leave unexplained."""
_MAX_LOST = 0.02
_NORMAL_95 = 1.96
_MIN_FAILED = 3


def suggestions_of(
    spec: SweepSpec, trials: Sequence[Trial], explained: Explained, *, noise: float | None, n_epochs: int
) -> list[Suggestion]:
    """What stands out, by :data:`KINDS`; ``noise`` is the standard deviation of one measurement, ``n_epochs`` the
    epochs of a trial that is not stopped, 0 where there are none."""
    best_first = ranked(trials, spec)
    found = [*_fix(spec, explained), *_exclude(trials, explained), *_few(best_first, explained)]
    if not spec.trade_off:
        history = ScoreHistory.of(spec, best_first)
        found += [*_widen(spec, best_first, explained), *_drop(spec, best_first, explained)]
        found += [*history.still_gains(), *history.has_stopped(), *history.is_within(noise)]
        found += train_longer(best_first, n_epochs)
    return sorted(found, key=lambda each: KINDS.index(each.kind))


def min_trials(explained: Explained) -> int:
    """How many complete trials a study of so many parameters needs before much can be said."""
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
                text = f"the best results lie at the {side} bound {bound}: widen it, if {name} can go further"
                evidence = f"{hits} of the best {k} trials are there, of all {n} complete ones {n_outer}"
                found.append(Suggestion(name, "widen", text, f"{evidence}; {shown(p)}"))
    return found


def _rises_alone(explained: Explained, i: int, active: Sequence[Trial], spec: SweepSpec, is_upper: bool) -> bool:
    unit_values = explained.encoded(active)[:, i]
    rest = explained.unexplained(i, active, oriented(active, spec))
    return rises(unit_values if is_upper else -unit_values, rest) <= _ALONE


def _rests(
    explained: Explained, i: int, active: Sequence[Trial], spec: SweepSpec, chosen: Marked
) -> tuple[Array, Array]:
    """What the other parameters leave unexplained, of chosen trials and of the others."""
    rest = explained.unexplained(i, active, oriented(active, spec))
    return rest[chosen], rest[~chosen]


def _drop(spec: SweepSpec, best_first: Sequence[Trial], explained: Explained) -> list[Suggestion]:
    nominal = [i for i in range(len(explained.names)) if explained.axis(i).is_nominal]
    n_choices = sum(len(explained.axis(i).choices) for i in nominal)
    found = []
    for i in nominal:
        name = explained.names[i]
        active = [t for t in best_first if name in t.params]
        values, scores = [t.params[name] for t in active], oriented(active, spec)
        n, k = len(values), n_best(len(values))
        for choice in explained.axis(i).choices:
            n_chosen = values.count(choice)
            if n <= k or choice in values[:k]:
                continue
            chosen = np.array([value == choice for value in values])
            draw = at_most(0, n=n, n_marked=n_chosen, n_best=k)
            p = 2 * min(draw, are_below(scores[chosen], scores[~chosen])) * n_choices
            if p <= ALPHA and are_below(*_rests(explained, i, active, spec, chosen)) <= _ALONE:
                evidence = f"0 of the best {k} trials have it, of all {n} complete ones {n_chosen}"
                text = f"{show(choice)} is never among the best: drop it"
                found.append(Suggestion(name, "drop", text, f"{evidence}; {shown(p)}"))
    return found


def _fix(spec: SweepSpec, explained: Explained) -> list[Suggestion]:
    """Parameters without which the forest would explain as much, of all objectives; conditional ones left out, which
    matter little on the whole as they are seldom there. Few trials miss the corner in which a parameter matters."""
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
            text = "it makes next to no difference: fix it"
            evidence = f"without it the forest foretells unseen trials worse by at most {most[i]:.1%} of their variance"
            found.append(Suggestion(name, "fix", text, evidence))
    return found


def _most_lost(explained: Explained, i: int, values: Array) -> float:
    """The upper end (95 %) of what part of the variance is foretold with a parameter and not without it (LOCO: Lei et
    al., Journal of the American Statistical Association 113, 2018, section 6)."""
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
        evidence = f"{inside[0]} of {len(ones)} failed trials are there, of {len(rest)} others {inside[1]}; {shown(p)}"
        found.append(
            Suggestion(name, "exclude", f"trials fail at {bound} and {side}: look why, or leave it out", evidence)
        )
    return found


def _failing_choices(
    name: str, choices: Sequence[object], failed: Sequence[Trial], others: Sequence[Trial], n_parameters: int
) -> list[Suggestion]:
    found = []
    n = len(failed) + len(others)
    for choice in choices:
        n_failed = sum(t.params[name] == choice for t in failed)
        n_others = sum(t.params[name] == choice for t in others)
        p = at_least(n_failed, n=n, n_marked=n_failed + n_others, n_best=len(failed)) * n_parameters * len(choices)
        if n_failed and p <= ALPHA:
            evidence = (
                f"{n_failed} of {len(failed)} failed trials have it, of {len(others)} others {n_others}; {shown(p)}"
            )
            text = f"trials fail with {show(choice)}: look why, or leave it out"
            found.append(Suggestion(name, "exclude", text, evidence))
    return found


def _few(best_first: Sequence[Trial], explained: Explained) -> list[Suggestion]:
    n_needed = min_trials(explained)
    if not explained.names or len(best_first) >= n_needed:
        return []
    text = f"too few trials to say what matters: make at least {n_needed}"
    evidence = f"{len(best_first)} are complete, {len(explained.names)} parameters vary"
    return [Suggestion(None, "trials", text, evidence)]


def _rounded(value: object) -> object:
    return float(f"{value:.3g}") if isinstance(value, float) else value
