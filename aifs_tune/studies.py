"""The studies of a storage: start one, open one, list them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

import optuna

from aifs_tune.errors import ConflictError, NotFoundError, RequestError
from aifs_tune.held_session import translated
from aifs_tune.optuna_quiet import quietly
from aifs_tune.projects import DEFAULT_PROJECT, check_project, check_study_name, stored_name
from aifs_tune.question import question_of
from aifs_tune.sampling import planned
from aifs_tune.space import Scalar, Space
from aifs_tune.spec import SweepSpec
from aifs_tune.storage import Storage
from aifs_tune.study import SPEC, Study
from aifs_tune.sweep_file import parse_sweep
from aifs_tune.trial import Trial

_OTHER = {"constraints": "other constraints", "data": "other data", "trade_off": "other objectives to trade off"}
_OTHER |= {"replay": "another schedule to replay", "mixtures": "other mixtures", "limits": "other limits"}
_OTHER["cross_validation"] = "another cross-validation"
_ASKED = ("space", "constraints", "mixtures", "limits", "objective", "trade_off", "replay", "cross_validation")
"""What a study asks, with its trainer and its data."""


def open_study(
    name: str,
    *,
    space: Mapping[str, Any],
    storage: str | None = None,
    metric: str = "value",
    mode: Literal["max", "min"] = "max",
    trade_off: Mapping[str, Literal["max", "min"]] | None = None,
    sampler: str | None = None,
    seed: int = 0,
    constraints: Sequence[str] = (),
    mixtures: Sequence[Mapping[str, Any]] = (),
    exclude: Sequence[Mapping[str, Any]] = (),
    limits: Sequence[str] = (),
    initial: Mapping[str, Any] | None = None,
    replicates: int = 1,
) -> Study:
    """Open or start a study without a trainer: an instrument, a simulation, a person measures.

    ``space`` is what a sweep file has under ``space``: ``{"temperature": {"type": "float", "low": 600,
    "high": 1400, "unit": "K"}}``; ``constraints`` likewise: ``["temperature * hold <= 5000"]``. ``trade_off`` has
    further objectives with their modes, ``{"cost": "min"}``: every result is then told with all of them, and
    :attr:`Study.front` has the Pareto front. ``sampler`` is ``aifs`` if absent, with several objectives ``tpe``.
    ``mixtures``, ``exclude``, ``limits`` and, of its section ``search``, ``initial`` and ``replicates`` are those of a
    sweep file.

    Raises
    ------
    ConflictError
        If the study exists and asks another question.
    """
    check_study_name(name)
    question = question_of(
        space=space,
        metric=metric,
        mode=mode,
        trade_off=trade_off,
        sampler=sampler,
        seed=seed,
        constraints=constraints,
        mixtures=mixtures,
        exclude=exclude,
        limits=limits,
        initial=initial,
        replicates=replicates,
    )
    return start_study(Storage(storage, create=True), instrument_spec(name, question), name)


def instrument_spec(name: str, question: Mapping[str, Any]) -> SweepSpec:
    """The sweep file of a study without a trainer: ``question`` is what it has besides the name.

    Raises
    ------
    SweepFileError
        If it is not a valid one.
    """
    search = question.get("search", {})
    kept = {"scheduler": "none", **search} if isinstance(search, Mapping) else search
    return parse_sweep({**question, "name": name.lower().replace(".", "-")[:63], "search": kept})


def start_study(
    storage: Storage, spec: SweepSpec, name: str, *, project: str = DEFAULT_PROJECT, with_default: bool = True
) -> Study:
    """Open the study ``name``, or create it; an existing one must ask the same question as ``spec``. A new one begins
    with the default configuration, if the space states one, and not ``with_default`` False.

    Raises
    ------
    RequestError
        If the name is not allowed.
    ConflictError
        If the study exists with another space, other constraints, another objective, trainer or data.
    """
    check_project(project)
    check_study_name(name)
    stored = stored_name(project, name)
    if stored not in study_names(storage):
        return _create(storage, spec, stored, with_default)
    study = get_study(storage, stored)
    for part in (*_ASKED, "trainer", "data"):
        if getattr(study.spec, part) != getattr(spec, part):
            raise ConflictError(
                f"study {stored!r} exists in {storage.shown} with {_OTHER.get(part, f'another {part}')}; "
                f"choose another name with --study, or continue it with: aifs-tune resume {stored}"
            )
    if study.spec != spec:
        study.replace_spec(spec)
    return study


def warm_start(study: Study, earlier: Study, *, most: int = 3) -> list[Trial]:
    """Let ``study`` try the best configurations of ``earlier`` before any new proposal, at most ``most`` that differ.

    Parameters that ``earlier`` did not have take their default; those that ``study`` does not have are left out.

    Raises
    ------
    RequestError
        If no complete trial of ``earlier`` is a configuration of ``study``, with the reason for the best one.
    """
    known = [dict(trial.params) for trial in study.all_trials()]
    queued: list[Trial] = []
    reason = ""
    for trial in earlier.best_trials(earlier.counts()["complete"]):
        try:
            params = study.spec.check_params(_adapted(trial.params, study.spec.space))
        except RequestError as error:
            reason = reason or f"trial {trial.number}: {error}"
            continue
        if params not in known and len(queued) < most:
            known.append(params)
            queued.append(study.enqueue(params))
    if not queued and reason:
        raise RequestError(f"study {earlier.name!r} has no configuration that study {study.name!r} could try; {reason}")
    return queued


def _adapted(params: Mapping[str, Scalar], space: Space) -> dict[str, Scalar]:
    """``params`` with the parameters of ``space`` alone: defaults where one is missing."""
    adapted: dict[str, Scalar] = {}
    for name, parameter in space.items():
        if space.is_active(name, adapted):
            value = params.get(name, parameter.default_value)
            if value is not None:
                adapted[name] = value
    return adapted


def get_study(storage: Storage, name: str) -> Study:
    """An existing study.

    Raises
    ------
    NotFoundError
        If the storage holds no such study; names those it holds.
    """
    study = find_study(storage, name)
    if study is None:
        there = ", ".join(n for n in study_names(storage) if n != name) or "none"
        raise NotFoundError(f"{storage.shown} holds no study {name!r} of aifs-tune; it holds: {there}")
    return study


def find_study(storage: Storage, name: str) -> Study | None:
    """The study ``name``; None if there is none, or if another tool made it."""
    with translated(storage.shown):
        try:
            optuna_study = optuna.load_study(study_name=name, storage=storage.optuna)
        except KeyError:
            return None
        given = optuna_study.user_attrs.get(SPEC)
    return None if given is None else Study(storage, _spec_in(json.dumps(given)), optuna_study)


def study_names(storage: Storage) -> list[str]:
    """The names of the studies in a storage, sorted."""
    with translated(storage.shown):
        return sorted(optuna.get_all_study_names(storage.optuna))


def _create(storage: Storage, spec: SweepSpec, name: str, with_default: bool) -> Study:
    def create() -> Study:
        optuna_study = optuna.create_study(
            storage=storage.optuna,
            study_name=name,
            directions=["maximize" if objective.mode == "max" else "minimize" for objective in spec.objectives],
        )
        optuna_study.set_metric_names([objective.metric for objective in spec.objectives])
        study = Study(storage, spec, optuna_study)
        study.replace_spec(spec)
        default = spec.space.default_params() if with_default else None
        first = [] if default is None else [default] * spec.search.replicates
        for params in [*first, *(planned(spec) if with_default else [])]:
            study.enqueue(params)
        return study

    with quietly():
        return storage.transact(create, name)


@lru_cache(maxsize=64)
def _spec_in(text: str) -> SweepSpec:
    """The sweep file that a study recorded as JSON; checking its constraints again takes a while."""
    return parse_sweep(json.loads(text))
