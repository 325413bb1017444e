"""Index of the studies in a storage: find one by its name, list them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import optuna
from optuna.study import StudyDirection

from aifs_tune._util.scalars import did_you_mean
from aifs_tune.config.loading import parse_sweep
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.config.trusted_code import allow_remembered
from aifs_tune.errors import AifsTuneError, DamagedError, NotFoundError
from aifs_tune.storage.session import translated_database_errors
from aifs_tune.storage.storage import Storage
from aifs_tune.study.record import StudyRecord
from aifs_tune.study.schema import unreadable_attributes
from aifs_tune.study.serialization import SPEC


@dataclass(frozen=True)
class UnreadableStudy:
    """A study in a storage that this package cannot read, and why; ``is_damaged`` unless another tool made it.

    ``attributes`` are the names of those that cannot be read, if the study can be read without them.
    """

    name: str
    problem: str
    is_damaged: bool
    attributes: tuple[str, ...] = ()


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
        If its sweep file in the storage, or another attribute of it, cannot be read.
    """
    found = _opened(storage, name)
    if isinstance(found, UnreadableStudy):
        raise DamagedError(found.problem)
    return found


def _opened(storage: Storage, name: str) -> StudyRecord | UnreadableStudy | None:
    with translated_database_errors(storage.shown):
        try:
            optuna_study = optuna.load_study(study_name=name, storage=storage.optuna)
        except KeyError:
            return None
        attributes, directions = optuna_study.user_attrs, optuna_study.directions
    bad = unreadable_attributes(attributes)
    if SPEC not in attributes and SPEC not in bad:
        return None
    where, others = f"{storage.shown}: study {name!r}", "other studies there are not concerned"
    try:
        spec = _spec_in(json.dumps(attributes.get(SPEC)))
    except (AifsTuneError, TypeError, ValueError, AttributeError) as error:
        reason = "; ".join(str(error).splitlines())
        problem = f"{where} keeps a sweep file that cannot be read ({reason}); {others}"
        return UnreadableStudy(name, problem, is_damaged=True)
    if [direction is StudyDirection.MAXIMIZE for direction in directions] != [
        objective.mode == "max" for objective in spec.objectives
    ]:
        told = ", ".join(getattr(each, "name", str(each)).lower() for each in directions) or "none"
        wanted = ", ".join(f"{objective.mode}imize" for objective in spec.objectives)
        problem = f"{where} has the directions {told}, and its sweep file has {wanted}; {others}"
        return UnreadableStudy(name, problem, is_damaged=True)
    if bad:
        problem = (
            f"{where} has attributes that cannot be read ({'; '.join(bad.values())}); set them aside with: "
            f"aifs-tune doctor --repair; {others}"
        )
        return UnreadableStudy(name, problem, is_damaged=True, attributes=tuple(bad))
    allow_remembered(storage.shown, name, spec)
    return StudyRecord(storage, spec, optuna_study)


def each_study(storage: Storage) -> Iterator[StudyRecord | UnreadableStudy]:
    """Each study of a storage by name; in place of one that cannot be read, or that another tool made, why."""
    for name in study_names(storage):
        yield _opened(storage, name) or UnreadableStudy(name, _of_optuna(storage, name), is_damaged=False)


def _of_optuna(storage: Storage, name: str) -> str:
    n_trials = len(optuna.load_study(study_name=name, storage=storage.optuna).get_trials(deepcopy=False))
    return (
        f"a study of Optuna with {n_trials} trials; copy it into a study of aifs-tune with: "
        f"aifs-tune import {storage.shown_url} --optuna-study {name} --study NEW-NAME"
    )


def study_names(storage: Storage) -> list[str]:
    """The names of the studies in a storage, sorted."""
    with translated_database_errors(storage.shown):
        return storage.rdb.study_names()


@lru_cache(maxsize=64)
def _spec_in(text: str) -> SweepSpec:
    """The recorded sweep file of a study; cached, since checking its constraints takes a while."""
    return parse_sweep(json.loads(text))
