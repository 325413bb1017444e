"""Conversion of trials to and from Optuna trials, and the names of the attributes that hold what Optuna has not.

Parameters, state, values and the first objective's curve are Optuna's own, so that its dashboard and plots show them.
All metrics of an epoch are one system attribute, and so is a change of the parameters. The summary of a finished trial
(metrics of the best epoch, epochs, seconds, worker, reason, hashes of the weights) is in user attributes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from aifs_tune._util.hashing import Hashes
from aifs_tune._util.scalars import Scalar
from aifs_tune.config.sweep import Objective, SweepSpec
from aifs_tune.space.search_space import Space
from aifs_tune.study.lease import Lease, moment
from aifs_tune.study.trial import Change, Measurement, State, Trial, TrialProgress

SPEC = "aifs_tune:spec"
"""User attribute of a study: its sweep file. A study without it was made by another tool."""
LEADER = "aifs_tune:leader"
"""User attribute of a study: the sweep that runs it."""
REQUESTED = "aifs_tune:requested"
"""User attribute of a study: how many finished trials it is to have."""
DATA = "aifs_tune:data"
"""User attribute of a study: the fingerprint of its data."""
FACT = "aifs_tune:fact:"
NOTICES = "notices"
"""Name of the fact that holds them."""
"""Prefix of further user attributes of a study."""

LIMIT = "constraints:"
"""Prefix of Optuna's constraints: by how much each limit is exceeded, at most 0 within it."""
SWEEP = "aifs_tune:sweep"
"""The sweep that runs a trial. Who has the sample is in the lease."""
LEASE = "aifs_tune:lease"
CANCELLED = "cancelled"
"""User attribute of a trial that a person ended; it says nothing of its configuration."""
STUDY_NOTE, TRIAL_NOTES = "study_note", "trial_notes"
"""Names of the facts that hold what people noted of the study, and of its trials by their number."""
ARCHIVED = "archived"
"""Name of the fact that says that a study was put aside."""
SUPERSEDED = "aifs_tune:superseded_by"
EPOCH = "aifs_tune:epoch:"
CHANGE = "aifs_tune:change:"

TO_OPTUNA: dict[State, TrialState] = {
    "waiting": TrialState.WAITING,
    "running": TrialState.RUNNING,
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}
FROM_OPTUNA: dict[TrialState, State] = {optuna_state: state for state, optuna_state in TO_OPTUNA.items()}


def finite_or_none(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """Metrics as JSON can hold them: NaN and infinite values become None."""
    return {name: float(x) if x is not None and math.isfinite(x) else None for name, x in metrics.items()}


def read_curve(frozen: FrozenTrial) -> list[Measurement]:
    """The reported epochs of a trial, in order."""
    entries = (
        (int(key.removeprefix(EPOCH)), value) for key, value in frozen.system_attrs.items() if key.startswith(EPOCH)
    )
    return [
        Measurement(epoch, value["metrics"], value["seconds"], value.get("checkpoint"))
        for epoch, value in sorted(entries)
    ]


def epoch_record(metrics: Mapping[str, Any], seconds: float | None, checkpoint: Hashes | None) -> dict[str, Any]:
    """A measurement as it is stored; :func:`read_curve` reads it."""
    record: dict[str, Any] = {"metrics": finite_or_none(metrics), "seconds": seconds}
    return record if checkpoint is None else record | {"checkpoint": dict(checkpoint)}


def change_record(params: Mapping[str, Scalar], source: int, inherited: Measurement | None) -> dict[str, Any]:
    """A change as it is stored; ``inherited`` is the best measurement of the weights that the trial takes over."""
    best = None if inherited is None else {"epoch": inherited.epoch, "metrics": dict(inherited.metrics)}
    return {"params": dict(params), "source": source, "best": best}


def read_schedule(frozen: FrozenTrial, space: Space) -> tuple[Change, ...]:
    """The changes of a trial while it trained, the earliest first."""
    changes = _changes(frozen)
    return tuple(Change(epoch, space.loaded(entry["params"]), entry["source"]) for epoch, entry in changes)


def read_weights_curve(frozen: FrozenTrial) -> list[Measurement]:
    """The measurements of the weights that a trial has now.

    These are its epochs since the last change, and before them the best epoch of the weights that it took over.
    """
    curve, changes = read_curve(frozen), _changes(frozen)
    if not changes:
        return curve
    since, entry = changes[-1]
    inherited = [] if entry["best"] is None else [Measurement(entry["best"]["epoch"], entry["best"]["metrics"])]
    return inherited + [measured for measured in curve if measured.epoch >= since]


def _changes(frozen: FrozenTrial) -> list[tuple[int, dict[str, Any]]]:
    attributes = frozen.system_attrs.items()
    return sorted((int(key.removeprefix(CHANGE)), entry) for key, entry in attributes if key.startswith(CHANGE))


def best_of(curve: Sequence[Measurement], objective: Objective) -> Measurement | None:
    """The measurement with the best objective, the earliest of equal ones; None for an empty curve."""
    sign = 1 if objective.mode == "max" else -1
    scored = [(sign * value, -m.epoch, m) for m in curve if (value := m.metrics.get(objective.metric)) is not None]
    return max(scored, key=lambda entry: entry[:2])[2] if scored else None


def values_in(metrics: Mapping[str, float | None], objectives: Sequence[Objective]) -> dict[str, float]:
    """The objectives that are finite numbers in ``metrics``."""
    found = {objective.metric: metrics.get(objective.metric) for objective in objectives}
    return {metric: float(value) for metric, value in found.items() if value is not None and math.isfinite(value)}


def lease_record(lease: Lease, until: float | None, n_leases: int) -> dict[str, Any]:
    """A lease as it is stored: ``until`` in seconds since 1970, ``n_leases`` how often the configuration was handed
    out."""
    kept = {"label": lease.label, "owner": lease.owner, "lease_s": lease.lease_s, "supersedes": lease.supersedes}
    return {**kept, "until": until, "n_leases": n_leases}


def read_lease(frozen: FrozenTrial, now: float) -> Lease | None:
    """The lease of a trial; None if it has none."""
    stored = frozen.system_attrs.get(LEASE)
    if stored is None:
        return None
    until = stored["until"]
    due_at = None if until is None else moment(until)
    kept = {name: stored[name] for name in ("label", "owner", "lease_s", "supersedes")}
    return Lease(**kept, due_at=due_at, is_overdue=is_overdue(frozen, now))


def is_overdue(frozen: FrozenTrial, now: float) -> bool:
    """Whether a trial is running and its lease has run out."""
    if frozen.state != TrialState.RUNNING:
        return False
    lease = frozen.system_attrs.get(LEASE)
    until = lease.get("until") if isinstance(lease, dict) else None
    return isinstance(until, int | float) and until <= now


def read_marked(frozen: FrozenTrial, problem: str) -> Trial:
    """What can be read of a trial that another program wrote, and that counts for nothing because of ``problem``."""
    reason = frozen.user_attrs.get("reason")
    return Trial(
        number=frozen.number,
        state=FROM_OPTUNA[frozen.state],
        params=dict(frozen.params),
        seed=0,
        started_at=in_utc(frozen.datetime_start),
        finished_at=in_utc(frozen.datetime_complete),
        reason=reason if isinstance(reason, str) and frozen.state is TrialState.FAIL else problem,
        problem=problem,
    )


def read_trial(frozen: FrozenTrial, spec: SweepSpec, now: float) -> Trial:
    """The trial at time ``now``; the first objective decides which epoch is its best."""
    objectives, objective = spec.objectives, spec.objective
    curve = read_curve(frozen)
    best = best_of(read_weights_curve(frozen), objective)
    values = {}
    if len(objectives) > 1 and frozen.values:
        values = {each.metric: value for each, value in zip(objectives, frozen.values, strict=True)}
    elif len(objectives) > 1 and best is not None:
        values = values_in(best.metrics, objectives)
    attributes = frozen.user_attrs
    value = frozen.values[0] if frozen.values else (best.metrics[objective.metric] if best else None)
    if best is not None and best.metrics[objective.metric] != value:
        best = None  # another value was told than any that was reported
    times = [m.seconds for m in curve if m.seconds is not None]
    return Trial(
        number=frozen.number,
        state=FROM_OPTUNA[frozen.state],
        params=spec.space.loaded(frozen.params),
        seed=attributes.get("seed", 0),
        value=value,
        epoch=best.epoch if best else None,
        epochs=len(curve),
        metrics=best.metrics if best else attributes.get("metrics", {}),
        seconds=sum(times) if times else attributes.get("seconds"),
        worker=attributes.get("worker"),
        started_at=in_utc(frozen.datetime_start),
        finished_at=in_utc(frozen.datetime_complete),
        reason=attributes.get("reason"),
        values=values,
        schedule=read_schedule(frozen, spec.space),
        weights=attributes.get("weights", {}),
        notes=attributes.get("notes", {}),
        lease=read_lease(frozen, now),
        superseded_by=frozen.system_attrs.get(SUPERSEDED),
        feasible=attributes.get("feasible"),
    )


def read_progress(frozen: FrozenTrial, now: float) -> TrialProgress:
    """The progress of a trial at time ``now``."""
    curve = frozen.intermediate_values
    epoch = max(curve, default=None)
    value = frozen.values[0] if frozen.values else (None if epoch is None else curve[epoch])
    value = value if value is not None and math.isfinite(value) else None
    return TrialProgress(FROM_OPTUNA[frozen.state], epoch, value, is_overdue(frozen, now))


def in_utc(moment: datetime | None) -> datetime | None:
    """Convert Optuna's naive local time to an aware time in UTC."""
    return moment.astimezone(UTC) if moment else None
