"""What trials were worth epoch by epoch, and what stopping some of them early saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, median

import pandas as pd

from aifs_tune.spec import SweepSpec
from aifs_tune.trial import Measurement, Trial

ALL = "all"
ESTIMATE = (
    "what a trial would have taken to the last epoch is its epochs times the median seconds of its own epochs; "
    "failed trials are not counted"
)


def curves_of(trials: Sequence[Trial], curves: Mapping[int, Sequence[Measurement]], spec: SweepSpec) -> pd.DataFrame:
    """One row a trial and epoch: the first objective, the seconds of that epoch, and the trial's state."""
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
    """By state of the finished trials, and of all: epochs and seconds spent, and those that all of them would have
    taken to the last epoch; :data:`ESTIMATE` says how that is known. A trial whose epochs have no seconds counts with
    the mean of its whole time, and is left out of the seconds if that is not known either."""
    columns = ["state", "n_trials", "epochs", "epochs_full", "seconds", "seconds_full", "share_saved"]
    rows: list[tuple[object, ...]] = []
    finished = [t for t in trials if t.state in ("complete", "pruned") and curves[t.number]]
    for state in ("complete", "pruned", ALL):
        group = [t for t in finished if state in (t.state, ALL)]
        if not group:
            continue
        paces = {t.number: _pace(t, curves[t.number]) for t in group}
        timed = [t for t in group if paces[t.number] is not None]
        seconds = sum(t.seconds or 0.0 for t in timed) if timed else None
        full = sum(_to_the_end(t, len(curves[t.number]), paces[t.number], n_epochs) for t in timed) if timed else None
        share = 1.0 - seconds / full if seconds is not None and full else None
        epochs = sum(len(curves[t.number]) for t in group)
        rows.append((state, len(group), epochs, n_epochs * len(group), seconds, full, share))
    table = pd.DataFrame(rows, columns=columns)
    whole = dict.fromkeys(("n_trials", "epochs", "epochs_full"), "Int64")
    return table.astype({"state": "string", **whole, **dict.fromkeys(columns[4:], "Float64")})


def _pace(trial: Trial, curve: Sequence[Measurement]) -> float | None:
    """Seconds an epoch of this trial takes."""
    known = [m.seconds for m in curve if m.seconds is not None]
    if known:
        return median(known)
    return None if trial.seconds is None else fmean([trial.seconds / len(curve)])


def _to_the_end(trial: Trial, n_done: int, pace: float | None, n_epochs: int) -> float:
    return (trial.seconds or 0.0) + max(0, n_epochs - n_done) * (pace or 0.0)
