"""Tuning of a Python callable in a few lines, in this process or on Ray."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Literal

from aifs_tune.config.search import MAX_EPOCHS
from aifs_tune.errors import RequestError
from aifs_tune.execution.callbacks import PrintingCallback, SweepCallback
from aifs_tune.execution.live import live_view
from aifs_tune.execution.sweep import Sweep, SweepResult, interruptible
from aifs_tune.execution.trackers import together
from aifs_tune.storage.storage import Storage
from aifs_tune.study.index import find_study
from aifs_tune.study.used_up import used_up
from aifs_tune.trainers.function import has_epochs
from aifs_tune.trainers.optuna_objective import is_objective, read_space


def tune(
    function: Any,
    space: Mapping[str, Any] | None = None,
    *,
    trials: int = 50,
    epochs: int | None = None,
    metric: str | None = None,
    mode: Literal["max", "min"] = "max",
    trade_off: Mapping[str, Literal["max", "min"]] | None = None,
    constraints: Sequence[str] = (),
    sampler: str | Mapping[str, Any] = "aifs",
    scheduler: str | None = None,
    seed: int = 0,
    timeout_s: float | None = None,
    name: str | None = None,
    storage: str | None = None,
    finish: bool = False,
    workers: int | None = None,
    resources: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    callback: SweepCallback | Sequence[SweepCallback] | None = None,
) -> SweepResult:
    """Find the parameters with which a function is best.

    Trials run in this process, one after another, or with ``workers`` on Ray. Every result is stored at once; a call
    that was interrupted is finished by the same call with ``name`` and ``finish=True``.

    Parameters
    ----------
    function
        A function, method, lambda, class or any other callable, defined anywhere; or ``"module:name"`` or the name of
        a trainer. It is called with the parameters by name and, if it takes them, with ``seed``, ``epochs`` and
        ``trial`` (:class:`~aifs_tune.trainers.RunningTrial`). It returns the objective or metrics by name, yields them
        after each epoch, or reports them with ``trial.report``. A function whose only argument is ``trial`` is an
        objective of Optuna, and gets a trial with the methods of Optuna's
        (:class:`~aifs_tune.trainers.ObjectiveTrial`). With ``data``: an estimator
        of scikit-learn, as a class or an object, or a function that returns one.
    space
        Search space, as under ``space`` in a sweep file: by name of the parameter its ``type`` (float, int, choice)
        with ``low`` and ``high`` or ``choices``, and optionally ``log``, ``step``, ``unit``, ``default`` and ``when``;
        or a value that stays as it is. It may be left out for an objective of Optuna: that of the existing study with
        ``name``; for a new one it is read from what the objective asks for, which runs the objective
        (:func:`~aifs_tune.trainers.read_space`).
    trials
        Number of trials to add, from 1.
    epochs
        Most epochs of a trial, from 1. With more than one, trials that promise little are stopped early. Default: 1;
        for an objective of Optuna as many as it reports.
    metric, mode
        Name of the objective, and whether it is to be as large (``max``, the default) or as small (``min``) as
        possible. Default: ``value``; with ``data`` ``val_macro_f1`` of classes, ``val_r2`` of numbers.
    trade_off
        Further objectives with their modes. Default: one objective.
    constraints
        Conditions on the parameters, such as ``"layers * units <= 512"``.
    sampler
        ``aifs``, ``tpe``, ``gp``, ``cmaes``, ``qmc``, ``nsga2``, ``nsga3``, ``grid``, ``brute_force``, ``random`` or
        ``module:Class``; or a mapping with one of these as ``name``, and ``options``: arguments of its class.
    scheduler
        ``aifs``, ``asha``, ``hyperband``, ``median``, ``pbt`` (with workers) or ``none``. Default: ``aifs``, and
        ``none`` with several objectives.
    seed
        Seed of all draws and of the seeds of trials, from 0.
    timeout_s
        Seconds after which no trial trains any more. Default: no limit.
    name
        Name of the study. One that exists gets more trials. Default: a new study with the name of the function.
    storage
        ``sqlite:///FILE`` or ``postgresql+psycopg://...``. Default: ``$AIFS_TUNE_STORAGE``, else
        ``sqlite:///aifs_tune.db`` in the current folder.
    finish
        Finish the trials that an existing study was asked for, and add none.
    workers
        Number of trials at the same time, each in a process of Ray. Default: in this process.
    resources
        What each trial uses, as in a sweep file: ``cpu``, ``gpu``, ``fresh_process``. Only with ``workers``.
    data
        Table that an estimator or a built-in trainer learns from, as under ``data`` in a sweep file. Default: none; a
        function reads its own data.
    callback
        Told of the progress, see :mod:`aifs_tune.execution.callbacks`; or several of these, such as the trackers of
        :mod:`aifs_tune.execution.trackers`. Default: a display that follows the sweep in a notebook, one line in a
        terminal, and elsewhere only what needs attention.

    Returns
    -------
    SweepResult
        The study and its best trial.

    Raises
    ------
    RequestError
        If the function, the space or another argument is not allowed; nothing was run.
    InterruptedSweepError
        If it was interrupted; all that was measured is stored.

    Examples
    --------
    >>> def yield_of(temperature, hold):
    ...     return -abs(temperature - 950) / 100 - abs(hold - 3)
    >>> space = {
    ...     "temperature": {"type": "float", "low": 600, "high": 1400, "unit": "K"},
    ...     "hold": {"type": "float", "low": 0.5, "high": 8, "unit": "h"},
    ... }
    >>> result = aifs_tune.tune(yield_of, space, trials=20, storage="sqlite:///lab.db")
    >>> len(result.trials), sorted(result.best.params)
    (20, ['hold', 'temperature'])
    """
    is_cut = epochs is None and not is_objective(function) and has_epochs(function, () if space is None else space)
    if epochs is None:
        epochs = MAX_EPOCHS if is_objective(function) else 1
    chosen = {} if scheduler is None else {"scheduler": scheduler}
    named = dict(sampler) if isinstance(sampler, Mapping) else sampler
    with ExitStack() as shown:
        told = together(callback or shown.enter_context(live_view(PrintingCallback())), ())
        if is_cut:
            told.on_status("each trial has one epoch, which is the default; epochs=N allows N of them")
        sweep = Sweep(
            function,
            _space_of(function, name, storage, told) if space is None else space,
            name=name,
            metric=metric,
            mode=mode,
            trade_off=trade_off,
            constraints=constraints,
            search={"trials": trials, "epochs": epochs, "sampler": named, "seed": seed, **chosen},
            resources=resources,
            data=data,
        )
        result = sweep.run(
            timeout_s=timeout_s,
            storage=storage,
            study=name,
            finish=finish,
            workers=workers,
            in_process=workers is None,
            callback=told,
        )
        if (remark := used_up(result.study.spec, result.study.all_trials())) is not None:
            told.on_status(remark)
        return result


def _space_of(
    function: Callable[..., Any] | str, name: str | None, storage: str | None, callback: SweepCallback
) -> Mapping[str, Any]:
    """The space of the existing study with this name, or what the objective asks for."""
    if isinstance(function, str) or not is_objective(function):
        raise RequestError(
            "space: missing; allowed: the search space, such as {'x': {'type': 'float', 'low': 0, 'high': 1}}; or as "
            "function an objective of Optuna, whose only argument is called trial"
        )
    study = None if name is None else find_study(Storage(storage, create=True), name)
    if study is not None:
        known: Mapping[str, Any] = study.spec.space.model_dump(mode="json")
        return known
    with interruptible("interrupted while the objective was run to find its search space; nothing was stored"):
        return read_space(function, callback.on_status)
