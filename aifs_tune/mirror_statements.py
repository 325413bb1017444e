"""The statements with which :mod:`aifs_tune.mirror` writes Optuna's tables."""

from __future__ import annotations

from typing import Any

from optuna.storages._rdb import models
from sqlalchemy import Table, bindparam, insert, update
from sqlalchemy.dialects import postgresql, sqlite

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


class Upserts:
    """Statements that insert a row or change it, in the dialect of the database."""

    def __init__(self, dialect: str) -> None:
        self._insert: Any = postgresql.insert if dialect == "postgresql" else sqlite.insert
        self.value = self._upsert(_VALUES, "objective", "value", "value_type")
        self.step = self._upsert(_CURVE, "step", "intermediate_value", "intermediate_value_type")
        self.user = self._upsert(_USER, "key", "value_json")
        self.system = self._upsert(_SYSTEM, "key", "value_json")

    def _upsert(self, table: Table, key: str, *changing: str) -> Any:
        statement = self._insert(table)
        changed = {name: statement.excluded[name] for name in changing}
        return statement.on_conflict_do_update(index_elements=["trial_id", key], set_=changed)
