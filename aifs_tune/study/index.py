"""Index of the studies in a storage: find one by its name, list them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import optuna

from aifs_tune._util.scalars import did_you_mean
from aifs_tune.config.loading import parse_sweep
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.config.trusted_code import allow_remembered
from aifs_tune.errors import AifsTuneError, DamagedError, NotFoundError
from aifs_tune.storage.session import translated_database_errors
from aifs_tune.storage.storage import Storage
from aifs_tune.study.record import StudyRecord
from aifs_tune.study.serialization import SPEC


@dataclass(frozen=True)
class UnreadableStudy:
    """A study in a storage that this package cannot read, and why; ``is_damaged`` unless another tool made it."""

    name: str
    problem: str
    is_damaged: bool


def get_study(storage: Storage, name: str) -> StudyRecord:
    """An existing study.

    Raises
    ------
    NotFoundError
        If the storage holds no such study; the message names the nearest one and lists all.
    """
    study = find_study(storage, name)
    if study is None:
        if name in study_names(storage):
            raise NotFoundError(f"{name}: is {_of_optuna(storage, name)}")
        there = [other for other in study_names(storage) if other != name]
        near = did_you_mean(name, there)
        raise NotFoundError(
            f"{storage.shown} holds no study {name!r} of aifs-tune{near}; it holds: {', '.join(there) or 'none'}"
        )
    return study


def find_study(storage: Storage, name: str) -> StudyRecord | None:
    """The study ``name``; None if there is none, or if another tool made it.

    Raises
    ------
    DamagedError
        If its sweep file in the storage cannot be read.
    """
    with translated_database_errors(storage.shown):
        try:
            optuna_study = optuna.load_study(study_name=name, storage=storage.optuna)
        except KeyError:
            return None
        given = optuna_study.user_attrs.get(SPEC)
    if given is None:
        return None
    try:
        spec = _spec_in(json.dumps(given))
    except (AifsTuneError, TypeError, ValueError, AttributeError) as error:
        reason = "; ".join(str(error).splitlines())
        raise DamagedError(
            f"{storage.shown}: the sweep file that study {name!r} keeps cannot be read ({reason}); other studies there "
            "are not concerned"
        ) from error
    allow_remembered(storage.shown, name, spec)
    return StudyRecord(storage, spec, optuna_study)


def each_study(storage: Storage) -> Iterator[StudyRecord | UnreadableStudy]:
    """Each study of a storage by name; in place of one that cannot be read, or that another tool made, why."""
    for name in study_names(storage):
        try:
            study = find_study(storage, name)
        except DamagedError as error:
            yield UnreadableStudy(name, str(error), is_damaged=True)
        else:
            yield study or UnreadableStudy(name, _of_optuna(storage, name), is_damaged=False)


def _of_optuna(storage: Storage, name: str) -> str:
    n_trials = len(optuna.load_study(study_name=name, storage=storage.optuna).get_trials(deepcopy=False))
    return (
        f"a study of Optuna with {n_trials} trials; copy it into a study of aifs-tune with: "
        f"aifs-tune import {storage.shown_url} --optuna-study {name} --study NEW-NAME"
    )


def study_names(storage: Storage) -> list[str]:
    """The names of the studies in a storage, sorted."""
    with translated_database_errors(storage.shown):
        return sorted(optuna.get_all_study_names(storage.optuna))


@lru_cache(maxsize=64)
def _spec_in(text: str) -> SweepSpec:
    """The recorded sweep file of a study; cached, since checking its constraints takes a while."""
    return parse_sweep(json.loads(text))
