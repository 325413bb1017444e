"""The studies of a storage: start one, open one, list them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import optuna

from aifs_tune.config.loading import parse_sweep, spec_document
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.errors import ConflictError
from aifs_tune.samplers.initial_design import initial_design
from aifs_tune.storage.optuna_logging import quietly
from aifs_tune.storage.projects import DEFAULT_PROJECT, check_project, check_study_name, stored_name
from aifs_tune.storage.storage import Storage
from aifs_tune.study.index import find_study, get_study, study_names
from aifs_tune.study.record import StudyRecord
from aifs_tune.study.similarity import named_sources, sources_for
from aifs_tune.study.study import Study
from aifs_tune.study.warm_start import warm_start as begin_with

__all__ = ["find_study", "get_study", "instrument_spec", "open_study", "start_study", "study_names"]

_OTHER = {"constraints": "other constraints", "data": "other data", "trade_off": "other objectives to trade off"}
_OTHER |= {"replay": "another schedule to replay", "mixtures": "other mixtures", "limits": "other limits"}
_OTHER["cross_validation"] = "another cross-validation"
_QUESTION_FIELDS = (
    "space",
    "constraints",
    "mixtures",
    "limits",
    "objective",
    "trade_off",
    "replay",
    "cross_validation",
)
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
    warm_start: str | Sequence[str] = (),
) -> Study:
    """Open or start a study without a trainer: an instrument, a simulation, a person measures.

    ``space`` is what a sweep file has under ``space``: ``{"temperature": {"type": "float", "low": 600,
    "high": 1400, "unit": "K"}}``; ``constraints`` likewise: ``["temperature * hold <= 5000"]``. ``trade_off`` has
    further objectives with their modes, ``{"cost": "min"}``: every result is then told with all of them, and
    :attr:`Study.front` has the Pareto front. ``sampler`` is ``aifs`` if absent, with several objectives ``tpe``.
    ``mixtures``, ``exclude``, ``limits`` and, of its section ``search``, ``initial``, ``replicates`` and ``warm_start``
    are those of a sweep file.

    Raises
    ------
    ConflictError
        If the study exists and asks another question, or began with other studies.
    """
    check_study_name(name)
    document = spec_document(
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
    if warm_start:
        document["search"]["warm_start"] = [warm_start] if isinstance(warm_start, str) else list(warm_start)
    opened, spec = Storage(storage, create=True), instrument_spec(name, document)
    named_sources(opened, spec, spec.search.warm_start, besides=(opened, name))
    study = start_study(opened, spec, name)
    begin_with(study, *sources_for(study, opened).studies)
    return study.as_study()


def instrument_spec(name: str, document: Mapping[str, Any]) -> SweepSpec:
    """The sweep file of a study without a trainer: ``question`` is what it has besides the name.

    Raises
    ------
    SweepFileError
        If it is not a valid one.
    """
    search = document.get("search", {})
    kept = {"scheduler": "none", **search} if isinstance(search, Mapping) else search
    return parse_sweep({**document, "name": name.lower().replace(".", "-")[:63], "search": kept})


def start_study(
    storage: Storage, spec: SweepSpec, name: str, *, project: str = DEFAULT_PROJECT, with_default: bool = True
) -> StudyRecord:
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
    for part in (*_QUESTION_FIELDS, "trainer", "data"):
        if getattr(study.spec, part) != getattr(spec, part):
            raise ConflictError(
                f"study {stored!r} exists in {storage.shown} with {_OTHER.get(part, f'another {part}')}; "
                f"choose another name with --study, or continue it with: aifs-tune resume {stored}"
            )
    if study.spec != spec:
        study.replace_spec(spec)
    return study


def _create(storage: Storage, spec: SweepSpec, name: str, with_default: bool) -> StudyRecord:
    def create() -> StudyRecord:
        optuna_study = optuna.create_study(
            storage=storage.optuna,
            study_name=name,
            directions=["maximize" if objective.mode == "max" else "minimize" for objective in spec.objectives],
        )
        optuna_study.set_metric_names([objective.metric for objective in spec.objectives])
        study = StudyRecord(storage, spec, optuna_study)
        study.replace_spec(spec)
        default = spec.space.default_params() if with_default else None
        first = [] if default is None else [default] * spec.search.replicates
        for params in [*first, *(initial_design(spec) if with_default else [])]:
            study.enqueue(params)
        return study

    with quietly():
        return storage.transact(create, name)
