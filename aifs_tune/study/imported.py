"""Studies made of the trials of another tool: of Optuna, or of Ray Tune."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from aifs_tune._util.scalars import Scalar
from aifs_tune._util.seeds import trial_seed
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.errors import RequestError
from aifs_tune.space.define_by_run import Run, space_of
from aifs_tune.storage.storage import Storage
from aifs_tune.study.document import copied_study
from aifs_tune.study.record import StudyRecord
from aifs_tune.study.schema import MAX_REASON
from aifs_tune.study.serialization import EPOCH, best_of, epoch_record, finite_or_none
from aifs_tune.study.trial import FinalState, Measurement

MAX_NOTES = 200


@dataclass(frozen=True)
class ImportedTrial:
    """A finished trial of another tool.

    ``label`` is what messages call it. ``values`` has one number for each objective; None if the best epoch of the
    ``curve`` counts. ``notes`` is what the trial has beside numbers.
    """

    label: str
    state: FinalState
    params: Mapping[str, Scalar]
    values: Sequence[float] | None
    finished_at: datetime
    started_at: datetime | None = None
    curve: Sequence[Measurement] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)
    reason: str | None = None
    worker: str | None = None
    seconds: float | None = None


def curve_of(steps: Mapping[int, Mapping[str, Any]], seconds: Mapping[int, float] | None = None) -> list[Measurement]:
    """The metrics of steps that may have gaps as epochs 1, 2, 3, ..., in order.

    The number of a step is kept as the metric ``step`` where it is neither that of the epoch nor one less.
    """
    curve = []
    for n, (step, metrics) in enumerate(sorted(steps.items())):
        known = finite_or_none(metrics)
        if step not in (n, n + 1):
            known["step"] = float(step)
        curve.append(Measurement(n + 1, known, (seconds or {}).get(step)))
    return curve


def inferred_space(
    entries: Mapping[str, Mapping[str, Any]], configurations: Sequence[Mapping[str, Scalar]]
) -> dict[str, Any]:
    """The entries of a space with the conditions under which the configurations have each parameter.

    Raises
    ------
    RequestError
        If no condition on earlier parameters says which configurations have a parameter.
    """
    runs = []
    for params in configurations:
        known = {name: value for name, value in params.items() if name in entries}
        runs.append(Run(entries={name: dict(entries[name]) for name in known}, values=known))
    return space_of(runs)


def create_study(
    storage: Storage,
    name: str,
    spec: SweepSpec,
    trials: Sequence[ImportedTrial],
    attributes: Mapping[str, Any],
    left_out: dict[str, str],
) -> StudyRecord:
    """Create a study with these trials, in their order; ``left_out`` gets those that it cannot have, and why.

    Raises
    ------
    ConflictError
        If the storage has a study with this name.
    """
    documents: list[dict[str, Any]] = []
    for trial in trials:
        try:
            documents.append(_document(len(documents), trial, spec, left_out))
        except RequestError as error:
            left_out[trial.label] = str(error)
    return copied_study(storage, name, {"name": name, "attributes": dict(attributes), "trials": documents}, spec)


def _document(number: int, trial: ImportedTrial, spec: SweepSpec, left_out: dict[str, str]) -> dict[str, Any]:
    metric = spec.objective.metric
    params = spec.check_params(trial.params)
    best = best_of(trial.curve, spec.objective)
    values = trial.values
    if values is None and best is not None and trial.state != "failed":
        found = [best.metrics.get(objective.metric) for objective in spec.objectives]
        values = [value for value in found if value is not None]
    if values is not None and not all(map(math.isfinite, values)):
        raise RequestError(f"has the value {', '.join(map(str, values))}; allowed: finite numbers")
    if trial.state == "complete" and (values is None or len(values) != len(spec.objectives)):
        raise RequestError(f"has no value of {', '.join(objective.metric for objective in spec.objectives)}")
    notes = dict(list(trial.notes.items())[:MAX_NOTES])
    if len(notes) < len(trial.notes):
        left_out[f"{trial.label}: notes {', '.join(list(trial.notes)[MAX_NOTES:])}"] = f"allowed: {MAX_NOTES} notes"
    told = {
        "seed": trial_seed(spec.search.seed, number),
        "metrics": None if values is None else dict(zip((o.metric for o in spec.objectives), values, strict=False)),
        "epochs": len(trial.curve) or None,
        "reason": trial.reason and trial.reason[:MAX_REASON],
        "seconds": trial.seconds,
        "worker": trial.worker,
        "notes": notes or None,
    }
    return {
        "number": number,
        "state": trial.state,
        "params": params,
        "values": list(values) if values else None,
        "steps": {str(m.epoch): value for m in trial.curve if (value := m.metrics.get(metric)) is not None},
        "started_at": (trial.started_at or trial.finished_at).isoformat(),
        "finished_at": trial.finished_at.isoformat(),
        "user": {key: value for key, value in told.items() if value is not None},
        "system": {
            f"{EPOCH}{m.epoch:05d}": epoch_record(_with(m.metrics, metric), m.seconds, None) for m in trial.curve
        },
    }


def _with(metrics: Mapping[str, Any], metric: str) -> dict[str, Any]:
    """The metrics of an epoch, with None for an objective that it did not measure."""
    return {metric: None, **metrics}
