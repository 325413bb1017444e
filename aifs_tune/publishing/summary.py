"""Summaries of studies as JSON objects, the same for the command line, the service and Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from aifs_tune.storage.lock import LockHolder
from aifs_tune.storage.storage import Storage
from aifs_tune.study.failures import commonest_failure
from aifs_tune.study.index import UnreadableStudy, each_study
from aifs_tune.study.record import StudyRecord
from aifs_tune.study.study import Study
from aifs_tune.study.trial import State, Trial

if TYPE_CHECKING:
    from aifs_tune.client.client import Client
    from aifs_tune.client.study import RemoteStudy


def best_summary(study: Study | RemoteStudy, *, top: int | None = None) -> dict[str, Any]:
    """The best trial of a study.

    With ``top``, the best trials are a list under ``"best"``. With several objectives, the Pareto front is under
    ``"front"``. If the best trial copied the weights of another trial (population-based training), ``params`` are the
    first parameters of its lineage, and ``replay`` lists the parameters from each epoch on, as in a sweep file.

    Raises
    ------
    NotFoundError
        If no trial is complete.
    """
    ranked = study.best_trials(top or 1)
    summary = _study_header(study)
    if top is None:
        summary |= _result(study, ranked[0])
    else:
        summary["best"] = [_ranked(trial) for trial in ranked]
    if study.spec.trade_off:
        summary["front"] = [_ranked(trial) for trial in study.front]
    return summary | {"n_trials": study.counts()}


def status_summary(study: StudyRecord) -> dict[str, Any]:
    """Progress of a study: its trials by state, its best trial and the process that writes to it."""
    counts = study.counts()
    return {
        **_study_header(study),
        "n_requested": study.n_requested,
        "n_trials": counts,
        "writer": _owner(study.storage.lock(study.name).holder()),
        "best": None if (best := study.find_best()) is None else _result(study, best),
        "commonest_failure": commonest_failure(study.all_trials()),
        "notices": study.notices,
        "note": study.note,
    }


def no_status(name: str) -> dict[str, Any]:
    """The answer of :func:`status_summary` for a study that a job has not made yet."""
    counts = dict.fromkeys(get_args(State), 0)
    nothing = {"objective": None, "n_requested": 0, "n_trials": counts, "writer": None, "best": None}
    return {"study": name, **nothing, "commonest_failure": None, "notices": [], "note": None}


def studies_summary(storage: Storage | Client) -> list[dict[str, Any]]:
    """One object a study of a storage or service. One that cannot be read, or is another tool's, has a ``problem``."""
    if not isinstance(storage, Storage):
        return [_line(line) for line in storage.study_lines()]
    summaries: list[dict[str, Any]] = []
    for study in each_study(storage):
        if isinstance(study, UnreadableStudy):
            summaries.append(_unreadable(study.name, study.problem))
            continue
        best = study.find_best()
        counts = {"n_requested": study.n_requested, "n_trials": study.counts()}
        value = None if best is None or study.spec.refit else best.value  # a final model is measured on what it learnt
        summaries.append({**_study_header(study), **counts, "value": value})
    return summaries


def _unreadable(name: str, problem: str) -> dict[str, Any]:
    nothing = dict.fromkeys(("objective", "n_requested", "n_trials", "value"))
    return {"study": name, **nothing, "problem": problem}


def _line(line: dict[str, Any]) -> dict[str, Any]:
    """The summary of a study from a service, with the same keys."""
    if "problem" in line:
        return _unreadable(line["study"], line["problem"])
    traded = ("trade_off",) if line["trade_off"] else ()
    return {name: line[name] for name in ("study", "objective", *traded, "n_requested", "n_trials", "value")}


def _study_header(study: Study | RemoteStudy) -> dict[str, Any]:
    header: dict[str, Any] = {"study": study.name, "objective": study.spec.objective.model_dump()}
    if study.spec.trade_off:
        header["trade_off"] = [objective.model_dump() for objective in study.spec.trade_off]
    return header


def _ranked(trial: Trial) -> dict[str, Any]:
    return {**trial.to_json(), "epoch": trial.epoch}


def _result(study: Study | RemoteStudy, trial: Trial) -> dict[str, Any]:
    return {
        "trial": trial.number,
        "value": trial.value,
        "epoch": trial.epoch,
        "params": dict(trial.params),
        "metrics": dict(trial.metrics),
        **({"weights": dict(trial.weights)} if trial.weights else {}),
        **({} if trial.feasible is None else {"feasible": trial.feasible}),
        **({} if trial.replicates is None else {"replicates": trial.replicates.to_json()}),
        **_replay(study, trial),
    }


def _replay(study: Study | RemoteStudy, trial: Trial) -> dict[str, Any]:
    if not trial.schedule:
        return {}
    from aifs_tune.execution.pbt import lineage
    from aifs_tune.trainers.registry import TRAINERS

    trainer_entry, steps = TRAINERS.get(study.trainer or ""), lineage(study, trial)
    kept = trainer_entry.static_params if trainer_entry is not None else ()
    entries = [
        {"epoch": epoch, "params": {name: value for name, value in params.items() if name not in kept}}
        for epoch, params in steps
    ]
    return {"params": dict(steps[0][1]), "schedule": [change.to_json() for change in trial.schedule], "replay": entries}


def _owner(owner: LockHolder | None) -> dict[str, Any] | None:
    return None if owner is None else vars(owner)
