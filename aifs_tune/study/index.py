"""Index of the studies in a storage: find one by its name, list them."""

from __future__ import annotations

import json
from functools import lru_cache

import optuna

from aifs_tune._util.scalars import did_you_mean
from aifs_tune.config.loading import parse_sweep
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.errors import NotFoundError
from aifs_tune.storage.session import translated_database_errors
from aifs_tune.storage.storage import Storage
from aifs_tune.study.record import StudyRecord
from aifs_tune.study.serialization import SPEC


def get_study(storage: Storage, name: str) -> StudyRecord:
    """An existing study.

    Raises
    ------
    NotFoundError
        If the storage holds no such study; the message names the nearest one and lists all.
    """
    study = find_study(storage, name)
    if study is None:
        there = [other for other in study_names(storage) if other != name]
        near = did_you_mean(name, there)
        raise NotFoundError(
            f"{storage.shown} holds no study {name!r} of aifs-tune{near}; it holds: {', '.join(there) or 'none'}"
        )
    return study


def find_study(storage: Storage, name: str) -> StudyRecord | None:
    """The study ``name``; None if there is none, or if another tool made it."""
    with translated_database_errors(storage.shown):
        try:
            optuna_study = optuna.load_study(study_name=name, storage=storage.optuna)
        except KeyError:
            return None
        given = optuna_study.user_attrs.get(SPEC)
    return None if given is None else StudyRecord(storage, _spec_in(json.dumps(given)), optuna_study)


def study_names(storage: Storage) -> list[str]:
    """The names of the studies in a storage, sorted."""
    with translated_database_errors(storage.shown):
        return sorted(optuna.get_all_study_names(storage.optuna))


@lru_cache(maxsize=64)
def _spec_in(text: str) -> SweepSpec:
    """The recorded sweep file of a study; cached, since checking its constraints takes a while."""
    return parse_sweep(json.loads(text))
