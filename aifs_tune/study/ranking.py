"""Ranking of trials: replicates count by their mean, and trials that exceed a limit do not count.

Trials of one configuration are its replicates. A configuration is ranked by the mean of its complete replicates;
configurations with fewer replicates than requested come after the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from aifs_tune._util.averages import mean, pooled_standard_deviation, standard_deviation
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.study.results import front_of
from aifs_tune.study.trial import Replicates, Trial


def ranked(trials: Sequence[Trial], spec: SweepSpec) -> list[Trial]:
    """The complete trials within all limits, the best configuration first, and within a configuration the best trial.

    Of equal trials the earlier one comes first. Trials of a repeated configuration have their
    :class:`~aifs_tune.study.trial.Replicates`.
    """
    sign = -1.0 if spec.objective.mode == "max" else 1.0
    complete = best_singly(trials, spec)
    if not _counts_replicates(spec):
        return complete
    groups = [_with_mean(group, spec) for group in replicates_in(sorted(complete, key=lambda t: t.number))]
    # configurations that were trained once come after finalists: the best of many single values is mostly luck
    enough = 2 if spec.search.finalists else spec.search.replicates
    groups.sort(key=lambda group: (len(group) < enough, sign * _mean(group[0]), group[0].number))
    return [t for group in groups for t in sorted(group, key=lambda t: (sign * (t.value or 0.0), t.number))]


def front(trials: Sequence[Trial], spec: SweepSpec) -> list[Trial]:
    """The Pareto front of :func:`ranked` trials.

    A repeated configuration is compared by its means and appears once. Configurations with fewer replicates than
    requested are left out while there are others.
    """
    enough = [t for t in trials if len(t.replicates.trials if t.replicates else [t]) >= spec.search.replicates]
    trials, first = enough or trials, dict[int, Trial]()
    for trial in trials:
        first.setdefault(trial.replicates.trials[0] if trial.replicates else trial.number, trial)
    means = [replace(t, value=_mean(t), values=t.replicates.means) if t.replicates else t for t in first.values()]
    kept = {trial.number for trial in front_of(means, spec.objectives)}
    return [trial for trial in first.values() if trial.number in kept]


def best_singly(trials: Sequence[Trial], spec: SweepSpec) -> list[Trial]:
    """The complete trials within all limits, the best single value first; of equal ones the earlier first."""
    sign = -1.0 if spec.objective.mode == "max" else 1.0
    complete = [t for t in trials if t.state == "complete" and t.value is not None and t.feasible is not False]
    return sorted(complete, key=lambda t: (sign * (t.value or 0.0), t.number))


def finalists(trials: Sequence[Trial], spec: SweepSpec, sd: float) -> list[tuple[Trial, int]]:
    """A trial of each configuration that may be the best, with the number of trainings that it still needs.

    The best comes first; there are at most ``search.finalists``, and none if one configuration is clearly best. A
    configuration may be the best if its mean differs from the best mean by less than twice the standard error of the
    difference; ``sd`` is the standard deviation of a single training.
    """
    sign = 1.0 if spec.objective.mode == "max" else -1.0
    groups = replicates_in(sorted(best_singly(trials, spec), key=lambda t: t.number))
    means = [sign * mean([float(t.value or 0.0) for t in group]) for group in groups]
    order = sorted(range(len(groups)), key=lambda i: (-means[i], groups[i][0].number))[: spec.search.finalists]
    near = [
        i
        for i in order
        if means[order[0]] - means[i] < 2 * sd * math.sqrt(1 / len(groups[order[0]]) + 1 / len(groups[i]))
    ]
    if len(near) < 2:
        return []
    return [(groups[i][0], max(0, spec.search.finalist_seeds - len(groups[i]))) for i in near]


def replicates_in(trials: Sequence[Trial]) -> list[list[Trial]]:
    """``trials`` grouped by configuration; groups and their members keep the order of ``trials``."""
    groups: dict[frozenset[tuple[str, object]], list[Trial]] = {}
    for trial in trials:
        groups.setdefault(frozenset(trial.coded_params.items()), []).append(trial)
    return list(groups.values())


def noise_in(trials: Sequence[Trial]) -> tuple[float, int] | None:
    """The standard deviation of one measurement and its degrees of freedom, pooled over all repeated configurations of
    complete ``trials``; None if none was repeated."""
    complete = [t for t in trials if t.state == "complete" and t.value is not None]
    groups = [[float(t.value or 0.0) for t in group] for group in replicates_in(complete) if len(group) > 1]
    freedom = sum(len(values) - 1 for values in groups)
    if not freedom:
        return None
    return pooled_standard_deviation(groups), freedom


def _counts_replicates(spec: SweepSpec) -> bool:
    """Whether replicates are ranked by their mean.

    With a trainer, the weights of the best single trial are kept, so its trials are ranked one by one unless finalists
    are trained again.
    """
    return spec.trainer is None or spec.is_of_function or spec.search.finalists > 0


def _mean(trial: Trial) -> float:
    return trial.replicates.mean if trial.replicates else trial.value or 0.0


def _with_mean(group: Sequence[Trial], spec: SweepSpec) -> list[Trial]:
    if len(group) == 1:
        return list(group)
    values = [float(t.value or 0.0) for t in group]
    of_each = {o.metric: [t.values[o.metric] for t in group] for o in spec.objectives if o.metric in group[0].values}
    told = Replicates(
        trials=tuple(t.number for t in group),
        mean=mean(values),
        standard_error=standard_deviation(values) / math.sqrt(len(values)),
        means={metric: mean(each) for metric, each in of_each.items()},
    )
    return [replace(trial, replicates=told) for trial in group]
