"""Read-only Optuna storage that shows the studies of one project to tools made for Optuna."""

from __future__ import annotations

import copy
from collections.abc import Container
from typing import Any, NoReturn

from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from aifs_tune.errors import AccessError
from aifs_tune.storage.projects import name_in, stored_name
from aifs_tune.storage.session import translated_database_errors
from aifs_tune.storage.storage import Storage
from aifs_tune.study.serialization import SPEC


def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise AccessError("this storage is read-only; allowed: reading")


class ProjectView(BaseStorage):
    """View of the studies of one project in a storage.

    A study of another project or of another tool seems not to exist (:class:`KeyError`). User attributes that aifs-tune
    keeps for itself are left out, because they contain paths of this machine.

    Parameters
    ----------
    storage
        The storage to read.
    project
        The project whose studies are shown, by their names in it. None shows the studies of all projects, by their
        names in the storage.
    """

    def __init__(self, storage: Storage, project: str | None) -> None:
        self._storage, self._backend, self._project = storage, storage.optuna, project

    create_new_study = delete_study = set_study_user_attr = set_study_system_attr = _refuse
    create_new_trial = set_trial_param = set_trial_state_values = set_trial_intermediate_value = _refuse
    set_trial_user_attr = set_trial_system_attr = _refuse

    def get_study_id_from_name(self, study_name: str) -> int:
        stored = study_name if self._project is None else stored_name(self._project, study_name)
        with translated_database_errors(self._storage.shown):
            return self._check_visible(self._backend.get_study_id_from_name(stored))

    def get_study_name_from_id(self, study_id: int) -> str:
        with translated_database_errors(self._storage.shown):
            return str(self._name(self._backend.get_study_name_from_id(self._check_visible(study_id))))

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        with translated_database_errors(self._storage.shown):
            return self._backend.get_study_directions(self._check_visible(study_id))

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        with translated_database_errors(self._storage.shown):
            return _visible_attrs(self._backend.get_study_user_attrs(self._check_visible(study_id)))

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        with translated_database_errors(self._storage.shown):
            return self._backend.get_study_system_attrs(self._check_visible(study_id))

    def get_all_studies(self) -> list[Any]:
        with translated_database_errors(self._storage.shown):
            found = self._backend.get_all_studies()
        seen = []
        for study in map(copy.copy, sorted(found)):
            name = self._name(study.study_name)
            if name is not None and SPEC in study.user_attrs:
                study.study_name, study.user_attrs = name, _visible_attrs(study.user_attrs)
                seen.append(study)
        return seen

    def get_trial(self, trial_id: int) -> FrozenTrial:
        for study in self.get_all_studies():
            for trial in self.get_all_trials(study._study_id, deepcopy=False):
                if trial._trial_id == trial_id:
                    return trial
        raise KeyError(f"no trial {trial_id}")

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        with translated_database_errors(self._storage.shown):
            return self._backend.get_all_trials(self._check_visible(study_id), deepcopy, states)

    def _name(self, stored: str) -> str | None:
        return stored if self._project is None else name_in(self._project, stored)

    def _check_visible(self, study_id: int) -> int:
        """Return ``study_id`` if it is a study of this project; raise KeyError otherwise."""
        is_ours = self._name(self._backend.get_study_name_from_id(study_id)) is not None
        if not is_ours or SPEC not in self._backend.get_study_user_attrs(study_id):
            raise KeyError(f"no study {study_id}")
        return study_id


def _visible_attrs(attributes: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in attributes.items() if not key.startswith("aifs_tune:")}
