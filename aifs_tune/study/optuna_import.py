"""Import of a study that Optuna made: its search space is read from the distributions of its trials."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from aifs_tune._util.scalars import Scalar
from aifs_tune.errors import ConflictError, NotFoundError, RequestError
from aifs_tune.storage.projects import split_name
from aifs_tune.storage.session import translated_database_errors
from aifs_tune.storage.storage import Storage, sqlite_file
from aifs_tune.study.index import study_names
from aifs_tune.study.open import instrument_spec, start_study
from aifs_tune.study.study import Study


def import_optuna(
    optuna_study: str, source: str, *, study: str | None = None, storage: str | None = None
) -> tuple[Study, dict[int, str]]:
    """Copy a study that Optuna made into a study of this package, whose search continues from its results.

    The source is not changed. Trials that are complete become trials here, in their order; their numbers may differ.

    Parameters
    ----------
    optuna_study
        Name of the study in the source.
    source
        URL of the storage of Optuna, or a SQLite file.
    study : str, optional
        New name of the study, ``PROJECT/NAME`` in a project. Default: its name in the source.
    storage : str, optional
        URL of the storage to copy into. Default: the storage that commands use without ``--storage``.

    Returns
    -------
    tuple of Study and dict
        The new study; and by number in the source why a trial was not copied.

    Raises
    ------
    NotFoundError
        If the source has no such study.
    RequestError
        If its search space cannot be read from its trials.
    ConflictError
        If the storage already has a study with this name.

    Examples
    --------
    >>> import optuna
    >>> made = optuna.create_study(study_name="oven", storage="sqlite:///optuna.db", direction="maximize")
    >>> made.optimize(lambda trial: trial.suggest_float("heat", 20, 90), n_trials=5)
    >>> copy, left_out = aifs_tune.import_optuna("oven", "sqlite:///optuna.db", storage="sqlite:///lab.db")
    >>> copy.counts()["complete"], left_out
    (5, {})
    """
    url = source if "://" in source else f"sqlite:///{Path(source).absolute()}"
    if url.startswith("sqlite") and not sqlite_file(url).is_file():
        raise NotFoundError(f"{source}: there is no such file")
    with translated_database_errors(source):
        try:
            theirs = optuna.load_study(study_name=optuna_study, storage=url)
        except KeyError:
            there = ", ".join(optuna.get_all_study_names(url)) or "none"
            raise NotFoundError(f"{source} holds no study {optuna_study!r}; it holds: {there}") from None
        trials = theirs.get_trials(deepcopy=False)
        metrics = theirs.metric_names or ["value", *(f"value_{i}" for i in range(1, len(theirs.directions)))]
    modes = ["min" if direction == optuna.study.StudyDirection.MINIMIZE else "max" for direction in theirs.directions]
    objective, *others = (
        {"metric": metric, "mode": mode} for metric, mode in zip(_identifiers(metrics), modes, strict=True)
    )
    name = study or optuna_study
    spec = instrument_spec(
        split_name(name)[1], {"space": _space(trials, optuna_study), "objective": objective, "trade_off": others}
    )
    opened = Storage(storage, create=True)
    if name in study_names(opened):
        raise ConflictError(f"{opened.shown} has a study {name!r} already; choose another name with --study")
    left_out: dict[int, str] = {}

    def create() -> Study:
        project, short = split_name(name)
        made = start_study(opened, spec, short, project=project, with_default=False)
        for trial in trials:
            if trial.state is not TrialState.COMPLETE:
                left_out[trial.number] = f"is {trial.state.name.lower()}"
                continue
            try:
                _copy(trial, made, [each.metric for each in spec.objectives])
            except RequestError as error:
                left_out[trial.number] = str(error)
        return made.as_study()

    return opened.transact(create), left_out


def _copy(trial: FrozenTrial, study: Study, metrics: list[str]) -> None:
    params = study.spec.check_params(trial.params)
    values = dict(zip(metrics, trial.values, strict=True))
    if not all(map(math.isfinite, values.values())):
        raise RequestError(f"has the value {', '.join(map(str, trial.values))}; allowed: finite numbers")
    took = trial.duration.total_seconds() if trial.duration is not None else None
    study.attach(params, values, seconds=took)


def _identifiers(names: list[str]) -> list[str]:
    """Names of metrics as sweep files allow them."""
    return ["".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in name) for name in names]


def _space(trials: list[FrozenTrial], name: str) -> dict[str, Any]:
    """The parameters of all trials, each with the widest range that any of them had."""
    found: dict[str, list[BaseDistribution]] = {}
    for trial in trials:
        for parameter, distribution in trial.distributions.items():
            found.setdefault(parameter, []).append(distribution)
    if not found:
        raise RequestError(f"study {name!r} has no trial with parameters, so its search space is not known")
    return {parameter: _parameter(parameter, distributions) for parameter, distributions in found.items()}


def _parameter(name: str, distributions: list[BaseDistribution]) -> Mapping[str, Any]:
    first = distributions[0]
    if any(type(each) is not type(first) for each in distributions):
        raise RequestError(f"{name}: has distributions of several types; allowed: one type in all trials")
    if isinstance(first, CategoricalDistribution):
        choices: list[Scalar] = []
        for each in distributions:
            assert isinstance(each, CategoricalDistribution)
            for choice in each.choices:
                if choice is None:
                    raise RequestError(f"{name}: the choice None is not allowed; allowed: texts, numbers, true, false")
                if choice not in choices:
                    choices.append(choice)
        return {"type": "choice", "choices": choices}
    ranges = [each for each in distributions if isinstance(each, FloatDistribution | IntDistribution)]
    steps = {each.step for each in ranges}
    return {
        "type": "int" if isinstance(first, IntDistribution) else "float",
        "low": min(each.low for each in ranges),
        "high": max(each.high for each in ranges),
        **({"log": True} if all(each.log for each in ranges) else {}),
        **({"step": step} if len(steps) == 1 and (step := steps.pop()) not in (None, 1) and not ranges[0].log else {}),
    }
