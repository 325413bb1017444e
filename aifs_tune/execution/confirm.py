"""Confirmation: train candidates again, compare them, and evaluate the best one on the test set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aifs_tune._util.scalars import decoded_params
from aifs_tune.analysis.candidates import BASELINE, Candidate, candidates_of
from aifs_tune.analysis.confirmation import Confirmation, read_confirmation, start_confirmation
from aifs_tune.analysis.noise import SUFFIX, Noise, noise_of
from aifs_tune.analysis.test_part import (
    TEST_EVALUATION,
    HeldOutEvaluation,
    check_test_unused,
    read_evaluation,
    selection_bias_warning,
)
from aifs_tune.artifacts.data_files import share_files
from aifs_tune.config.cross_validation import CrossValidation
from aifs_tune.config.loading import parse_sweep
from aifs_tune.errors import ConflictError, RequestError
from aifs_tune.execution import sweep
from aifs_tune.execution.callbacks import SweepCallback
from aifs_tune.execution.data import located
from aifs_tune.execution.sweep import load_sweep
from aifs_tune.storage.projects import split_name
from aifs_tune.storage.storage import Storage
from aifs_tune.study.index import find_study, get_study
from aifs_tune.study.open import start_study
from aifs_tune.study.record import StudyRecord

DEFAULT_CV = CrossValidation(folds=5, repeats=2)
"""Folds and repeats of a confirmation unless others are given."""


@dataclass(frozen=True)
class SweepOptions:
    """Options of the sweep that trains for a confirmation.

    Parameters
    ----------
    workers, timeout_s, address, allow_unauthenticated, callback
        As in :meth:`aifs_tune.execution.sweep.Sweep.run`.
    """

    workers: int | None = None
    timeout_s: float | None = None
    address: str | None = None
    allow_unauthenticated: bool = False
    callback: SweepCallback | None = None

    def finish(self, study: StudyRecord) -> None:
        """Run all waiting trials of ``study``."""
        sweep.resume(study.name, storage=study.storage.url, **vars(self))


def confirm(
    study: str,
    *,
    storage: str | None = None,
    top: int = 3,
    baseline: int | None = None,
    cv: CrossValidation | None = None,
    options: SweepOptions | None = None,
) -> Confirmation:
    """Train the best configurations of a study and its baseline again, on fresh seeds and folds, and compare them.

    A confirmation that was interrupted continues when it is called again.

    Parameters
    ----------
    study : str
        Name of the study.
    storage : str, optional
        Storage of the study. Default: ``$AIFS_TUNE_STORAGE``, else ``sqlite:///aifs_tune.db``.
    top : int
        Number of configurations besides the baseline, from 1. Default: 3.
    baseline : int, optional
        Number of the trial to compare with. Default: the default configuration.
    cv : CrossValidation, optional
        Folds and repeats. Default: five folds, repeated twice.
    options : SweepOptions, optional
        How the training runs.

    Returns
    -------
    Confirmation
        The scores of each configuration and their comparisons.

    Raises
    ------
    RequestError
        If the study has nothing to compare or no trainer, or its data cannot be split so.
    InterruptedSweepError
        If the training was stopped.
    """
    return confirm_candidates(
        study, lambda found: candidates_of(found, top=top, baseline=baseline), storage, "confirm", cv, options
    )


def confirm_candidates(
    study: str,
    choose: Callable[[StudyRecord], Sequence[Candidate]],
    storage: str | None,
    suffix: str,
    cv: CrossValidation | None = None,
    options: SweepOptions | None = None,
) -> Confirmation:
    """Like :func:`confirm`, for the candidates of ``choose``, baseline first, in a study named ``STUDY-suffix``."""
    opened = Storage(storage)
    asked = cv or DEFAULT_CV
    if asked.n_splits < 2:
        raise RequestError(
            "folds, repeats: one training of each configuration gives no verdict, as its noise is not known; allowed: "
            "at least two in all, such as --folds 5 or --repeats 2"
        )
    with opened.writing():
        found = get_study(opened, study)
        created = start_confirmation(opened, found.spec, f"{found.name}-{suffix}", choose(found), asked)
        share_files(created, found)
    given = options or SweepOptions()
    if (warning := selection_bias_warning(found.spec)) is not None and given.callback is not None:
        given.callback.on_status(warning)
    given.finish(created)
    return read_confirmation(opened, created.name)


def evaluate_test(
    study: str, candidate: Candidate, *, storage: str | None = None, options: SweepOptions | None = None
) -> HeldOutEvaluation:
    """Train a candidate once more on the study's own split and evaluate its best epoch on the test set.

    A candidate that was evaluated before is not trained again.

    Parameters
    ----------
    study : str
        Name of the study.
    candidate : Candidate
        The configuration to evaluate.
    storage : str, optional
        Storage of the study. Default: ``$AIFS_TUNE_STORAGE``, else ``sqlite:///aifs_tune.db``.
    options : SweepOptions, optional
        How the training runs.

    Returns
    -------
    HeldOutEvaluation
        The predictions and scores of the test set.

    Raises
    ------
    ConflictError
        If another candidate was evaluated: choosing by the test set makes both look better than they are.
    DataError
        If the data have no test set.
    NotFoundError
        If the training failed or kept no predictions.
    """
    opened = Storage(storage)
    with opened.writing():
        found = get_study(opened, study)
        created = _test_study(found, candidate)
        share_files(created, found)
    (options or SweepOptions()).finish(created)
    return read_evaluation(opened, created.name)


def _test_study(study: StudyRecord, candidate: Candidate) -> StudyRecord:
    name = f"{study.name}-test"
    there, wanted = find_study(study.storage, name), candidate.to_json()
    if there is not None:
        earlier: Mapping[str, Any] | None = there.fact(TEST_EVALUATION)
        if earlier is None:
            raise ConflictError(f"the name {name!r} is taken by a study of another kind")
        if earlier.get("model") is not None or dict(earlier["params"]) != dict(wanted["params"]):
            raise ConflictError(
                f"the test set of study {study.name!r} was used for {earlier['name']} (study {name!r}). "
                f"Evaluating {candidate.name} too would choose by the test set; use new data"
            )
        return there
    check_test_unused(study)
    document = study.spec.model_dump(mode="json") | {"evaluate_test": True}
    document["search"] = study.spec.search.without_search()
    spec = parse_sweep(document)

    def create() -> StudyRecord:
        project, short = split_name(name)
        created = start_study(study.storage, spec, short, project=project, with_default=False)
        created.record_fact(TEST_EVALUATION, wanted)
        created.enqueue(candidate.params)
        created.request_trials(1)
        return created

    return study.storage.transact(create, name)


def measure_noise(
    sweep: str | Path,
    *,
    data: str | Path | None = None,
    overrides: Sequence[str] = (),
    cv: CrossValidation | None = None,
    storage: str | None = None,
    options: SweepOptions | None = None,
) -> Noise:
    """Train the default configuration of a sweep file once on each fold, each time with another seed.

    Parameters
    ----------
    sweep : str or Path
        Path of a sweep file, or the name of one that ships.
    data : str or Path, optional
        Data to use instead of those that the file names.
    overrides : sequence of str
        Changes as ``--set`` takes them.
    cv : CrossValidation, optional
        Folds and repeats. Default: five folds, repeated twice.
    storage : str, optional
        Storage of the results. Default: ``$AIFS_TUNE_STORAGE``, else ``sqlite:///aifs_tune.db``.
    options : SweepOptions, optional
        How the training runs.

    Returns
    -------
    Noise
        The standard deviation of the metric.

    Raises
    ------
    RequestError
        If the space has no default configuration.
    WorkError
        If fewer than two training runs succeeded.
    """
    spec = located(load_sweep(sweep, data=data, overrides=overrides).spec)
    default = spec.space.default_params()
    if default is None:
        raise RequestError(f"{spec.name}: its space has no default configuration; give each parameter a default")
    opened = Storage(storage, create=True)
    with opened.writing():
        asked = cv or DEFAULT_CV
        created = start_confirmation(
            opened, spec, f"{spec.name}{SUFFIX}", [Candidate(BASELINE, None, decoded_params(default))], asked
        )
    (options or SweepOptions()).finish(created)
    return noise_of(read_confirmation(opened, created.name))
