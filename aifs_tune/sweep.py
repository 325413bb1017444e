"""A sweep: one execution of a study's question on Ray, from a sweep file and a folder to the best trial."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aifs_tune.cross_validation import SIZES
from aifs_tune.data_spec import DataSpec
from aifs_tune.data_url import is_url, url_problem
from aifs_tune.environment import ENVIRONMENT, environment
from aifs_tune.errors import DataError, InterruptedSweepError, RequestError
from aifs_tune.job import Job
from aifs_tune.listener import Listener, Silent
from aifs_tune.packing import check_pins
from aifs_tune.place import Place
from aifs_tune.profile import Profile
from aifs_tune.projects import split_name
from aifs_tune.quiet import quieten
from aifs_tune.sampling import check_sampler
from aifs_tune.spec import SweepSpec
from aifs_tune.storage import Storage
from aifs_tune.studies import get_study, start_study, study_names
from aifs_tune.studies import warm_start as begin_with
from aifs_tune.study import Study
from aifs_tune.study_files import NEAR_DUPLICATES, match_files
from aifs_tune.sweep_file import find_sweep_file, load_sweep_file, parse_sweep
from aifs_tune.trainers.by_name import check_trainer, find_family, heavy_modules
from aifs_tune.trial import FINAL, Trial

if TYPE_CHECKING:
    import pandas

    from aifs_tune.data.across_parts import AcrossParts
    from aifs_tune.data.files import FileTable
    from aifs_tune.data.sources import Prepared


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
        """All trials of the study as a table; columns in :mod:`aifs_tune.table`."""
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
        warm_start: str | None = None,
        listener: Listener | None = None,
    ) -> SweepResult:
        """Run ``trials`` more trials of a study and return when they have ended.

        Parameters
        ----------
        trials, epochs, workers, timeout_s, seed
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
        warm_start
            A study of the same storage whose three best configurations are tried first.

        Raises
        ------
        RequestError
            If sweep file, data, study or resources do not fit; nothing was run.
        InterruptedSweepError
            If it was stopped; :func:`resume` finishes it.
        """
        given = {"trials": trials, "epochs": epochs, "workers": workers, "timeout_s": timeout_s, "seed": seed}
        spec = changed(self.spec, {key: value for key, value in given.items() if value is not None})
        check_trainer(spec)
        check_sampler(spec)
        opened = Storage(storage, create=True)
        with ExitStack() as running:
            running.enter_context(_interruptible())
            with opened.writing():  # nobody else takes the name meanwhile
                name = study or _unused_name(spec.name, study_names(opened))
                running.enter_context(opened.writing(name))
            earlier = None if warm_start is None else get_study(opened, warm_start)
            place = Place(address, allow_unauthenticated)
            return _execute(opened, spec, name, spec.search.trials, place, strict, listener or Silent(), earlier)


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
        family = find_family(spec)
        place = data if isinstance(data, str) and is_url(data) else Path(data)
        if isinstance(place, str) and (wrong := url_problem(place)) is not None:
            raise DataError(f"data: {wrong}")
        section = (spec.data or DataSpec()).at(place, family.kind if family else "images")
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
    listener: Listener | None = None,
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
        place = Place(address, allow_unauthenticated)
        return _execute(opened, spec, study, None, place, False, listener or Silent())


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
    place: Place,
    strict: bool,
    listener: Listener,
    earlier: Study | None = None,
) -> SweepResult:
    check_pins()
    started, profile = time.monotonic(), Profile()
    with profile.stage("decode"):
        spec = located(spec)
        if more is None and _n_remaining(get_study(storage, name)) <= 0:
            study = get_study(storage, name)
            undivided = spec.model_copy(update={"cross_validation": None})
            _match(study, _prepared(undivided, strict, listener))
            return SweepResult(study, time.monotonic() - started, profile)
    quieten()
    with ExitStack() as running:
        with profile.stage("ray"):
            from aifs_tune.cluster import ray_pool
            from aifs_tune.ray_tune import run_trials

            listener.stage("starting Ray")
            preload = [run_trials.__module__, *heavy_modules(spec)]
            pool = running.enter_context(ray_pool(spec.search, spec.resources, place, preload))
        with profile.stage("decode"):
            prepared = _prepared(spec, strict, listener)
        project, short = split_name(name)
        study = start_study(storage, spec, short, project=project)
        _match(study, prepared)
        if prepared.sizes:
            study.record_fact(SIZES, [list(size) for size in prepared.sizes])
        study.record_fact(ENVIRONMENT, environment())
        owner = f"sweep-{uuid.uuid4().hex}"
        study.take_lead(owner)
        if earlier is not None:
            begin_with(study, earlier)
        if more is not None:
            study.ask_for(study.n_asked - min(0, _n_remaining(study)) + more)
        job = Job(
            spec, prepared.location, study.artefacts, Path.cwd(), prepared.fingerprint, divisions=prepared.divisions
        )
        with profile.trials():
            run_trials(study, job, pool, n_trials=_n_remaining(study), owner=owner, listener=listener, profile=profile)
    return SweepResult(study, time.monotonic() - started, profile)


def _n_remaining(study: Study) -> int:
    finished = sum(count for state, count in study.counts().items() if state in FINAL)
    return study.n_asked - finished


def located(spec: SweepSpec) -> SweepSpec:
    """``spec`` with absolute paths of its data and weights, if its trainer needs any and they can be told apart."""
    family = find_family(spec)
    if family is None:
        return spec
    from aifs_tune.data.sources import locate

    asked_by = f"{spec.name}: trainer {spec.trainer.name if spec.trainer else ''}"
    found: dict[str, Any] = {"data": locate(spec.data or DataSpec(), family.kind, asked_by)}
    if spec.trainer is not None and spec.trainer.weights is not None:
        found["trainer"] = spec.trainer.model_copy(update={"weights": spec.trainer.weights.absolute()})
    return spec.model_copy(update=found)


def prepared_data(spec: SweepSpec, *, strict: bool = False, listener: Listener | None = None) -> Prepared:
    """The data of ``spec`` as its trials would see them, without a study.

    Raises
    ------
    RequestError
        If its trainer is given no data; DataError if nothing can be learnt from them.
    """
    asked, family, told = located(spec), find_family(spec), listener or Silent()
    if family is None or asked.data is None:
        raise RequestError(f"{spec.name}: its trainer is given no data to look at; allowed: a trainer that learns")
    from aifs_tune.data.sources import prepare

    return prepare(asked.data, family.kind, strict=strict, tell=_say_nothing, progress=told.progress)


@dataclass(frozen=True)
class _Prepared:
    """Where the prepared data are, and what they are; ``divisions`` likewise, of cross-validation, and how many
    examples train in each and measure it."""

    location: Path | None = None
    fingerprint: str | None = None
    files: FileTable | None = None
    near_duplicates: AcrossParts | None = None
    divisions: tuple[tuple[Path, str], ...] = ()
    sizes: tuple[tuple[int, int], ...] = ()


def _prepared(spec: SweepSpec, strict: bool, listener: Listener) -> _Prepared:
    family = find_family(spec)
    if family is None or spec.data is None:
        return _Prepared()
    from aifs_tune.data.sources import prepare, sizes_of

    kind, several = family.kind, spec.cross_validation
    made = prepare(spec.data, kind, strict=strict, tell=listener.stage, progress=listener.progress)
    if spec.answer_test and not sizes_of(made.location, kind)["test"]:
        raise DataError("the data have no test part to answer; allowed: data.split.test above 0, or a test folder")
    if several is None:
        return _Prepared(made.location, made.fingerprint, made.files, made.near_duplicates)
    divisions = [
        prepare(several.divided(spec.data, i), kind, strict=strict, tell=_say_nothing, progress=listener.progress)
        for i in range(several.n_splits)
    ]
    sizes = [sizes_of(division.location, kind) for division in divisions]
    measuring = "test" if several.measures_folds else "val"
    return _Prepared(
        made.location,
        made.fingerprint,
        made.files,
        made.near_duplicates,
        tuple((division.location, division.fingerprint) for division in divisions),
        tuple((size["train"], size[measuring]) for size in sizes),
    )


def _match(study: Study, prepared: _Prepared) -> None:
    if prepared.files is None:
        study.match_data(prepared.fingerprint)
    else:
        match_files(study, prepared.fingerprint, prepared.files)
    if prepared.near_duplicates is not None:
        study.record_fact(NEAR_DUPLICATES, prepared.near_duplicates.to_json())


def _say_nothing(_line: str) -> None:
    """What was found in the data is told once."""


@contextmanager
def _interruptible() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise InterruptedSweepError("interrupted; continue a study that has begun with: aifs-tune resume") from None


def _unused_name(wanted: str, taken: Sequence[str]) -> str:
    names = [wanted, *(f"{wanted}-{n}" for n in range(2, len(taken) + 3))]
    return next(name for name in names if name not in taken)
