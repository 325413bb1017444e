"""Tables of trials: slices, parallel coordinates, cost and quality, failures, learning curves and early stopping.

Missing values are ``pandas.NA``, as in :mod:`aifs_tune.study.dataframe`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, median

import numpy as np
import pandas as pd

from aifs_tune.config.sweep import Objective, SweepSpec
from aifs_tune.study.dataframe import trials_table
from aifs_tune.study.failures import failure_groups
from aifs_tune.study.ranking import ranked
from aifs_tune.study.results import values_of
from aifs_tune.study.trial import Measurement, Trial

ALL = "all"
ESTIMATE = (
    "the time to the last epoch is estimated by the median seconds of the trial's own epochs; "
    "failed trials are not counted"
)


def slices_of(trials: Sequence[Trial], spec: SweepSpec) -> pd.DataFrame:
    """Return one row for each trial with a result so far, parameter and objective."""
    rows = [
        (trial.number, name, trial.coded_params[name], metric, value, trial.state)
        for trial in trials
        for name, parameter in spec.space.items()
        if parameter.type != "fixed" and name in trial.params
        for metric, value in _known(trial, spec.objectives)
    ]
    table = pd.DataFrame(rows, columns=["trial", "parameter", "value", "metric", "metric_value", "state"])
    kinds = {"trial": "Int64", "parameter": "string", "metric": "string", "metric_value": "Float64", "state": "string"}
    return table.astype({**kinds, "value": "object"})


def parallel_of(trials: Sequence[Trial], spec: SweepSpec) -> pd.DataFrame:
    """Return one row for each complete trial, the best first, with its ``rank`` from 1.

    Trials that exceed a limit come last and have no rank.
    """
    first = ranked(trials, spec)
    numbers = {trial.number for trial in first}
    rest = [t for t in trials if t.state == "complete" and t.value is not None and t.number not in numbers]
    names = [name for name, parameter in spec.space.items() if parameter.type != "fixed"]
    table = trials_table([*first, *rest], names)
    columns = ["trial", "value", *(f"params_{name}" for name in names)]
    others = [column for o in spec.objectives[1:] if (column := f"metrics_{o.metric}") in table.columns]
    table = table[[*columns, *others]]
    ranks = pd.Series([*range(1, len(first) + 1), *[None] * len(rest)], dtype="Int64")
    table.insert(1, "rank", ranks)
    return table


def pareto_of(trials: Sequence[Trial], spec: SweepSpec) -> pd.DataFrame:
    """Return one row for each complete trial with a known duration, the cheapest first.

    ``on_front`` says whether the trial is on the Pareto front: no other trial is at least as cheap and as good, and
    better in one of the two.
    """
    sign = 1.0 if spec.objective.mode == "max" else -1.0
    known = [t for t in ranked(trials, spec) if t.seconds is not None]
    known.sort(key=lambda t: (t.seconds or 0.0, -sign * (t.value or 0.0), t.number))
    best, front = -np.inf, list[bool]()
    before: tuple[float | None, float | None] = (None, None)
    for trial in known:
        score = sign * (trial.value or 0.0)
        is_equal = before == (trial.seconds, trial.value) and front[-1]
        front.append(bool(score > best or is_equal))
        best, before = max(best, score), (trial.seconds, trial.value)
    return pd.DataFrame(
        {
            "trial": pd.Series([t.number for t in known], dtype="Int64"),
            "seconds": pd.Series([t.seconds for t in known], dtype="Float64"),
            "value": pd.Series([t.value for t in known], dtype="Float64"),
            "on_front": pd.Series(front, dtype="boolean"),
        }
    )


def failures_of(trials: Sequence[Trial]) -> pd.DataFrame:
    """Group failed trials by :func:`~aifs_tune.study.failures.normalised` reason, the most frequent first."""
    order = failure_groups(trials)
    return pd.DataFrame(
        {
            "reason": pd.Series([reason for reason, _ in order], dtype="string"),
            "n": pd.Series([len(group) for _, group in order], dtype="Int64"),
            "trials": pd.Series([" ".join(str(t.number) for t in group) for _, group in order], dtype="string"),
            "example": pd.Series([group[0].reason for _, group in order], dtype="string"),
        }
    )


def _known(trial: Trial, objectives: Sequence[Objective]) -> list[tuple[str, float]]:
    """Return the objectives that a trial has so far."""
    if trial.values:
        return [(o.metric, trial.values[o.metric]) for o in objectives if o.metric in trial.values]
    return [(o.metric, value) for o, value in zip(objectives, values_of(trial), strict=False)]


def curves_of(trials: Sequence[Trial], curves: Mapping[int, Sequence[Measurement]], spec: SweepSpec) -> pd.DataFrame:
    """Return one row for each trial and epoch, with the first objective, the seconds and the state of the trial."""
    rows = [
        (t.number, m.epoch, m.metrics.get(spec.objective.metric), m.seconds, t.state)
        for t in trials
        for m in curves[t.number]
    ]
    table = pd.DataFrame(rows, columns=["trial", "epoch", "value", "seconds", "state"])
    return table.astype({"trial": "Int64", "epoch": "Int64", "value": "Float64", "seconds": "Float64"}).astype(
        {"state": "string"}
    )


def saved_of(trials: Sequence[Trial], curves: Mapping[int, Sequence[Measurement]], n_epochs: int) -> pd.DataFrame:
    """Return epochs and seconds spent, and those to the last epoch, by state and for all finished trials.

    :data:`ESTIMATE` describes the estimate. A trial without seconds for its epochs counts with the mean of its total
    time. It is left out of the seconds if that is unknown too.
    """
    columns = ["state", "n_trials", "epochs", "epochs_full", "seconds", "seconds_full", "share_saved"]
    rows: list[tuple[object, ...]] = []
    finished = [t for t in trials if t.state in ("complete", "pruned") and curves[t.number]]
    for state in ("complete", "pruned", ALL):
        group = [t for t in finished if state in (t.state, ALL)]
        if not group:
            continue
        seconds_per_epoch = {t.number: _seconds_per_epoch(t, curves[t.number]) for t in group}
        timed = [t for t in group if seconds_per_epoch[t.number] is not None]
        seconds = sum(t.seconds or 0.0 for t in timed) if timed else None
        full = (
            sum(_to_the_end(t, len(curves[t.number]), seconds_per_epoch[t.number], n_epochs) for t in timed)
            if timed
            else None
        )
        share = 1.0 - seconds / full if seconds is not None and full else None
        epochs = sum(len(curves[t.number]) for t in group)
        rows.append((state, len(group), epochs, n_epochs * len(group), seconds, full, share))
    table = pd.DataFrame(rows, columns=columns)
    whole = dict.fromkeys(("n_trials", "epochs", "epochs_full"), "Int64")
    return table.astype({"state": "string", **whole, **dict.fromkeys(columns[4:], "Float64")})


def _seconds_per_epoch(trial: Trial, curve: Sequence[Measurement]) -> float | None:
    """Return the typical seconds of an epoch of this trial; None if unknown."""
    known = [m.seconds for m in curve if m.seconds is not None]
    if known:
        return median(known)
    return None if trial.seconds is None else fmean([trial.seconds / len(curve)])


def _to_the_end(trial: Trial, n_done: int, epoch_seconds: float | None, n_epochs: int) -> float:
    return (trial.seconds or 0.0) + max(0, n_epochs - n_done) * (epoch_seconds or 0.0)
