"""Which configuration is best, where some were measured several times and some exceed a limit.

Trials of one configuration are its replicates. A configuration stands where the mean of its complete replicates is;
those with fewer than were asked for stand behind the others. What exceeds a limit does not stand at all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean, stdev, variance

from aifs_tune.results import front_of
from aifs_tune.spec import SweepSpec
from aifs_tune.trial import Replicates, Trial


def ranked(trials: Sequence[Trial], spec: SweepSpec) -> list[Trial]:
    """The complete trials that exceed no limit, those of the best configuration first, within one the best first;
    earlier ones first of equals. Each has its :class:`~aifs_tune.trial.Replicates`, where there are several."""
    sign = -1.0 if spec.objective.mode == "max" else 1.0
    complete = [t for t in trials if t.state == "complete" and t.value is not None and t.feasible is not False]
    if not _counts_replicates(spec):
        return sorted(complete, key=lambda t: (sign * (t.value or 0.0), t.number))
    groups = [_with_mean(group, spec) for group in replicates_in(complete)]
    groups.sort(key=lambda group: (len(group) < spec.search.replicates, sign * _mean(group[0]), group[0].number))
    return [t for group in groups for t in sorted(group, key=lambda t: (sign * (t.value or 0.0), t.number))]


def front(trials: Sequence[Trial], spec: SweepSpec) -> list[Trial]:
    """Those of :func:`ranked` trials whose configuration no other one is better than in all objectives: one of each
    configuration that was repeated, by its means. Those with fewer replicates than were asked for are left out while
    there are others."""
    enough = [t for t in trials if len(t.replicates.trials if t.replicates else [t]) >= spec.search.replicates]
    trials, first = enough or trials, dict[int, Trial]()
    for trial in trials:
        first.setdefault(trial.replicates.trials[0] if trial.replicates else trial.number, trial)
    means = [replace(t, value=_mean(t), values=t.replicates.means) if t.replicates else t for t in first.values()]
    kept = {trial.number for trial in front_of(means, spec.objectives)}
    return [trial for trial in first.values() if trial.number in kept]


def replicates_in(trials: Sequence[Trial]) -> list[list[Trial]]:
    """``trials`` by configuration, each group and the first of the groups in their order."""
    groups: dict[frozenset[tuple[str, object]], list[Trial]] = {}
    for trial in trials:
        groups.setdefault(frozenset(trial.params.items()), []).append(trial)
    return list(groups.values())


def noise_in(trials: Sequence[Trial]) -> tuple[float, int] | None:
    """The standard deviation of one measurement, pooled over all configurations of complete ``trials`` that were
    repeated, and its degrees of freedom; None where none was."""
    complete = [t for t in trials if t.state == "complete" and t.value is not None]
    groups = [[float(t.value or 0.0) for t in group] for group in replicates_in(complete) if len(group) > 1]
    freedom = sum(len(values) - 1 for values in groups)
    if not freedom:
        return None
    return math.sqrt(sum(variance(values) * (len(values) - 1) for values in groups) / freedom), freedom


def _counts_replicates(spec: SweepSpec) -> bool:
    """A trainer's weights are kept of the best single trial, so that its trials are ranked one by one."""
    return spec.trainer is None or ":" in spec.trainer.name


def _mean(trial: Trial) -> float:
    return trial.replicates.mean if trial.replicates else trial.value or 0.0


def _with_mean(group: Sequence[Trial], spec: SweepSpec) -> list[Trial]:
    if len(group) == 1:
        return list(group)
    values = [float(t.value or 0.0) for t in group]
    of_each = {o.metric: [t.values[o.metric] for t in group] for o in spec.objectives if o.metric in group[0].values}
    told = Replicates(
        trials=tuple(t.number for t in group),
        mean=fmean(values),
        standard_error=stdev(values) / math.sqrt(len(values)),
        means={metric: fmean(each) for metric, each in of_each.items()},
    )
    return [replace(trial, replicates=told) for trial in group]
