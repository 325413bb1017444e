"""A sweep: one execution of a study's question on Ray, from a sweep file and a folder to the best trial."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aifs_tune._util.environment import ENVIRONMENT, environment
from aifs_tune._util.object_store import is_url, url_problem
from aifs_tune._util.quiet import quieten
from aifs_tune.config.data import DataSpec
from aifs_tune.config.loading import find_sweep_file, load_sweep_file, parse_sweep
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.errors import DataError, InterruptedSweepError
from aifs_tune.execution.callbacks import NullCallback, SweepCallback
from aifs_tune.execution.context import TrialContext
from aifs_tune.execution.data import data_for, located, record_data
from aifs_tune.execution.finalists import record_noise_floor, retrain_finalists, settle
from aifs_tune.execution.packaging import check_pins
from aifs_tune.execution.ray.cluster import RayConfig
from aifs_tune.execution.timing import Profile
from aifs_tune.samplers.proposer import check_sampler
from aifs_tune.storage.projects import split_name
from aifs_tune.storage.storage import Storage
from aifs_tune.study.index import get_study, study_names
from aifs_tune.study.open import start_study
from aifs_tune.study.similarity import named_sources, sources_for
from aifs_tune.study.study import Study
from aifs_tune.study.trial import FINAL, Trial
from aifs_tune.study.warm_start import WARM_START, describe_transfer
from aifs_tune.study.warm_start import warm_start as begin_with
from aifs_tune.trainers.factory import check_trainer, find_trainer_entry, heavy_modules

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class SweepResult:
    """A finished sweep: its study and the seconds it took."""

    study: Study
    wall_s: float
    profile: Profile
    """Where the time went."""

    @property
    def best(self) -> Trial:
        """The complete trial with the best value."""
        return self.study.best

    @property
    def trials(self) -> pandas.DataFrame:
        """All trials of the study as a table; columns in :mod:`aifs_tune.study.dataframe`."""
        return self.study.trials


@dataclass(frozen=True)
class Sweep:
    """A checked sweep file, ready to run. Made by :func:`load_sweep`."""

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
        callback: SweepCallback | None = None,
    ) -> SweepResult:
        """Run ``trials`` more trials of a study and return when they have ended.

        Parameters
        ----------
        trials, epochs, workers, timeout_s, seed, warm_start
            Instead of what the sweep file has under ``search``.
        storage
            ``sqlite:///FILE``; None for ``$AIFS_TUNE_STORAGE`` or ``sqlite:///aifs_tune.db``.
        study
            Name of a new study, or of one that asks the same question, ``PROJECT/NAME`` in another project than
            ``default``; None for a new one named after the file.
        address
            A Ray cluster's address, ``"auto"`` for the one running here; None for a local Ray.
        allow_unauthenticated
            Join a cluster that lets everybody in without a token.
        strict
            Stop at the first problem the preflight of the data finds.
        warm_start_storage
            Where the studies of ``warm_start`` are; None for ``storage``.

        Raises
        ------
        RequestError
            If sweep file, data, study or resources do not fit; nothing was run.
        InterruptedSweepError
            If it was stopped; :func:`resume` finishes it.
        """
        given: dict[str, Any] = {"trials": trials, "epochs": epochs, "workers": workers, "timeout_s": timeout_s}
        given |= {"seed": seed, "warm_start": warm_start}
        spec = changed(self.spec, {key: value for key, value in given.items() if value is not None})
        check_trainer(spec)
        check_sampler(spec)
        opened = Storage(storage, create=True)
        with ExitStack() as running:
            running.enter_context(_interruptible())
            with opened.writing():  # nobody else takes the name meanwhile
                name = study or _unused_name(spec.name, study_names(opened))
                running.enter_context(opened.writing(name))
            library = opened if warm_start_storage is None else Storage(warm_start_storage)
            named_sources(library, spec, spec.search.warm_start, besides=(opened, name))
            ray_config = RayConfig(address, allow_unauthenticated)
            return _execute(
                opened, spec, name, spec.search.trials, ray_config, strict, callback or NullCallback(), library
            )


def load_sweep(file: str | Path, *, data: str | Path | None = None, overrides: Sequence[str] = ()) -> Sweep:
    """Read a sweep file, or one that ships by its name, such as ``"celestial_cnn"``.

    ``data`` is the folder of images, or the file of another kind of data, or the URL of either in an object store;
    ``overrides`` are ``"search.trials=8"`` and the like.

    Raises
    ------
    SweepFileError
        Naming file, line, key, value and what is allowed; DataError if ``data`` is a URL of none.
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
    callback: SweepCallback | None = None,
) -> SweepResult:
    """Finish exactly the trials that the sweeps of ``study`` were asked for; trials in flight go on.

    Raises
    ------
    NotFoundError
        If there is no such study.
    """
    opened = Storage(storage)
    with opened.writing(study), _interruptible():
        spec = get_study(opened, study).spec
        check_trainer(spec)
        given = {"workers": workers, "timeout_s": timeout_s}
        spec = changed(spec, {key: value for key, value in given.items() if value is not None})
        check_sampler(spec)
        ray_config = RayConfig(address, allow_unauthenticated)
        return _execute(opened, spec, study, None, ray_config, False, callback or NullCallback())


def changed(spec: SweepSpec, search: Mapping[str, Any]) -> SweepSpec:
    """``spec`` with other values in its ``search`` section, checked like a sweep file's."""
    if not search:
        return spec
    document = spec.model_dump(mode="json")
    document["search"] |= search
    return parse_sweep(document)


def _execute(
    storage: Storage,
    spec: SweepSpec,
    name: str,
    more: int | None,
    ray_config: RayConfig,
    strict: bool,
    callback: SweepCallback,
    library: Storage | None = None,
) -> SweepResult:
    check_pins()
    started, profile = time.monotonic(), Profile()
    with profile.stage("decode"):
        spec = located(spec)
        if more is None and _n_remaining(get_study(storage, name)) <= 0:
            study = get_study(storage, name)
            undivided = spec.model_copy(update={"cross_validation": None})
            record_data(study, data_for(undivided, strict=strict, callback=callback))
            return SweepResult(study, time.monotonic() - started, profile)
    quieten()
    with ExitStack() as running:
        with profile.stage("ray"):
            from aifs_tune.execution.ray.cluster import ray_pool
            from aifs_tune.execution.ray.tuner import run_trials

            callback.on_status("starting Ray")
            preload = [run_trials.__module__, *heavy_modules(spec)]
            pool = running.enter_context(ray_pool(spec.search, spec.resources, ray_config, preload))
        with profile.stage("decode"):
            prepared = data_for(spec, strict=strict, callback=callback)
        project, short = split_name(name)
        study = start_study(storage, spec, short, project=project)
        record_data(study, prepared)
        study.record_fact(ENVIRONMENT, environment())
        owner = f"sweep-{uuid.uuid4().hex}"
        study.take_lead(owner)
        record_noise_floor(study, callback)
        if library is not None:
            _begin(study, library, callback)
        if more is not None:
            study.request_trials(study.n_requested - min(0, _n_remaining(study)) + more)
        context = TrialContext(
            spec, prepared.location, study.artifacts, Path.cwd(), prepared.fingerprint, splits=prepared.splits
        )
        began = time.monotonic()
        with profile.trials():
            run_trials(
                study, context, pool, n_trials=_n_remaining(study), owner=owner, callback=callback, profile=profile
            )
            left_s = None if spec.search.timeout_s is None else spec.search.timeout_s - (time.monotonic() - began)
            n_again = retrain_finalists(study, callback) if left_s is None or left_s > 0 else 0
            if n_again:
                context = replace(context, spec=_to_the_end(spec, left_s))
                run_trials(study, context, pool, n_trials=n_again, owner=owner, callback=callback, profile=profile)
            settle(study)
        for line in describe_transfer(study):
            callback.on_status(line)
    return SweepResult(study, time.monotonic() - started, profile)


def _to_the_end(spec: SweepSpec, timeout_s: float | None) -> SweepSpec:
    """``spec`` for trials that are trained to their last epoch, whatever they promise."""
    search = spec.search.model_copy(update={"scheduler": "none", "stop": "never", "timeout_s": timeout_s})
    return spec.model_copy(update={"search": search})


def _begin(study: Study, library: Storage, callback: SweepCallback) -> None:
    """Take over what the earlier studies of ``search.warm_start`` found."""
    found = sources_for(study, library)
    for line in found.lines:
        callback.on_status(line)
    for taken in begin_with(study, *found.studies):
        callback.on_status(taken.text)
    if study.spec.search.warm_start and study.fact(WARM_START) is None:
        callback.on_status("warm start: no study is like this one, which begins cold")


def _n_remaining(study: Study) -> int:
    finished = sum(count for state, count in study.counts().items() if state in FINAL)
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
