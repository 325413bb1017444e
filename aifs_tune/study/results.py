"""Results of trials, checked against the objectives and limits of their study."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from aifs_tune._util.scalars import brief
from aifs_tune.config.sweep import Objective
from aifs_tune.errors import RequestError
from aifs_tune.space.outcome_limits import Limit
from aifs_tune.study.serialization import best_of, values_in
from aifs_tune.study.trial import FinalState, Measurement, ToldState, Trial


@dataclass(frozen=True)
class Result:
    """Final result of a trial.

    ``values`` has one number for each objective; it is empty if the trial failed, or was pruned before it had all of
    them. ``excess`` is by how much the trial exceeds each limit, at most 0 within it. ``feasible`` is whether it
    exceeds none; None if unknown.
    """

    state: FinalState
    metrics: Mapping[str, float | None]
    values: list[float]
    reason: str | None
    excess: Mapping[str, float] = field(default_factory=dict)
    feasible: bool | None = None

    def is_that_of(self, trial: Trial) -> bool:
        """Whether a finished trial has this result; two failures are the same whatever their reasons."""
        return trial.state == self.state and (self.state == "failed" or self.values == values_of(trial))


def values_of(trial: Trial) -> list[float]:
    """The values of a trial, one for each objective."""
    return list(trial.values.values()) or [value for value in (trial.value,) if value is not None]


def result_of(
    trial: Trial,
    told: float | Mapping[str, float | None] | None,
    *,
    state: ToldState,
    reason: str | None,
    curve: Sequence[Measurement],
    objectives: Sequence[Objective],
    limits: Sequence[Limit] = (),
) -> Result:
    """The result of a trial from what was ``told``: its objective, or metrics, or None for its best epoch.

    A trial that is told as complete is failed if an objective, or the metric of a limit, is missing or not finite.

    Raises
    ------
    RequestError
        If ``told`` is one number and there are several objectives or limits, if a value is not a number, or if a metric
        of nearly the same name is there in place of a needed one.
    """
    if state == "infeasible":
        metrics = told if isinstance(told, Mapping) else {}
        return Result("failed", metrics, [], reason or "infeasible", feasible=False)
    metrics = _metrics_of(trial, told, curve, objectives, limits)
    values = values_in(metrics, objectives)
    missing = next((objective.metric for objective in objectives if objective.metric not in values), None)
    excess = {str(limit): limit.excess(metrics) for limit in limits}
    unlimited = next((limit.metric for limit in limits if excess[str(limit)] is None), None)
    if state == "complete":
        missing = missing or unlimited
        _check_spelling(trial, told, missing)
    if state == "complete" and missing is not None:
        value = metrics.get(missing)
        state, reason = "failed", reason or f"{'no value' if value is None else f'value {value}'} for {missing}"
    if state == "failed" or missing is not None:
        return Result(state, metrics, [], reason)
    known = {limit: each for limit, each in excess.items() if each is not None}
    feasible = max(known.values()) <= 0.0 if known and unlimited is None else None
    return Result(state, metrics, list(values.values()), reason, known, feasible)


def scores_of(trial: Trial, objectives: Sequence[Objective]) -> list[float]:
    """The values of a complete trial, one for each objective, signed so that larger is better."""
    signs = [1.0 if objective.mode == "max" else -1.0 for objective in objectives]
    return [sign * value for sign, value in zip(signs, values_of(trial), strict=True)]


def reaches(scores: Sequence[float], others: Sequence[float]) -> bool:
    """Whether no score is below the other trial's score."""
    return all(one >= other for one, other in zip(scores, others, strict=True))


def front_of(trials: Sequence[Trial], objectives: Sequence[Objective]) -> list[Trial]:
    """The Pareto front of complete ``trials``, in their order."""
    scores = {trial.number: scores_of(trial, objectives) for trial in trials}
    front: dict[int, list[float]] = {}
    for number, own in sorted(scores.items(), key=lambda entry: entry[1], reverse=True):
        # in this order, a later trial that beats an earlier one in an objective is worse in another
        if not any(reaches(kept, own) and kept != own for kept in front.values()):
            front[number] = own
    return [trial for trial in trials if trial.number in front]


def objectives_in(metrics: Mapping[str, float | None], objectives: Sequence[Objective], number: int) -> list[float]:
    """The values of the objectives among the metrics that trial ``number`` reported.

    Raises
    ------
    RequestError
        If an objective is missing or not finite.
    """
    values = []
    for metric in (objective.metric for objective in objectives):
        if metric not in metrics:
            there = ", ".join(metrics) or "nothing"
            raise RequestError(f"trial {number}: the objective {metric!r} was not reported; it reported: {there}")
        value = metrics[metric]
        if value is None or not math.isfinite(value):
            raise RequestError(f"trial {number}: {metric} is {value}; allowed: a finite number")
        values.append(float(value))
    return values


def reported_metrics(reported: object, objectives: Sequence[Objective], number: int) -> Mapping[str, float | None]:
    """Return what trial ``number`` reported for an epoch as metrics by name.

    Raises
    ------
    RequestError
        If a value is not a number, or if one number does not say which of several objectives it is.
    """
    if isinstance(reported, Mapping):
        for name, value in reported.items():
            _check_number(number, str(name), value)
        return reported
    first, *others = (objective.metric for objective in objectives)
    if others:
        names = ", ".join((first, *others))
        raise RequestError(f"trial {number}: {brief(reported)} has no metrics; allowed: a value for each of {names}")
    if reported is None:
        raise RequestError(f"trial {number}: None is not a value of {first}; allowed: a finite number")
    _check_number(number, first, reported)
    return {first: float(reported)}  # type: ignore[arg-type]


def _check_number(trial: int, name: str, value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, str | bytes):
        with suppress(TypeError, ValueError, OverflowError):
            float(value)
            return
    allowed = f"a number up to 1e308, or None for no value of {name}"
    raise RequestError(f"trial {trial}: {brief(value)} is not a value of {name}; allowed: {allowed}")


def _check_spelling(trial: Trial, told: object, missing: str | None) -> None:
    """Refuse metrics that lack one but have another of nearly its name, which would be lost with the trial."""
    if missing is None or not isinstance(told, Mapping) or missing in told:
        return
    near = next(iter(get_close_matches(missing, [str(name) for name in told], n=1)), None)
    if near is not None:
        raise RequestError(
            f"trial {trial.number}: no value for {missing}, but one for {brief(near)}; did you mean {missing}? Nothing "
            "was stored"
        )


def _metrics_of(
    trial: Trial,
    told: float | Mapping[str, float | None] | None,
    curve: Sequence[Measurement],
    objectives: Sequence[Objective],
    limits: Sequence[Limit],
) -> Mapping[str, float | None]:
    if isinstance(told, Mapping):
        for name, value in told.items():
            _check_number(trial.number, name, value)
        return told
    if told is not None:
        _check_number(trial.number, objectives[0].metric, told)
    if told is None:
        best = best_of(curve, objectives[0])
        return best.metrics if best else trial.metrics
    needed = dict.fromkeys([*(each.metric for each in objectives), *(limit.metric for limit in limits)])
    if len(needed) > 1:
        names = ", ".join(needed)
        what = "which objective it is" if len(objectives) > 1 else "the metrics of the limits"
        raise RequestError(f"trial {trial.number}: {told} does not say {what}; allowed: a value for each of {names}")
    return {objectives[0].metric: float(told)}
