"""Order and filters of the list of trials."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from aifs_tune._util.scalars import brief
from aifs_tune.errors import RequestError
from aifs_tune.service.schemas.trials_query import TrialsQuery
from aifs_tune.study.record import StudyRecord
from aifs_tune.study.trial import Trial, selected

_PLAIN: dict[str, Callable[[Trial], Any]] = {
    "trial": lambda trial: trial.number,
    "state": lambda trial: trial.state,
    "value": lambda trial: trial.value,
    "epochs": lambda trial: trial.epochs,
    "seconds": lambda trial: trial.seconds,
    "worker": lambda trial: trial.worker,
    "started_at": lambda trial: trial.started_at,
    "finished_at": lambda trial: trial.finished_at,
    "reason": lambda trial: trial.reason,
    "owner": lambda trial: trial.lease and trial.lease.owner,
    "label": lambda trial: trial.lease and trial.lease.label,
    "due_at": lambda trial: trial.lease and trial.lease.due_at,
}
_NAMES = f"{', '.join(_PLAIN)}, params.NAME, metrics.NAME"
_FORM = re.compile(r"(?P<name>[^<>=!]*[^<>=!\s])\s*(?P<sense><=|>=|!=|<|>|=)\s*(?P<bound>.*\S)")
_SENSES: dict[str, Callable[[Any, Any], bool]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


def selected_trials(study: StudyRecord, query: TrialsQuery) -> list[Trial]:
    """Return the trials of a study that meet every condition of ``query``, in its order.

    Raises
    ------
    RequestError
        If a condition is not ``NAME < NUMBER`` or the like, or names no column.
    NotFoundError
        If there is no trial ``same_as``.
    """
    conditions, wanted, notes = [_condition(each) for each in query.where], query.search.casefold(), study.trial_notes
    repeated = None if query.same_as is None else study.trial(query.same_as).coded_params
    trials = selected(
        study.all_trials(), state=query.state, is_overdue=query.overdue, owner=query.owner, label=query.label
    )
    kept = [
        trial
        for trial in trials
        if all(holds(trial) for holds in conditions)
        and (not wanted or any(wanted in text.casefold() for text in _texts(trial, notes)))
        and (repeated is None or trial.coded_params == repeated)
    ]
    return _in_order(kept, query.sort)


def _in_order(trials: Sequence[Trial], sort: str) -> list[Trial]:
    """Return ``trials`` in the order of a column, descending after ``-``; those without a value come last."""
    name, is_descending = sort.removeprefix("-"), sort.startswith("-")
    read = _column(name, "sort")
    values = [(read(trial), trial) for trial in trials]
    known = [(_rank(value), trial) for value, trial in values if value is not None]
    known.sort(key=lambda entry: entry[0], reverse=is_descending)
    return [trial for _, trial in known] + [trial for value, trial in values if value is None]


def _column(name: str, parameter: str) -> Callable[[Trial], Any]:
    group, _, key = name.partition(".")
    if name in _PLAIN:
        return _PLAIN[name]
    if group == "params" and key:
        return lambda trial: trial.coded_params.get(key)
    if group == "metrics" and key:
        return lambda trial: trial.values.get(key, trial.metrics.get(key))
    raise RequestError(f"{parameter}: {brief(name)} is not a column; allowed: {_NAMES}")


def _rank(value: Any) -> tuple[int, Any]:
    """Return a key that orders numbers, then times, then texts."""
    if isinstance(value, bool):
        return 0, float(value)
    if isinstance(value, int | float):
        return 1, value
    return (2, value) if isinstance(value, datetime) else (3, str(value))


def _condition(text: str) -> Callable[[Trial], bool]:
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise RequestError(f"where: {brief(text)} is not a condition; allowed: NAME < VALUE, also <= > >= = !=")
    read, sense, bound = _column(found["name"], "where"), found["sense"], found["bound"]
    number = _number(bound)
    if sense in _SENSES and number is None:
        raise RequestError(f"where: {brief(bound)} is not a number; allowed with {sense}: a number")

    def holds(trial: Trial) -> bool:
        value = read(trial)
        if sense in _SENSES:
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            return is_number and _SENSES[sense](value, number)
        is_equal = value == number if number is not None and isinstance(value, int | float) else str(value) == bound
        return value is not None and is_equal == (sense == "=")

    return holds


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _texts(trial: Trial, notes: Mapping[int, str]) -> list[str]:
    lease = trial.lease
    told = (trial.reason, trial.worker, notes.get(trial.number), lease and lease.owner, lease and lease.label)
    choices = [value for value in trial.params.values() if isinstance(value, str)]
    return [str(trial.number), trial.state, *(text for text in told if text), *choices]
