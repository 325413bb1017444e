"""Optuna's storage for databases in which other programs may have written anything.

Optuna ends with an error of Python at the first row that it cannot decode, and with it every command on the study.
Here each row is decoded by itself: what cannot be decoded is left out of its trial, and the trial says so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from itertools import chain
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution, json_to_distribution
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import select, text, types, update
from sqlalchemy.dialects import sqlite

UNDECODABLE = "aifs_tune:undecodable"
"""Attribute of a trial or study as it is read, never stored: the names of what cannot be decoded, of a trial by what
they are."""
_ERRORS = (ValueError, TypeError, LookupError, AttributeError, OverflowError, AssertionError, RecursionError)
"""Errors of Optuna when it decodes a row."""
MAX_NUMBER = 2**31 - 2
"""Largest number of a trial."""
_VERSION_QUERIES = (
    "SELECT study_id, key, value_json FROM study_user_attributes",
    "SELECT study_id, state, count(*), max(trial_id), max(datetime_start), max(datetime_complete) FROM trials "
    "GROUP BY study_id, state",
    "SELECT study_id, objective, count(*), sum(value) FROM trials JOIN trial_values "
    "ON trial_values.trial_id = trials.trial_id GROUP BY study_id, objective",
)
_MAX_STEP, _MAX_DEPTH = 10**9, 100
_value_in = models.TrialValueModel.stored_repr_to_value
_step_in = models.TrialIntermediateValueModel.stored_repr_to_intermediate_value


class TolerantRDBStorage(RDBStorage):
    """Optuna's storage, which also reads trials that it cannot decode, as far as it can. The tables must exist."""

    def __init__(self, url: str, engine_kwargs: dict[str, Any] | None = None) -> None:
        super().__init__(url, engine_kwargs=engine_kwargs, skip_table_creation=True)
        dialect = self.engine.dialect
        if dialect.name == "sqlite":  # the others check what is written
            dialect.colspecs = {**dialect.colspecs, types.DateTime: _DateTime, types.Enum: _Enum}

    def study_names(self) -> list[str]:
        """Return the names of all studies, sorted, whatever else they hold."""
        found = [row.study_name for row in self._rows(select(models.StudyModel.study_name))]
        return sorted(name for name in found if isinstance(name, str))

    def study_versions(self) -> dict[str, tuple[Any, ...]]:
        """Return for each study, by name, a value that changes when its attributes, the number of its trials in a state
        or their results do.

        A few queries read it for all studies together, however many there are.
        """
        with self.engine.connect() as connection:
            names = connection.execute(text("SELECT study_id, study_name FROM studies")).all()
            found = [sorted(map(tuple, connection.execute(text(each)).all()), key=str) for each in _VERSION_QUERIES]
        parts: dict[int, list[tuple[Any, ...]]] = {study_id: [] for study_id, _ in names}
        for row in chain.from_iterable(found):
            parts.setdefault(row[0], []).append(row)
        return {name: (study_id, *parts[study_id]) for study_id, name in names if isinstance(name, str)}

    def rename_study(self, study_id: int, name: str) -> None:
        """Give a study another name, within the open transaction."""
        self.scoped_session().execute(
            update(models.StudyModel).where(models.StudyModel.study_id == study_id).values(study_name=name)
        )

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """Return the attributes of a study that can be decoded, and under :data:`UNDECODABLE` the names of others."""
        return self._attributes_of(study_id, models.StudyUserAttributeModel)

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """As :meth:`get_study_user_attrs`, of those that Optuna itself writes."""
        return self._attributes_of(study_id, models.StudySystemAttributeModel)

    def get_all_studies(self) -> list[FrozenStudy]:
        """Return all studies, with the attributes that can be decoded."""
        rows = self._rows(select(models.StudyModel.study_id, models.StudyModel.study_name))
        return [
            FrozenStudy(
                study_name=row.study_name,
                direction=None,
                directions=self.get_study_directions(row.study_id),
                user_attrs=self.get_study_user_attrs(row.study_id),
                system_attrs=self.get_study_system_attrs(row.study_id),
                study_id=row.study_id,
            )
            for row in rows
        ]

    def _attributes_of(self, study_id: int, model: Any) -> dict[str, Any]:
        self.get_study_name_from_id(study_id)  # raises if there is no such study
        rows = self._rows(select(model.key, model.value_json).where(model.study_id == study_id))
        bad: dict[str, list[str]] = {}
        found = _decoded(bad, UNDECODABLE, "key", rows, _attribute)
        return found | bad

    def _rows(self, statement: Any) -> Sequence[Any]:
        session = self.scoped_session()
        try:
            rows = session.execute(statement).all()
            session.commit()
        finally:
            session.close()
        return rows

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        found = super()._get_trials(study_id, states, included_trial_ids, trial_id_greater_than)
        return [trial for trial in found if isinstance(trial.number, int) and 0 <= trial.number <= MAX_NUMBER]

    def _build_frozen_trial_from_trial_model(self, trial: models.TrialModel) -> FrozenTrial:
        with suppress(*_ERRORS):
            frozen = super()._build_frozen_trial_from_trial_model(trial)
            if _is_whole(frozen, trial):
                return frozen
        return _as_far_as_possible(trial)


def _is_whole(frozen: FrozenTrial, trial: Any) -> bool:
    """Whether everything in a decoded trial has its type and range, which SQLite does not ensure."""
    return (
        isinstance(frozen.state, TrialState)
        and all(_is_time(moment) for moment in (trial.datetime_start, trial.datetime_complete))
        and all(_is_value_of(frozen.distributions[row.param_name], row.param_value) for row in trial.params)
        and all(isinstance(value, float) for value in frozen.values or ())
        and {row.objective for row in trial.values} == set(range(len(trial.values)))
        and all(isinstance(value, float) for value in frozen.intermediate_values.values())
        and all(map(_is_step, frozen.intermediate_values))
        and all(isinstance(row.key, str) for row in (*trial.user_attributes, *trial.system_attributes))
        and not any(is_deep(row.value_json) for row in (*trial.user_attributes, *trial.system_attributes))
    )


def _is_time(moment: object) -> bool:
    return moment is None or (isinstance(moment, datetime) and 1 < moment.year < 9999)  # of any time zone


def _is_step(step: object) -> bool:
    return isinstance(step, int) and 0 <= step <= _MAX_STEP


def _is_value_of(distribution: BaseDistribution, stored: object) -> bool:
    if not isinstance(stored, float):
        return False
    if isinstance(distribution, CategoricalDistribution):
        return stored.is_integer() and 0 <= stored < len(distribution.choices)
    return stored.is_integer() if isinstance(distribution, IntDistribution) else True


def is_deep(text: str) -> bool:
    """Whether JSON is nested deeper than anything that is stored; :class:`RecursionError` if it is far deeper."""
    if text.count("[") + text.count("{") <= _MAX_DEPTH:
        return False
    level, at = [json.loads(text)], 0
    while level and at <= _MAX_DEPTH:
        inner = [each for each in level if isinstance(each, dict | list)]
        level = [x for each in inner for x in (each.values() if isinstance(each, dict) else each)]
        at += 1
    return at > _MAX_DEPTH


def _attribute(row: Any) -> Any:
    if is_deep(row.value_json):
        raise ValueError("nested too deeply")
    return json.loads(row.value_json)


def _as_far_as_possible(trial: Any) -> FrozenTrial:
    """The trial without what cannot be decoded."""
    bad: dict[str, list[str]] = {}
    take = partial(_decoded, bad)
    distributions = take(
        "parameter", "param_name", trial.params, lambda row: json_to_distribution(row.distribution_json)
    )
    known = [row for row in trial.params if row.param_name in distributions]
    params = take(
        "parameter",
        "param_name",
        known,
        lambda row: _param(distributions[row.param_name], row.param_value),
    )
    values = take("value", "objective", trial.values, lambda row: _of(float, _value_in(row.value, row.value_type)))
    if sorted(values) != list(range(len(trial.values))):
        bad.setdefault("value", [str(row.objective) for row in trial.values])
        values = {}
    curve = take(
        "value of epoch",
        "step",
        trial.intermediate_values,
        lambda row: _of(float, _step_in(row.intermediate_value, row.intermediate_value_type)),
    )
    user = take("attribute", "key", trial.user_attributes, _attribute)
    system = take("attribute", "key", trial.system_attributes, _attribute)
    told = {}
    for name in ("state", "datetime_start", "datetime_complete"):
        try:
            value = getattr(trial, name)
            is_right = isinstance(value, TrialState) if name == "state" else _is_time(value)
        except _ERRORS:
            is_right = False
        if is_right:
            told[name] = value
        else:
            bad.setdefault("column", []).append(name)
    return FrozenTrial(
        number=trial.number,
        state=told.get("state", TrialState.FAIL),
        value=None,
        values=[values[i] for i in sorted(values)] or None,
        datetime_start=told.get("datetime_start"),
        datetime_complete=told.get("datetime_complete"),
        params=params,
        distributions={name: distributions[name] for name in params},
        user_attrs=user,
        system_attrs={**system, UNDECODABLE: bad},
        intermediate_values=curve,
        trial_id=trial.trial_id,
    )


def _decoded(
    bad: dict[str, list[str]], what: str, column: str, rows: Iterable[Any], decode: Callable[[Any], Any]
) -> dict[Any, Any]:
    """What ``decode`` makes of each row, by its name in ``column``; the names of the others go to ``bad``."""
    found = {}
    for row in rows:
        name = getattr(row, column)
        try:
            if not (_is_step(name) if column == "step" else isinstance(name, int if column == "objective" else str)):
                raise TypeError(name)
            found[name] = decode(row)
        except _ERRORS:
            bad.setdefault(what, []).append(str(name))
    return found


def _param(distribution: BaseDistribution, stored: float) -> Any:
    if not _is_value_of(distribution, stored):
        raise ValueError(stored)
    return distribution.to_external_repr(stored)


def _of(kind: Any, value: object) -> Any:
    if not isinstance(value, kind):
        raise TypeError(value)
    return value


class _DateTime(sqlite.DATETIME):
    """Time in SQLite; a text that is none is returned as it is."""

    def result_processor(self, dialect: Any, coltype: object) -> Any:
        return _or_as_it_is(super().result_processor(dialect, coltype))


class _Enum(types.Enum):
    """Enumeration in SQLite; a text that is not one of its names is returned as it is."""

    def result_processor(self, dialect: Any, coltype: object) -> Any:
        return _or_as_it_is(super().result_processor(dialect, coltype))  # type: ignore[no-untyped-call]


def _or_as_it_is(process: Callable[[Any], Any] | None) -> Callable[[Any], Any] | None:
    if process is None:
        return None

    def processed(value: Any) -> Any:
        try:
            return process(value)
        except _ERRORS:
            return value

    return processed
