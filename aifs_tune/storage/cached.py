"""Write-through cache of trials, for use while this process holds the writer lock.

Optuna's own RDB storage reads a trial again before each change, because other processes may write too. Under the writer
lock of :mod:`aifs_tune.storage.storage` no other process of this package writes, so a read needs no query and a write
one statement. Programs that use Optuna alone do not know the lock: each transaction therefore begins with a check
whether anything was written meanwhile, and the number of a trial comes from the database. The tables and their meaning
are Optuna's: its published tests of storages run on this class, and its own storage reads what this class writes.
"""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Container, Sequence
from datetime import UTC, datetime
from importlib import import_module
from typing import Any

from optuna.distributions import BaseDistribution, check_distribution_compatibility, distribution_to_json
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, RDBStorage, get_storage
from optuna.storages._rdb import models
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Table, bindparam, case, func, insert, select, update
from sqlalchemy.exc import MultipleResultsFound

from aifs_tune.storage.tolerant import MAX_NUMBER

TRIALS: Table = models.TrialModel.__table__
_PARAMS: Table = models.TrialParamModel.__table__
_VALUES: Table = models.TrialValueModel.__table__
_CURVE: Table = models.TrialIntermediateValueModel.__table__
_USER: Table = models.TrialUserAttributeModel.__table__
_SYSTEM: Table = models.TrialSystemAttributeModel.__table__


NEW_TRIAL = insert(TRIALS)
CHANGE_TRIAL = (
    update(TRIALS)
    .where(TRIALS.c.trial_id == bindparam("id"))
    .values(state=bindparam("to"), datetime_start=bindparam("start"), datetime_complete=bindparam("complete"))
)
SET_PARAM = insert(_PARAMS)
_STUDIES: Table = models.StudyModel.__table__
_IS_NUMBER = TRIALS.c.number.between(0, MAX_NUMBER)  # in SQLite a text is larger than any number
_LAST = select(func.count(), func.max(case((_IS_NUMBER, TRIALS.c.number)))).where(
    TRIALS.c.study_id == bindparam("study")
)
_NUMBERED = select(func.max(TRIALS.c.trial_id)).where(
    TRIALS.c.study_id == bindparam("study"), TRIALS.c.number == bindparam("wanted")
)
_HOLD_STUDY = select(_STUDIES.c.study_id).where(_STUDIES.c.study_id == bindparam("study")).with_for_update()
_HOLD_TRIAL = select(TRIALS.c.state).where(TRIALS.c.trial_id == bindparam("trial")).with_for_update()


class Upserts:
    """Statements that insert or update a row, in the dialect of the database."""

    def __init__(self, dialect: str) -> None:
        self._insert: Any = import_module(f"sqlalchemy.dialects.{dialect}").insert
        self.value = self._upsert(_VALUES, "objective", "value", "value_type")
        self.step = self._upsert(_CURVE, "step", "intermediate_value", "intermediate_value_type")
        self.user = self._upsert(_USER, "key", "value_json")
        self.system = self._upsert(_SYSTEM, "key", "value_json")

    def _upsert(self, table: Table, key: str, *changing: str) -> Any:
        statement = self._insert(table)
        changed = {name: statement.excluded[name] for name in changing}
        return statement.on_conflict_do_update(index_elements=["trial_id", key], set_=changed)


class CachedStorage(BaseStorage):
    """Optuna storage over ``rdb`` that caches trials in memory from :meth:`acquire` to :meth:`release`.

    Only the thread that acquired it reads from the cache and may write trials; other threads read the database.
    """

    def __init__(self, rdb: RDBStorage) -> None:
        self._rdb = rdb
        self._set = Upserts(rdb.engine.dialect.name)
        self._locks_rows = rdb.engine.dialect.name != "sqlite"  # where a transaction locks the whole database
        self._backend: BaseStorage = get_storage(rdb)
        self._thread_id: int | None = None
        self.invalidate()

    def acquire(self) -> None:
        """Start to use the cache in this thread, which holds the writer lock."""
        self._thread_id = threading.get_ident()

    def release(self) -> None:
        """Stop using the cache, before the writer lock is released."""
        self._thread_id = None
        self.invalidate()

    def invalidate(self) -> None:
        """Empty the cache: another program may have written, or the last writes were not committed."""
        self._trials: dict[int, FrozenTrial] = {}
        self._studies: dict[int, dict[int, int]] = {}
        self._ids: dict[int, list[int]] = {}
        self._study_ids: dict[int, int] = {}
        self._held: set[int] = set()
        self._distributions: dict[int, dict[str, BaseDistribution]] = {}

    def begin(self) -> None:
        """Begin a transaction, which holds no trial yet."""
        self._held.clear()

    # -- writing trials -------------------------------------------------------------------------

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        numbers = self._numbers(study_id)
        if template_trial is None:
            trial = FrozenTrial(
                number=0,
                state=TrialState.RUNNING,
                value=None,
                datetime_start=datetime.now(),
                datetime_complete=None,
                params={},
                distributions={},
                user_attrs={},
                system_attrs={},
                intermediate_values={},
                trial_id=-1,
            )
        else:
            trial = copy.deepcopy(template_trial)
        trial.number = self._next_number(study_id)
        for name, distribution in trial.distributions.items():
            self._check_distribution(study_id, name, distribution)
        row = {"number": trial.number, "study_id": study_id, "state": trial.state, **_times(trial)}
        trial._trial_id = self._execute(NEW_TRIAL, row).inserted_primary_key[0]
        for name, distribution in trial.distributions.items():
            self._write_param(trial._trial_id, name, distribution.to_internal_repr(trial.params[name]), distribution)
        for objective, value in enumerate(trial.values or ()):
            self._write_value(trial._trial_id, objective, value)
        for key, value in trial.user_attrs.items():
            self._execute(self._set.user, {"trial_id": trial._trial_id, "key": key, "value_json": json.dumps(value)})
        for key, value in trial.system_attrs.items():
            self._execute(self._set.system, {"trial_id": trial._trial_id, "key": key, "value_json": json.dumps(value)})
        for step, value in trial.intermediate_values.items():
            self._write_step(trial._trial_id, step, value)
        self._put(trial)
        numbers[trial.number] = trial._trial_id
        self._ids[study_id].append(trial._trial_id)
        self._study_ids[trial._trial_id] = study_id
        return trial._trial_id

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        trial = self._changeable(trial_id)
        self._check_distribution(self._study_of(trial_id), param_name, distribution)
        self._write_param(trial_id, param_name, param_value_internal, distribution)
        value = distribution.to_external_repr(param_value_internal)
        trial.params = {**trial.params, param_name: value}
        trial.distributions = {**trial.distributions, param_name: distribution}
        self._put(trial)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        trial = self._changeable(trial_id)
        if state == TrialState.RUNNING and trial.state != TrialState.WAITING:
            return False
        if values is not None:
            for objective, value in enumerate(values):
                self._write_value(trial_id, objective, value)
            trial.values = list(values)
        trial.state = state
        if state == TrialState.RUNNING:
            trial.datetime_start = datetime.now()
        if state.is_finished():
            trial.datetime_complete = datetime.now()
        times = _times(trial)
        row = {"id": trial_id, "to": state, "start": times["datetime_start"], "complete": times["datetime_complete"]}
        self._execute(CHANGE_TRIAL, row)
        self._put(trial)
        return True

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        trial = self._changeable(trial_id)
        self._write_step(trial_id, step, intermediate_value)
        trial.intermediate_values = {**trial.intermediate_values, step: intermediate_value}
        self._put(trial)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        trial = self._changeable(trial_id)
        self._execute(self._set.user, {"trial_id": trial_id, "key": key, "value_json": json.dumps(value)})
        trial.user_attrs = {**trial.user_attrs, key: value}
        self._put(trial)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        trial = self._changeable(trial_id)
        self._execute(self._set.system, {"trial_id": trial_id, "key": key, "value_json": json.dumps(value)})
        trial.system_attrs = {**trial.system_attrs, key: value}
        self._put(trial)

    # -- reading trials -------------------------------------------------------------------------

    def get_trial(self, trial_id: int) -> FrozenTrial:
        if not self._is_acquired():
            return self._backend.get_trial(trial_id)
        if trial_id not in self._trials:
            self._trials[trial_id] = self._rdb.get_trial(trial_id)
        return self._trials[trial_id]

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        if not self._is_acquired():
            return self._backend.get_all_trials(study_id, deepcopy, states)
        self._numbers(study_id)
        trials = [self._trials[trial_id] for trial_id in self._ids[study_id]]
        if states is not None:
            trials = [trial for trial in trials if trial.state in states]
        return copy.deepcopy(trials) if deepcopy else trials

    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        if not self._is_acquired() or study_id not in self._studies:
            try:
                return self._backend.get_trial_id_from_study_id_trial_number(study_id, trial_number)
            except (MultipleResultsFound, StorageInternalError) as error:
                if not isinstance(error.__cause__ or error, MultipleResultsFound):
                    raise
                # two programs gave the number at the same time; the later trial has it, as in Optuna's cache
                row = {"study": study_id, "wanted": trial_number}
                with self._rdb.engine.connect() as connection:
                    return int(connection.execute(_NUMBERED, row).scalar_one())
        trial_id = self._studies[study_id].get(trial_number) if isinstance(trial_number, int) else None
        if trial_id is None:
            raise KeyError(f"No trial with trial number {trial_number} exists in study with study_id {study_id}.")
        return trial_id

    # -- studies --------------------------------------------------------------------------------

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        return self._backend.create_new_study(directions, study_name)

    def delete_study(self, study_id: int) -> None:
        self._backend.delete_study(study_id)
        self.invalidate()

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        self._backend.set_study_user_attr(study_id, key, value)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        self._backend.set_study_system_attr(study_id, key, value)

    def get_study_id_from_name(self, study_name: str) -> int:
        return self._backend.get_study_id_from_name(study_name)

    def get_study_name_from_id(self, study_id: int) -> str:
        return self._backend.get_study_name_from_id(study_id)

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        return self._backend.get_study_directions(study_id)

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        return self._backend.get_study_user_attrs(study_id)

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return self._backend.get_study_system_attrs(study_id)

    def get_all_studies(self) -> list[Any]:
        return self._backend.get_all_studies()

    def remove_session(self) -> None:
        self._backend.remove_session()

    # -- private --------------------------------------------------------------------------------

    def _is_acquired(self) -> bool:
        return self._thread_id == threading.get_ident()

    def _execute(self, statement: Any, row: dict[str, Any]) -> Any:
        if not self._is_acquired():
            raise RuntimeError("trials can only be written under the writer lock; use Storage.transact()")
        return self._rdb.scoped_session().connection().execute(statement, row)

    def _put(self, trial: FrozenTrial) -> None:
        """Cache what was written; outside a transaction this also commits it."""
        self._rdb.scoped_session().commit()
        self._trials[trial._trial_id] = trial

    def _next_number(self, study_id: int) -> int:
        """Return the number of the next trial, as the database has them; a server lets no other trial begin until the
        transaction ends."""
        connection = self._rdb.scoped_session().connection()
        if self._locks_rows:
            connection.execute(_HOLD_STUDY, {"study": study_id})
        n_trials, last = connection.execute(_LAST, {"study": study_id}).one()
        return max(int(n_trials), -1 if last is None else int(last) + 1)  # Optuna's is the number of trials so far

    def _numbers(self, study_id: int) -> dict[int, int]:
        """Return the ids of a study's trials by their numbers, in order, with each trial in the cache.

        Of trials with the same number, which two programs gave at the same time, the later one has it.
        """
        if study_id not in self._studies:
            trials = self._backend.get_all_trials(study_id, deepcopy=False)  # which caches finished trials
            self._trials.update((trial._trial_id, trial) for trial in trials if trial._trial_id not in self._trials)
            self._study_ids.update((trial._trial_id, study_id) for trial in trials)
            in_order = sorted(trials, key=lambda trial: (trial.number, trial._trial_id))
            self._ids[study_id] = [trial._trial_id for trial in in_order]
            self._studies[study_id] = {trial.number: trial._trial_id for trial in in_order}
            known: dict[str, BaseDistribution] = {}
            for trial in trials:
                known |= trial.distributions
            self._distributions[study_id] = known
        return self._studies[study_id]

    def _study_of(self, trial_id: int) -> int:
        if trial_id in self._study_ids:
            return self._study_ids[trial_id]
        session = self._rdb.scoped_session()
        found = session.connection().execute(select(TRIALS.c.study_id).where(TRIALS.c.trial_id == trial_id)).scalar()
        if found is None:
            raise KeyError(f"No trial with trial_id {trial_id} exists.")
        return int(found)

    def _changeable(self, trial_id: int) -> FrozenTrial:
        """Return a copy of the trial to change and put back; objects returned earlier do not change.

        All trials of the study are read before one is changed, so that no trial is cached as finished before it is
        committed.
        """
        self._numbers(self._study_of(trial_id))
        trial = self.get_trial(trial_id)
        if self._locks_rows and trial_id not in self._held:
            self._held.add(trial_id)
            state = self._rdb.scoped_session().connection().execute(_HOLD_TRIAL, {"trial": trial_id}).scalar()
            if state != trial.state:  # another program ended or began it since it was read
                trial = self._trials[trial_id] = self._rdb.get_trial(trial_id)
        self.check_trial_is_updatable(trial_id, trial.state)
        return copy.copy(trial)

    def _check_distribution(self, study_id: int, name: str, distribution: BaseDistribution) -> None:
        self._numbers(study_id)
        known = self._distributions[study_id]
        if name in known:
            check_distribution_compatibility(known[name], distribution)
        known[name] = distribution

    def _write_param(self, trial_id: int, name: str, value: float, distribution: BaseDistribution) -> None:
        row = {"trial_id": trial_id, "param_name": name, "param_value": value}
        self._execute(SET_PARAM, row | {"distribution_json": distribution_to_json(distribution)})

    def _write_value(self, trial_id: int, objective: int, value: float) -> None:
        stored, kind = models.TrialValueModel.value_to_stored_repr(value)
        row = {"trial_id": trial_id, "objective": objective, "value": stored, "value_type": kind}
        self._execute(self._set.value, row)

    def _write_step(self, trial_id: int, step: int, value: float) -> None:
        stored, kind = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr(value)
        row = {"trial_id": trial_id, "step": step, "intermediate_value": stored, "intermediate_value_type": kind}
        self._execute(self._set.step, row)


def _times(trial: FrozenTrial) -> dict[str, datetime | None]:
    """Return start and end as Optuna stores them: without time zone, in UTC."""
    start, complete = trial.datetime_start, trial.datetime_complete
    return {
        "datetime_start": start and start.astimezone(UTC).replace(tzinfo=None),
        "datetime_complete": complete and complete.astimezone(UTC).replace(tzinfo=None),
    }
