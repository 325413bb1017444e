"""Import of a study that Optuna made: its search space is read from the distributions of its trials."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from aifs_tune._util.scalars import Scalar, is_same
from aifs_tune.errors import NotFoundError, RequestError
from aifs_tune.space.define_by_run import choice_entry, choice_value, float_entry, int_entry, parameter_names
from aifs_tune.storage.projects import split_name
from aifs_tune.storage.session import translated_database_errors
from aifs_tune.storage.storage import Storage, sqlite_file
from aifs_tune.study.imported import ImportedTrial, create_study, curve_of, inferred_space
from aifs_tune.study.open import instrument_spec
from aifs_tune.study.schema import OWN
from aifs_tune.study.serialization import FROM_OPTUNA, in_utc
from aifs_tune.study.study import Study


def import_optuna(
    optuna_study: str,
    source: str,
    *,
    study: str | None = None,
    space: Mapping[str, Any] | None = None,
    storage: str | None = None,
) -> tuple[Study, dict[str, str]]:
    """Copy a study that Optuna made into a study of this package, whose search continues from its results.

    The source is not changed. Complete, pruned and failed trials become trials here, in their order; their numbers may
    differ. Reported steps become epochs, user attributes of trials become notes.

    Parameters
    ----------
    optuna_study
        Name of the study in the source.
    source
        URL of the storage of Optuna, or a SQLite file.
    study : str, optional
        New name of the study, ``PROJECT/NAME`` in a project. Default: its name in the source.
    space : mapping, optional
        Search space, as in :func:`aifs_tune.open_study`. Default: each parameter has the widest range that any trial
        had, and a parameter that some trials lack has the condition that their other parameters show.
    storage : str, optional
        URL of the storage to copy into. Default: the storage that commands use without ``--storage``.

    Returns
    -------
    tuple of Study and dict
        The new study; and by name why a trial was not copied, or what of another name or kind something has.

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
        attributes = theirs.user_attrs
    modes = ["min" if direction == optuna.study.StudyDirection.MINIMIZE else "max" for direction in theirs.directions]
    objective, *others = (
        {"metric": metric, "mode": mode} for metric, mode in zip(_identifiers(metrics), modes, strict=True)
    )
    left_out: dict[str, str] = {}
    names = parameter_names(list(dict.fromkeys(name for trial in trials for name in trial.distributions)))
    left_out |= {f"the name {name!r}": f"is {own} here" for name, own in names.items() if own != name}
    found = _space(trials, names, optuna_study, left_out) if space is None else space
    name = study or optuna_study
    spec = instrument_spec(split_name(name)[1], {"space": found, "objective": objective, "trade_off": others})
    finished = [trial for trial in trials if trial.state.is_finished()]
    left_out |= {f"trial {t.number}": f"is {t.state.name.lower()}" for t in trials if not t.state.is_finished()}
    left_out |= {f"attribute {key}": "is one of this package's own" for key in attributes if key.startswith(OWN)}
    made = create_study(
        Storage(storage, create=True),
        name,
        spec,
        [_imported(trial, names, objective["metric"]) for trial in finished],
        {key: value for key, value in attributes.items() if not key.startswith(OWN)},
        left_out,
    )
    return made.as_study(), left_out


def _imported(trial: FrozenTrial, names: Mapping[str, str], metric: str) -> ImportedTrial:
    steps = {step: {metric: value} for step, value in trial.intermediate_values.items()}
    state = FROM_OPTUNA[trial.state]
    assert state in ("complete", "pruned", "failed")
    finished = in_utc(trial.datetime_complete)
    assert finished is not None  # as it has ended
    reason = {"failed": "failed in Optuna", "pruned": "pruned in Optuna"}.get(state)
    return ImportedTrial(
        label=f"trial {trial.number}",
        state=state,
        params=_params(trial, names),
        values=list(trial.values) if trial.state is TrialState.COMPLETE else None,
        curve=curve_of(steps),
        notes=trial.user_attrs,
        reason=reason,
        started_at=in_utc(trial.datetime_start),
        finished_at=finished,
        seconds=trial.duration.total_seconds() if trial.duration is not None else None,
    )


def _params(trial: FrozenTrial, names: Mapping[str, str]) -> dict[str, Scalar]:
    return {names[name]: choice_value(value) for name, value in trial.params.items()}


def _identifiers(names: list[str]) -> list[str]:
    """Names of metrics as sweep files allow them."""
    return ["".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in name) for name in names]


def _space(trials: list[FrozenTrial], names: Mapping[str, str], study: str, left_out: dict[str, str]) -> dict[str, Any]:
    """The parameters of all trials, each with the widest range that any of them had."""
    found: dict[str, list[BaseDistribution]] = {}
    for trial in trials:
        for parameter, distribution in trial.distributions.items():
            found.setdefault(names[parameter], []).append(distribution)
    if not found:
        raise RequestError(f"study {study!r} has no trial with parameters, so its search space is not known")
    entries = {name: _parameter(name, distributions, left_out) for name, distributions in found.items()}
    # a trial that failed or was pruned may not have come to all of its parameters
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE] or trials
    known = {names[name] for trial in complete for name in trial.params}
    left_out |= {f"parameter {name}": "no complete trial has it" for name in entries if name not in known}
    return inferred_space(entries, [_params(trial, names) for trial in complete])


def _parameter(name: str, distributions: list[BaseDistribution], left_out: dict[str, str]) -> dict[str, Any]:
    first = distributions[0]
    if any(type(each) is not type(first) for each in distributions):
        raise RequestError(f"{name}: has distributions of several types; allowed: one type in all trials, or space=...")
    if isinstance(first, CategoricalDistribution):
        choices: list[Any] = []
        for each in distributions:
            assert isinstance(each, CategoricalDistribution)
            choices += [choice for choice in each.choices if choice not in choices]
        texts = [choice for choice in choices if not is_same(choice_value(choice), choice)]
        if texts:
            left_out[f"the choices {', '.join(map(repr, texts))} of {name}"] = "are texts here"
        return choice_entry(choices)
    ranges = [each for each in distributions if isinstance(each, FloatDistribution | IntDistribution)]
    low, high, log = min(r.low for r in ranges), max(r.high for r in ranges), all(r.log for r in ranges)
    if len({(r.low, r.high, r.log, r.step) for r in ranges}) > 1:
        left_out[f"the smaller ranges of {name}"] = f"all trials have {low:g} to {high:g} here"
    grids = {(r.low, r.step) for r in ranges}
    step = next(iter(grids))[1] if len(grids) == 1 and not log else None
    if isinstance(first, IntDistribution):
        return int_entry(int(low), int(high), step=int(step or 1), log=log)
    return float_entry(low, high, step=step, log=log)
