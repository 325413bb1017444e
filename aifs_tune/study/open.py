"""Functions that start a study or open an existing one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any, Literal

import optuna

from aifs_tune.config.loading import parse_sweep, spec_document
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.config.trusted_code import allow, remember
from aifs_tune.errors import ConflictError
from aifs_tune.samplers.initial_design import initial_design
from aifs_tune.space.differences import differences
from aifs_tune.storage.optuna_logging import quietly
from aifs_tune.storage.projects import DEFAULT_PROJECT, check_project, check_study_name, stored_name
from aifs_tune.storage.storage import Storage
from aifs_tune.study.index import get_study, study_names
from aifs_tune.study.record import StudyRecord
from aifs_tune.study.similarity import named_sources, sources_for
from aifs_tune.study.study import Study
from aifs_tune.study.warm_start import warm_start as begin_with

_OTHER = {
    "space": "another search space",
    "constraints": "other constraints",
    "mixtures": "other mixtures",
    "limits": "other limits",
    "objective": "another objective",
    "trade_off": "other objectives to trade off",
    "replay": "another schedule to replay",
    "cross_validation": "another cross-validation",
    "trainer": "another trainer",
    "data": "other data",
    "search.shared": "other parameters that a batch shares",
    "search.cost": "another cost",
}
"""Parts of a sweep file that a study keeps for good, and what a message says where one differs."""


def open_study(
    name: str,
    *,
    space: Mapping[str, Any],
    storage: str | None = None,
    metric: str = "value",
    mode: Literal["max", "min"] = "max",
    trade_off: Mapping[str, Literal["max", "min"]] | None = None,
    sampler: str | Mapping[str, Any] | None = None,
    seed: int = 0,
    constraints: Sequence[str] = (),
    mixtures: Sequence[Mapping[str, Any]] = (),
    exclude: Sequence[Mapping[str, Any]] = (),
    limits: Sequence[str] = (),
    initial: Mapping[str, Any] | None = None,
    replicates: int = 1,
    shared: str | Sequence[str] = (),
    cost: str | None = None,
    budget: float | None = None,
    warm_start: str | Sequence[str] = (),
) -> Study:
    """Start or continue a study without a trainer: an instrument, a simulation or a person measures.

    A new study begins with the space's default configuration, if every parameter has a default. An existing one must
    have the same space, objectives, constraints, mixtures, limits, shared parameters and cost; its sampler, seed and
    budget may change.

    Parameters
    ----------
    name
        Name of the study: letters, digits, ``.``, ``_`` and ``-``.
    space
        Search space, as under ``space`` in a sweep file: by name of the parameter its ``type`` (float, int, choice,
        fixed) with ``low`` and ``high`` or ``choices``, and optionally ``log``, ``step``, ``unit``, ``default`` and
        ``when``.
    storage
        ``sqlite:///FILE`` or ``postgresql+psycopg://USER@HOST/DATABASE``; a new SQLite file is created. Default:
        ``$AIFS_TUNE_STORAGE``, else ``sqlite:///aifs_tune.db`` in the current folder.
    metric
        Name of the objective. Default: ``value``.
    mode
        ``max`` or ``min``. Default: ``max``.
    trade_off
        Further objectives with their modes, such as ``{"cost": "min"}``. Every result is then told with all
        objectives, and :attr:`Study.front` is the Pareto front. Default: one objective.
    sampler
        Name of the sampler, or a mapping with its ``name`` and ``options``. Default: ``aifs``.
    seed
        Seed of the sampler and of the trials' seeds. Default: 0.
    constraints
        Conditions on the parameters, such as ``"temperature * hold <= 5000"``. Default: none.
    mixtures
        Groups of parameters with a fixed sum, as in a sweep file. Default: none.
    exclude
        Combinations of values that are not allowed, as in a sweep file. Default: none.
    limits
        Conditions on the metrics, such as ``"pressure <= 5"``. A trial that breaks one is not feasible. Default: none.
    initial
        Initial design, as in ``search.initial`` of a sweep file. Default: the sampler's own.
    replicates
        Number of measurements of each proposed configuration, from 1. Default: 1.
    shared
        Names of parameters that all trials of a batch share, such as the temperature of one furnace: while trials run,
        a proposal takes their values. Default: none.
    cost
        Cost or duration of a configuration, as an expression over parameters such as ``"1 + hold / 60"``; the search
        then looks for the largest expected improvement per cost. Default: all configurations cost the same.
    budget
        Expected total cost of the study, above 0; the nearer its end, the less cost matters. Default: no end, or
        that of the existing study.
    warm_start
        Name or names of earlier studies in the same storage that a new study learns from, or ``"auto"`` for those
        that are similar. Default: none.

    Returns
    -------
    Study
        The study.

    Raises
    ------
    RequestError
        If the name, the space or another argument is not allowed.
    NotFoundError
        If a study of ``warm_start`` does not exist or has no complete trial.
    ConflictError
        If the study exists with another space, objective, constraint, mixture, limit, shared parameter or cost, or
        began with other studies.

    Examples
    --------
    >>> space = {
    ...     "temperature": {"type": "float", "low": 600, "high": 1400, "unit": "K"},
    ...     "flux": {"type": "choice", "choices": ["KF", "none"]},
    ... }
    >>> study = aifs_tune.open_study("crystals", space=space, metric="size", storage="sqlite:///lab.db")
    >>> trial = study.ask()
    >>> sorted(trial.params)
    ['flux', 'temperature']
    >>> study.tell(trial, 3.2).state
    'complete'
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
        shared=shared,
        cost=cost,
        budget=budget,
    )
    if warm_start:
        document["search"]["warm_start"] = [warm_start] if isinstance(warm_start, str) else list(warm_start)
    opened, spec = Storage(storage, create=True), instrument_spec(name, document)
    allow(spec)
    if spec.search.sampler.options:
        from aifs_tune.samplers.proposer import check_sampler  # loads SciPy

        check_sampler(spec)
    remember(opened.shown, name, spec)
    named_sources(opened, spec, spec.search.warm_start, besides=(opened, name))
    study = start_study(opened, spec, name)
    begin_with(study, *sources_for(study, opened).studies)
    return study.as_study()


def load_study(name: str, storage: str | None = None) -> Study:
    """Open an existing study by its name.

    Parameters
    ----------
    name
        Name of the study; ``PROJECT/NAME`` for a study in another project than ``default``.
    storage
        URL of the storage. Default: ``$AIFS_TUNE_STORAGE``, else ``sqlite:///aifs_tune.db`` in the current folder.

    Returns
    -------
    Study
        The study, of an instrument or of a sweep.

    Raises
    ------
    NotFoundError
        If there is no such storage or study. The message names the study with the nearest name.
    RequestError
        If ``storage`` is not the URL of a storage.

    Examples
    --------
    >>> _ = aifs_tune.open_study("furnace", space={"heat": {"type": "float", "low": 600, "high": 1400}})
    >>> aifs_tune.load_study("furnace").counts()["complete"]
    0
    >>> aifs_tune.load_study("furnance")
    Traceback (most recent call last):
    aifs_tune.errors.NotFoundError: ... holds no study 'furnance' of aifs-tune, did you mean furnace?; it holds: furnace
    """
    return get_study(Storage(storage), name).as_study()


def instrument_spec(name: str, document: Mapping[str, Any]) -> SweepSpec:
    """The sweep file of a study without a trainer; ``document`` is its content without the name.

    Raises
    ------
    SweepFileError
        If it is not valid.
    """
    search = document.get("search", {})
    kept = {"scheduler": "none", **search} if isinstance(search, Mapping) else search
    return parse_sweep({**document, "name": name.lower().replace(".", "-")[:63], "search": kept})


def start_study(
    storage: Storage, spec: SweepSpec, name: str, *, project: str = DEFAULT_PROJECT, with_default: bool = True
) -> StudyRecord:
    """Open the study ``name`` or create it. An existing study must have the same :data:`_OTHER` parts as ``spec``.

    A new study begins with the default configuration, if the space has one and ``with_default`` is True.

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
    for part, differs in _OTHER.items():
        if attrgetter(part)(study.spec) != attrgetter(part)(spec):
            named = differences(spec.space, study.spec.space) if part == "space" else ""
            raise ConflictError(
                f"study {stored!r} exists in {storage.shown} with {differs}{named and f' ({named})'}; {_instead(study)}"
            )
    if spec.search.budget is None and study.spec.search.budget is not None:
        search = spec.search.model_copy(update={"budget": study.spec.search.budget})
        spec = spec.model_copy(update={"search": search})
    if study.spec != spec:
        study.replace_spec(spec)
    return study


def _instead(study: StudyRecord) -> str:
    """What to do where a sweep file does not fit a study that exists."""
    if study.trainer is None:
        new = f"open_study('NEW', ..., warm_start={study.name!r})"
        return f"start a new study that learns from it: {new}; or continue it as it is: load_study({study.name!r})"
    new = f"--study NEW --warm-start {study.name}"
    return f"start a new study that learns from it: {new}; or continue it with: aifs-tune resume {study.name}"


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
        is_in_grid = spec.search.sampler.name == "grid"  # which would not know that it was measured
        default = spec.space.default_params() if with_default and not is_in_grid else None
        first = [] if default is None else [default] * spec.search.replicates
        for params in [*first, *(initial_design(spec) if with_default else [])]:
            study.enqueue(params)
        return study

    with quietly():
        return storage.transact(create, name)
