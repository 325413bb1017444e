"""Sweeps: a sweep file and a data folder become a study with a best trial, on Ray."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from aifs_tune._util.environment import ENVIRONMENT, environment
from aifs_tune._util.formatting import duration
from aifs_tune._util.html import paragraph
from aifs_tune._util.object_store import is_url, url_problem
from aifs_tune._util.packages import missing_packages_named
from aifs_tune._util.quiet import quieten
from aifs_tune._util.scalars import brief
from aifs_tune.config.data import DataSpec
from aifs_tune.config.loading import find_sweep_file, load_sweep_file, parse_sweep, python_space
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.config.trusted_code import allow, remember, trust
from aifs_tune.errors import DataError, InterruptedSweepError, RequestError
from aifs_tune.execution.callbacks import NullCallback, SweepCallback
from aifs_tune.execution.context import RayConfig, TrialContext
from aifs_tune.execution.data import SweepData, data_for, located, record_data
from aifs_tune.execution.finalists import record_noise_floor, retrain_finalists, settle
from aifs_tune.execution.live import live_view
from aifs_tune.execution.local import check_runs_here, run_trials_here
from aifs_tune.execution.nested import running_sweep, runs_in_a_trial, sweep_storage
from aifs_tune.execution.packaging import check_pins
from aifs_tune.execution.timing import Profile
from aifs_tune.execution.trackers import CallbackGroup, together
from aifs_tune.samplers.proposer import check_sampler
from aifs_tune.storage.projects import split_name
from aifs_tune.storage.storage import Storage
from aifs_tune.study.html import study_html
from aifs_tune.study.index import find_study, get_study, study_names
from aifs_tune.study.open import start_study
from aifs_tune.study.record import StudyRecord
from aifs_tune.study.similarity import named_sources, sources_for
from aifs_tune.study.study import Study
from aifs_tune.study.trial import Trial
from aifs_tune.study.warm_start import WARM_START, describe_transfer, warm_start
from aifs_tune.trainers.corners import impossible_corners
from aifs_tune.trainers.effects import check_effects
from aifs_tune.trainers.factory import check_trainer, find_trainer_entry, heavy_modules
from aifs_tune.trainers.function import MAIN, check_callable, code_name, import_function, name_of

if TYPE_CHECKING:
    import pandas

    from aifs_tune.execution.ray.cluster import Pool


_LARGE_FUNCTION = 10_000_000
"""Bytes of a function, with what it has captured, from which its size is told."""


@dataclass(frozen=True)
class SweepResult:
    """Result of a finished sweep. :meth:`Sweep.run` and :func:`resume` return it.

    Parameters
    ----------
    study : Study
        The study with all its trials, of earlier sweeps too.
    wall_s : float
        Duration of the sweep in seconds.
    profile : Profile
        Seconds of each stage of the sweep, and of the work of its workers.

    Examples
    --------
    >>> from aifs_tune.execution.timing import Profile
    >>> space = {"x": {"type": "float", "low": 0, "high": 1}}
    >>> study = aifs_tune.open_study("demo", space=space, storage="sqlite:///lab.db")
    >>> _ = study.tell(study.ask(), 0.5)
    >>> result = aifs_tune.SweepResult(study, wall_s=1.0, profile=Profile())
    >>> result.best.value
    0.5
    >>> len(result.trials)
    1
    """

    study: Study
    wall_s: float
    profile: Profile

    @property
    def best(self) -> Trial:
        """Complete trial with the best value."""
        return self.study.best

    def _repr_html_(self) -> str:
        return study_html(self.study) + paragraph(f"took {duration(self.wall_s)}")

    @property
    def trials(self) -> pandas.DataFrame:
        """All trials of the study as a table; columns in :mod:`aifs_tune.study.dataframe`."""
        return self.study.trials


class Sweep:
    """A checked sweep, ready to run: of a sweep file (:func:`load_sweep`), or of a trainer and a space.

    Parameters
    ----------
    trainer : callable, estimator or str
        A function, method, lambda, class or any other callable, defined anywhere, see
        :func:`aifs_tune.tune`; an estimator of scikit-learn, as a class or an object; or the name of a trainer or
        ``module:name``.
    space : mapping
        Search space, as under ``space`` in a sweep file.
    name : str, optional
        Name of the study. Default: the name of the trainer.
    metric : str, optional
        Name of the objective. Default: ``value``; with ``data`` ``val_macro_f1`` of classes, ``val_r2`` of numbers.
    mode : str
        ``max`` or ``min``. Default: ``max``.
    trade_off : mapping, optional
        Further objectives with their modes. Default: one objective.
    constraints : sequence of str
        Conditions on the parameters. Default: none.
    search, resources, data : mapping, optional
        The sections of a sweep file with these names. Default: what a sweep file has without them.

    Raises
    ------
    SweepFileError
        If the space or another argument is not valid.
    RequestError
        If ``trainer`` is no callable.

    Examples
    --------
    >>> sweep = aifs_tune.load_sweep("quick_sky")
    >>> sweep.spec.name, sweep.spec.objective.metric
    ('quick-sky', 'val_macro_f1')
    >>> space = {"x": {"type": "float", "low": 0, "high": 1}}
    >>> sweep = aifs_tune.Sweep(lambda x: x * (1 - x), space, name="parabola", search={"trials": 8, "epochs": 1})
    >>> sweep.run(in_process=True, storage="sqlite:///lab.db").study.counts()["complete"]
    8
    """

    def __init__(
        self,
        trainer: Callable[..., Any] | str,
        space: Mapping[str, Any],
        *,
        name: str | None = None,
        metric: str | None = None,
        mode: Literal["max", "min"] = "max",
        trade_off: Mapping[str, Literal["max", "min"]] | None = None,
        constraints: Sequence[str] = (),
        search: Mapping[str, Any] | None = None,
        resources: Mapping[str, Any] | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> None:
        mappings = {"space": space, "trade_off": trade_off, "search": search, "resources": resources, "data": data}
        _check_arguments(name, constraints, mappings)
        named = trainer if isinstance(trainer, str) else code_name(trainer)
        self.function = None if isinstance(trainer, str) else check_callable(trainer, named)
        """The trainer where it was given in Python; None for one that is named."""
        document = {
            "name": _study_name(name or named.rpartition(":")[2]),
            "trainer": named,
            "space": python_space(space),
            "objective": {"metric": metric or _default_metric(data), "mode": mode},
            "trade_off": [{"metric": other, "mode": wanted} for other, wanted in (trade_off or {}).items()],
            "constraints": list(constraints),
            "search": dict(search or {}),
            "resources": dict(resources or {}),
        }
        self.spec = parse_sweep(document if data is None else {**document, "data": dict(data)})
        """The content of the sweep file."""
        allow(self.spec)

    @classmethod
    def from_spec(cls, spec: SweepSpec, function: Callable[..., Any] | None = None) -> Sweep:
        """Make a sweep of a checked sweep file; ``function`` is its trainer where it was given in Python."""
        sweep = cls.__new__(cls)
        sweep.spec, sweep.function = spec, function
        return sweep

    def run(
        self,
        *,
        trials: int | None = None,
        epochs: int | None = None,
        workers: int | None = None,
        timeout_s: float | None = None,
        seed: int | None = None,
        storage: str | None = None,
        study: str | None = None,
        address: str | None = None,
        allow_unauthenticated: bool = False,
        strict: bool = False,
        warm_start: str | Sequence[str] | None = None,
        warm_start_storage: str | None = None,
        finish: bool = False,
        in_process: bool = False,
        callback: SweepCallback | Sequence[SweepCallback] | None = None,
    ) -> SweepResult:
        """Run more trials of a study, on Ray or in this process, and return when they have ended.

        Parameters
        ----------
        trials : int, optional
            Number of trials to add, from 1. Default of this and the next five: the sweep file's ``search`` section.
        epochs : int, optional
            Most epochs of a trial, from 1.
        workers : int, optional
            Most trials at the same time, from 1.
        timeout_s : float, optional
            Seconds after which no trial trains any more; those in flight wait for :func:`resume`.
        seed : int, optional
            Seed of all draws, from 0.
        storage : str, optional
            ``sqlite:///FILE`` or ``postgresql+psycopg://...``. Default: ``$AIFS_TUNE_STORAGE``, else
            ``sqlite:///aifs_tune.db``.
        study : str, optional
            Name of a new study, or of one that asks the same question; ``PROJECT/NAME`` in another project than
            ``default``. Default: a new study with the name of the sweep file.
        address : str, optional
            Address of a Ray cluster, ``"auto"`` for the one that runs on this machine. Default: start Ray here.
        allow_unauthenticated : bool
            Join a cluster that asks for no token. Default: False.
        strict : bool
            Stop at the first problem in the data instead of leaving files out. Default: False.
        warm_start : str or sequence of str, optional
            Earlier studies that the sampler learns from; ``"auto"`` for those that are similar.
        warm_start_storage : str, optional
            Storage of the studies in ``warm_start``. Default: ``storage``.
        finish : bool
            If the study exists, finish the trials it was asked for and add none, so that the call may be repeated: in a
            job that a cluster starts again. Default: False.
        in_process : bool
            Run the trials in this process, one after another, without Ray. ``workers``, ``address``, ``resources``,
            ``search.epoch_timeout_s`` and ``search.worker_retries`` have no meaning then. Default: False.
        callback : SweepCallback or sequence of SweepCallback, optional
            Told of the sweep's progress, see :mod:`aifs_tune.execution.callbacks` and, for MLflow, TensorBoard and
            Weights & Biases, :mod:`aifs_tune.execution.trackers`. Default: a display that follows the sweep in a
            notebook, one line in a terminal, and nothing elsewhere.

        Returns
        -------
        SweepResult
            The study and its best trial.

        Raises
        ------
        RequestError
            If sweep file, data, study or resources do not fit together; nothing was run.
        InterruptedSweepError
            If the sweep was stopped; :func:`resume` finishes it.

        Examples
        --------
        >>> sweep = aifs_tune.load_sweep("quick_sky")
        >>> result = sweep.run(trials=8, storage="sqlite:///lab.db")  # doctest: +SKIP
        >>> result.best.params, result.best.value  # doctest: +SKIP
        """
        given: dict[str, Any] = {"trials": trials, "epochs": epochs, "workers": workers, "timeout_s": timeout_s}
        given |= {"seed": seed, "warm_start": warm_start}
        spec = changed(self.spec, {key: value for key, value in given.items() if value is not None})
        function = self.function or _function_of_main(spec)
        with ExitStack() as locks:
            if not runs_in_a_trial():  # an interrupt there ends the outer sweep
                locks.enter_context(interruptible())
            check_trainer(spec, function)
            check_effects(spec, function)
            check_sampler(spec)
            if in_process:
                _check_in_process(spec, workers, address)
            opened = sweep_storage(storage, create=True)
            with opened.writing():  # nobody else takes the name meanwhile
                name = study or (spec.name if finish else _unused_name(spec.name, study_names(opened)))
                locks.enter_context(running_sweep(opened, name))
                locks.enter_context(opened.writing(name))
            if self.function is not None:
                locks.enter_context(_continued_in_python(name, self.function, in_process))
            told = together(callback or locks.enter_context(live_view(NullCallback())), spec.trackers)
            warm_start_from = opened if warm_start_storage is None else Storage(warm_start_storage)
            named_sources(warm_start_from, spec, spec.search.warm_start, besides=(opened, name))
            ray_config = RayConfig(address, allow_unauthenticated)
            n_more = None if finish and _is_requested(opened, name) else spec.search.trials
            where = None if in_process else ray_config
            return _execute(_Run(opened, name, spec, n_more, where, strict, told, warm_start_from, function))


def _default_metric(data: Mapping[str, Any] | None) -> str:
    table = None if data is None else data.get("table")
    if data is None:
        return "value"
    return "val_r2" if isinstance(table, Mapping) and table.get("predict") == "values" else "val_macro_f1"


def _function_of_main(spec: SweepSpec) -> Callable[..., Any] | None:
    """The function of a script or notebook that ``spec`` names, which its workers cannot import."""
    code = None if spec.trainer is None else spec.trainer.code
    return import_function(code) if code is not None and code.startswith(MAIN) else None


def _check_in_process(spec: SweepSpec, workers: int | None, address: str | None) -> None:
    """Refuse what has no meaning without Ray."""
    for key, value in (("workers", workers), ("address", address)):
        if value is not None:
            raise RequestError(f"{key}: {value} has no effect with in_process=True; allowed: leave one of them out")
    check_runs_here(spec)


def _check_arguments(name: object, constraints: object, mappings: Mapping[str, object]) -> None:
    """Raise :class:`RequestError` for an argument of :class:`Sweep` of which no sweep file can be made."""
    if name is not None and not isinstance(name, str):
        raise RequestError(f"name: {brief(name)} is not text; allowed: the name of the study, as text, or None")
    if isinstance(constraints, str) or not isinstance(constraints, Sequence):
        raise RequestError(
            f"constraints: {brief(constraints)} is not a list; allowed: a list of conditions, such as ['a <= b']"
        )
    for argument, value in mappings.items():
        if not isinstance(value, Mapping) and (value is not None or argument == "space"):
            allowed = "a mapping" if argument == "space" else "a mapping or None"
            raise RequestError(f"{argument}: {brief(value)} is not a mapping; allowed: {allowed}")


def _study_name(wanted: str) -> str:
    """A name that a sweep file may have, made of another one."""
    name = re.sub(r"[^a-z0-9_-]+", "-", wanted.lower()).strip("-_")[:63]
    return name if name[:1].isalpha() else f"study-{name}".rstrip("-")


def _is_requested(storage: Storage, name: str) -> bool:
    """Whether a study of this name was asked for trials."""
    study = find_study(storage, name)
    return study is not None and study.n_requested > 0


def load_sweep(file: str | Path, *, data: str | Path | None = None, overrides: Sequence[str] = ()) -> Sweep:
    """Read and check a sweep file.

    Parameters
    ----------
    file : str or Path
        Path of a sweep file, or the name of one that ships, such as ``"celestial_cnn"``.
    data : str or Path, optional
        Folder of images, file of another kind of data, or the URL of either in an object store. Default: what the
        sweep file names.
    overrides : sequence of str
        Changes as ``--set`` takes them, such as ``"search.trials=8"``.

    Returns
    -------
    Sweep
        The sweep, ready to run.

    Raises
    ------
    SweepFileError
        If the file is not valid; names file, line, key, value and what is allowed.
    DataError
        If ``data`` is a URL that is not supported.

    Examples
    --------
    >>> sweep = aifs_tune.load_sweep("quick_sky", overrides=["search.trials=4", "space.dropout=0.25"])
    >>> sweep.spec.search.trials
    4
    """
    spec = load_sweep_file(find_sweep_file(file), overrides)
    if data is not None:
        trainer_entry = find_trainer_entry(spec)
        location = data if isinstance(data, str) and is_url(data) else Path(data)
        if isinstance(location, str) and (wrong := url_problem(location)) is not None:
            raise DataError(f"data: {wrong}")
        kind = trainer_entry.kind if trainer_entry else "table" if spec.is_of_function else "images"
        section = (spec.data or DataSpec()).at(location, kind)
        spec = spec.model_copy(update={"data": section})
    return Sweep.from_spec(spec)


def resume(
    study: str,
    *,
    storage: str | None = None,
    workers: int | None = None,
    timeout_s: float | None = None,
    address: str | None = None,
    allow_unauthenticated: bool = False,
    trust_code: Sequence[str] = (),
    trainer: Callable[..., Any] | None = None,
    in_process: bool = False,
    callback: SweepCallback | Sequence[SweepCallback] | None = None,
) -> SweepResult:
    """Finish the trials that the sweeps of a study were asked for; trials in flight continue from their checkpoints.

    Parameters
    ----------
    study : str
        Name of the study, ``PROJECT/NAME`` in another project than ``default``.
    storage : str, optional
        Storage of the study. Default: ``$AIFS_TUNE_STORAGE``, else ``sqlite:///aifs_tune.db``.
    workers : int, optional
        Most trials at the same time, from 1. Default of this and the next: what the study's sweep file says.
    timeout_s : float, optional
        Seconds after which no trial trains any more.
    address : str, optional
        Address of a Ray cluster, ``"auto"`` for the one that runs on this machine. Default: start Ray here.
    allow_unauthenticated : bool
        Join a cluster that asks for no token. Default: False.
    trust_code : sequence of str, optional
        Functions and samplers, as ``module:name``, that the study may run although somebody else may have named them.
        They are remembered for this study; what was started from this account is trusted already.
    trainer : callable, optional
        The trainer of a study that was given it in Python and not by its name. Default: what the study names.
    in_process : bool
        Run the trials in this process, one after another, without Ray. Default: False.
    callback : SweepCallback or sequence of SweepCallback, optional
        Told of the sweep's progress. Default: as of :meth:`Sweep.run`.

    Returns
    -------
    SweepResult
        The study and its best trial.

    Raises
    ------
    NotFoundError
        If there is no such study.
    UntrustedCodeError
        If the study names code that nobody has allowed here.
    InterruptedSweepError
        If the sweep was stopped again.

    Examples
    --------
    >>> try:
    ...     aifs_tune.resume("nobody", storage="sqlite:///lab.db")
    ... except aifs_tune.AifsTuneError as error:
    ...     print(type(error).__name__)
    NotFoundError
    >>> aifs_tune.resume("quick-sky").best.value  # doctest: +SKIP
    """
    trust(trust_code)
    opened = sweep_storage(storage)
    with opened.writing(study), running_sweep(opened, study), interruptible(), ExitStack() as shown:
        spec = get_study(opened, study).spec
        if trainer is not None:
            shown.enter_context(_continued_in_python(study, trainer, in_process))
            _check_same_trainer(spec, trainer)
            allow(spec)
        trainer = trainer or _function_of_main(spec)
        check_trainer(spec, trainer)
        given = {"workers": workers, "timeout_s": timeout_s}
        spec = changed(spec, {key: value for key, value in given.items() if value is not None})
        check_sampler(spec)
        ray_config = RayConfig(address, allow_unauthenticated)
        told = together(callback or shown.enter_context(live_view(NullCallback())), spec.trackers)
        if in_process:
            _check_in_process(spec, workers, address)
        where = None if in_process else ray_config
        return _execute(_Run(opened, study, spec, None, where, False, told, None, trainer))


def _check_same_trainer(spec: SweepSpec, trainer: Callable[..., Any]) -> None:
    """Refuse a trainer of another name than the study's."""
    given, named = code_name(trainer), (spec.trainer.code if spec.trainer is not None else None) or "none"
    if given != named:
        raise RequestError(f"trainer: {given} is not the trainer of the study; allowed: {named}")


def changed(spec: SweepSpec, search: Mapping[str, Any]) -> SweepSpec:
    """``spec`` with other values in its ``search`` section, checked like a sweep file's."""
    if not search:
        return spec
    document = spec.model_dump(mode="json")
    document["search"] |= search
    return parse_sweep(document)


@dataclass(frozen=True)
class _Run:
    """What one call of :meth:`Sweep.run` or :func:`resume` asked for, checked."""

    storage: Storage
    name: str
    """Name of the study as the storage has it."""
    spec: SweepSpec
    n_more: int | None
    """Trials to add; None to finish those that were requested before."""
    ray_config: RayConfig | None
    """Where Ray runs; None to run trials in this process."""
    strict: bool
    callback: CallbackGroup
    warm_start_from: Storage | None
    """Where the studies of a warm start are; None for a study that is resumed."""
    function: Callable[..., Any] | None
    """The trainer where it was given in Python."""


def _execute(run: _Run) -> SweepResult:
    """The stages of a sweep, one after the other."""
    check_pins()
    started, profile = time.monotonic(), Profile()
    with profile.stage("decode"):
        run = replace(run, spec=located(run.spec))
        finished = _find_finished(run)
    if finished is not None:
        with run.callback.tracking(finished):
            pass
        return SweepResult(finished.as_study(), time.monotonic() - started, profile)
    if run.ray_config is not None:
        quieten()
    with ExitStack() as running:
        pool: Pool | None = None
        if run.ray_config is not None:
            _check_function_travels(run)
            with profile.stage("ray"):  # first, since its workers start while the data are prepared
                pool = running.enter_context(_start_ray(run, run.ray_config))
        with profile.stage("decode"):
            data = data_for(run.spec, strict=run.strict, callback=run.callback)
            run = _without_corners(run, data)
        study, sweep_id = _open_study(run, data)
        with run.callback.tracking(study), profile.trials():
            _run_trials(run, study, sweep_id, data, pool, profile)
        for line in describe_transfer(study):
            run.callback.on_status(line)
    return SweepResult(study.as_study(), time.monotonic() - started, profile)


def _without_corners(run: _Run, data: SweepData) -> _Run:
    """The sweep without the corners of its space that cannot work with its data, each of which is named."""
    corners = [] if data.location is None else impossible_corners(run.spec, data.location)
    new = [corner for corner in corners if dict(corner.values) not in run.spec.exclude]
    for corner in new:
        run.callback.on_status(f"never proposed, as it cannot work with these data: {corner}")
    exclude = (*run.spec.exclude, *(dict(corner.values) for corner in new))
    return replace(run, spec=run.spec.model_copy(update={"exclude": exclude})) if new else run


def _find_finished(run: _Run) -> StudyRecord | None:
    """The study to resume, if none of its trials is left to run and its data are the same; None otherwise."""
    if run.n_more is not None:
        return None
    study = _started(run)
    if _n_remaining(study) > 0:
        return None
    undivided = run.spec.model_copy(update={"cross_validation": None})
    record_data(study, data_for(undivided, strict=run.strict, callback=run.callback))
    return study


def _check_function_travels(run: _Run) -> None:
    """Refuse a function that cannot be sent to workers; say how large it is, with what it has captured."""
    if run.function is None:
        return
    with missing_packages_named():
        from aifs_tune.execution.ray.transport import size_of_code
    n_bytes = size_of_code(run.function)
    if n_bytes >= _LARGE_FUNCTION:
        run.callback.on_status(
            f"the trainer holds {n_bytes / 1e6:,.0f} MB of data; Ray keeps one copy on each machine for its workers"
        )


def _start_ray(run: _Run, ray_config: RayConfig) -> AbstractContextManager[Pool]:
    """Ray, started or joined, with workers that import the trainer while they are idle."""
    with missing_packages_named():
        from aifs_tune.execution.ray.cluster import ray_pool
        from aifs_tune.execution.ray.trainable import TrialTrainable

    run.callback.on_status("starting Ray")
    preload = [TrialTrainable.__module__, *heavy_modules(run.spec)]
    return ray_pool(run.spec.search, run.spec.resources, ray_config, preload)


def _started(run: _Run) -> StudyRecord:
    """The study, new or one that asks the same question."""
    project, short = split_name(run.name)
    return start_study(run.storage, run.spec, short, project=project)


def _open_study(run: _Run, data: SweepData) -> tuple[StudyRecord, str]:
    """The study, led by this sweep and with all trials requested that it is to have; and the id of this sweep."""
    study = _started(run)
    remember(run.storage.shown, run.name, run.spec)
    record_data(study, data)
    study.record_fact(ENVIRONMENT, environment())
    sweep_id = f"sweep-{uuid.uuid4().hex}"
    study.take_lead(sweep_id)
    record_noise_floor(study, run.callback)
    if run.warm_start_from is not None:
        _warm_start(study, run.warm_start_from, run.callback)
    if run.n_more is not None:
        study.request_trials(study.n_requested - min(0, _n_remaining(study)) + run.n_more)
    return study, sweep_id


def _run_trials(
    run: _Run, study: StudyRecord, sweep_id: str, data: SweepData, pool: Pool | None, profile: Profile
) -> None:
    """All requested trials; then the finalists once more, with what is left of ``search.timeout_s``."""
    context = TrialContext(
        run.spec, data.location, study.artifacts, Path.cwd(), data.fingerprint, run.function, splits=data.splits
    )
    train: Callable[..., None] = run_trials_here
    if pool is not None:
        from aifs_tune.execution.ray.tuner import run_trials

        train = partial(run_trials, pool=pool)
    train = partial(train, study, sweep_id=sweep_id, callback=run.callback, profile=profile)
    began, timeout_s = time.monotonic(), run.spec.search.timeout_s
    train(context=context, n_trials=_n_remaining(study))
    left_s = None if timeout_s is None else timeout_s - (time.monotonic() - began)
    n_again = retrain_finalists(study, run.callback) if left_s is None or left_s > 0 else 0
    if n_again:
        context = replace(context, spec=_to_the_last_epoch(run.spec, left_s))
        train(context=context, n_trials=n_again)
    settle(study)


def _to_the_last_epoch(spec: SweepSpec, timeout_s: float | None) -> SweepSpec:
    """``spec`` for trials that no scheduler stops."""
    search = spec.search.model_copy(update={"scheduler": "none", "stop": "never", "timeout_s": timeout_s})
    return spec.model_copy(update={"search": search})


def _warm_start(study: StudyRecord, storage: Storage, callback: SweepCallback) -> None:
    """Let the sampler learn from the earlier studies of ``search.warm_start``."""
    found = sources_for(study, storage)
    for line in found.lines:
        callback.on_status(line)
    for taken in warm_start(study, *found.studies):
        callback.on_status(taken.text)
    if study.spec.search.warm_start and study.fact(WARM_START) is None:
        callback.on_status("no warm start: no earlier study is similar enough to this one")


def _n_remaining(study: StudyRecord) -> int:
    finished = sum(trial.is_finished and trial.problem is None for trial in study.all_trials())
    return study.n_requested - finished


@contextmanager
def interruptible(
    message: str = "interrupted; continue a study that has begun with: aifs-tune resume",
) -> Iterator[None]:
    """Turn an interrupt from the keyboard into an :class:`InterruptedSweepError` with this message."""
    try:
        yield
    except KeyboardInterrupt:
        raise InterruptedSweepError(message) from None


@contextmanager
def _continued_in_python(name: str, function: Callable[..., Any], in_process: bool) -> Iterator[None]:
    """Say how a sweep goes on whose function no command can import."""
    try:
        yield
    except (KeyboardInterrupt, InterruptedSweepError):
        here, known = ", in_process=True" if in_process else "", name_of(function)
        raise InterruptedSweepError(
            f"interrupted; what was measured is stored in study {name}. Finish it with the same call and "
            f"name={name!r}, finish=True, or with aifs_tune.resume({name!r}, trainer={known}{here}). "
            f"If {known} can be imported, so does: aifs-tune resume {name}"
        ) from None


def _unused_name(wanted: str, taken: Sequence[str]) -> str:
    names = [wanted, *(f"{wanted}-{n}" for n in range(2, len(taken) + 3))]
    return next(name for name in names if name not in taken)
