"""Sweeps: a sweep file and a data folder become a study with a best trial, on Ray."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aifs_tune._util.environment import ENVIRONMENT, environment
from aifs_tune._util.object_store import is_url, url_problem
from aifs_tune._util.packages import missing_packages_named
from aifs_tune._util.quiet import quieten
from aifs_tune.config.data import DataSpec
from aifs_tune.config.loading import find_sweep_file, load_sweep_file, parse_sweep
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.config.trusted_code import remember, trust
from aifs_tune.errors import DataError, InterruptedSweepError
from aifs_tune.execution.callbacks import NullCallback, SweepCallback
from aifs_tune.execution.context import RayConfig, TrialContext
from aifs_tune.execution.data import SweepData, data_for, located, record_data
from aifs_tune.execution.finalists import record_noise_floor, retrain_finalists, settle
from aifs_tune.execution.packaging import check_pins
from aifs_tune.execution.timing import Profile
from aifs_tune.samplers.proposer import check_sampler
from aifs_tune.storage.projects import split_name
from aifs_tune.storage.storage import Storage
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

if TYPE_CHECKING:
    import pandas

    from aifs_tune.execution.ray.cluster import Pool


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

    @property
    def trials(self) -> pandas.DataFrame:
        """All trials of the study as a table; columns in :mod:`aifs_tune.study.dataframe`."""
        return self.study.trials


@dataclass(frozen=True)
class Sweep:
    """A checked sweep file, ready to run. :func:`load_sweep` makes it.

    Parameters
    ----------
    spec : SweepSpec
        The content of the sweep file.

    Examples
    --------
    >>> sweep = aifs_tune.load_sweep("quick_sky")
    >>> sweep.spec.name, sweep.spec.objective.metric
    ('quick-sky', 'val_macro_f1')
    """

    spec: SweepSpec

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
        callback: SweepCallback | None = None,
    ) -> SweepResult:
        """Run more trials of a study on Ray and return when they have ended.

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
        callback : SweepCallback, optional
            Told of the sweep's progress, see :mod:`aifs_tune.execution.callbacks`.

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
        check_trainer(spec)
        check_effects(spec)
        check_sampler(spec)
        opened = Storage(storage, create=True)
        with ExitStack() as locks:
            locks.enter_context(_interruptible())
            with opened.writing():  # nobody else takes the name meanwhile
                name = study or (spec.name if finish else _unused_name(spec.name, study_names(opened)))
                locks.enter_context(opened.writing(name))
            warm_start_from = opened if warm_start_storage is None else Storage(warm_start_storage)
            named_sources(warm_start_from, spec, spec.search.warm_start, besides=(opened, name))
            ray_config, told = RayConfig(address, allow_unauthenticated), callback or NullCallback()
            n_more = None if finish and _is_requested(opened, name) else spec.search.trials
            return _execute(_Run(opened, name, spec, n_more, ray_config, strict, told, warm_start_from))


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
        section = (spec.data or DataSpec()).at(location, trainer_entry.kind if trainer_entry else "images")
        spec = spec.model_copy(update={"data": section})
    return Sweep(spec)


def resume(
    study: str,
    *,
    storage: str | None = None,
    workers: int | None = None,
    timeout_s: float | None = None,
    address: str | None = None,
    allow_unauthenticated: bool = False,
    trust_code: Sequence[str] = (),
    callback: SweepCallback | None = None,
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
    callback : SweepCallback, optional
        Told of the sweep's progress.

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
    opened = Storage(storage)
    with opened.writing(study), _interruptible():
        spec = get_study(opened, study).spec
        check_trainer(spec)
        given = {"workers": workers, "timeout_s": timeout_s}
        spec = changed(spec, {key: value for key, value in given.items() if value is not None})
        check_sampler(spec)
        ray_config, told = RayConfig(address, allow_unauthenticated), callback or NullCallback()
        return _execute(_Run(opened, study, spec, None, ray_config, False, told, None))


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
    ray_config: RayConfig
    strict: bool
    callback: SweepCallback
    warm_start_from: Storage | None
    """Where the studies of a warm start are; None for a study that is resumed."""


def _execute(run: _Run) -> SweepResult:
    """The stages of a sweep, one after the other."""
    check_pins()
    started, profile = time.monotonic(), Profile()
    with profile.stage("decode"):
        run = replace(run, spec=located(run.spec))
        finished = _find_finished(run)
    if finished is not None:
        return SweepResult(finished.as_study(), time.monotonic() - started, profile)
    quieten()
    with ExitStack() as running:
        with profile.stage("ray"):  # first, since its workers start while the data are prepared
            pool = running.enter_context(_start_ray(run))
        with profile.stage("decode"):
            data = data_for(run.spec, strict=run.strict, callback=run.callback)
            run = _without_corners(run, data)
        study, sweep_id = _open_study(run, data)
        with profile.trials():
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


def _start_ray(run: _Run) -> AbstractContextManager[Pool]:
    """Ray, started or joined, with workers that import the trainer while they are idle."""
    with missing_packages_named():
        from aifs_tune.execution.ray.cluster import ray_pool
        from aifs_tune.execution.ray.tuner import run_trials

    run.callback.on_status("starting Ray")
    preload = [run_trials.__module__, *heavy_modules(run.spec)]
    return ray_pool(run.spec.search, run.spec.resources, run.ray_config, preload)


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


def _run_trials(run: _Run, study: StudyRecord, sweep_id: str, data: SweepData, pool: Pool, profile: Profile) -> None:
    """All requested trials; then the finalists once more, with what is left of ``search.timeout_s``."""
    from aifs_tune.execution.ray.tuner import run_trials

    context = TrialContext(run.spec, data.location, study.artifacts, Path.cwd(), data.fingerprint, splits=data.splits)
    train = partial(run_trials, study, pool=pool, sweep_id=sweep_id, callback=run.callback, profile=profile)
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
def _interruptible() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise InterruptedSweepError("interrupted; continue a study that has begun with: aifs-tune resume") from None


def _unused_name(wanted: str, taken: Sequence[str]) -> str:
    names = [wanted, *(f"{wanted}-{n}" for n in range(2, len(taken) + 3))]
    return next(name for name in names if name not in taken)
