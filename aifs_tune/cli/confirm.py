"""Commands that measure how certain a result is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from aifs_tune.cli.files import progress_callback
from aifs_tune.cli.options import (
    AddressOption,
    AllowUnauthenticatedOption,
    DataOption,
    JsonOption,
    SeedOption,
    SetOption,
    StorageOption,
    StudyArgument,
    SweepArgument,
    TimeoutOption,
    WorkersOption,
    echo_stderr,
    open_local_study,
    print_json,
)
from aifs_tune.cli.result import out
from aifs_tune.errors import ConflictError

if TYPE_CHECKING:
    from aifs_tune.analysis.confirmation import Confirmation
    from aifs_tune.analysis.test_part import HeldOutEvaluation
    from aifs_tune.execution.confirm import SweepOptions


FoldsOption = Annotated[
    int, typer.Option(min=1, max=100, help="Folds of the data outside the test set; each is the validation set once.")
]
RepeatsOption = Annotated[int, typer.Option(min=1, max=100, help="How often the data are divided into new folds.")]
FoldSeedOption = Annotated[int, typer.Option("--seed", min=0, metavar="N", help="Seed of the folds.")]


def confirm(
    study: StudyArgument,
    top: Annotated[int, typer.Option(min=1, metavar="K", help="Number of best configurations to train again.")] = 3,
    baseline: Annotated[
        int | None,
        typer.Option(min=0, metavar="TRIAL", help="Trial to compare with. Default: the default configuration."),
    ] = None,
    folds: FoldsOption = 5,
    repeats: RepeatsOption = 2,
    seed: FoldSeedOption = 0,
    test: Annotated[
        bool, typer.Option("--test", help="Evaluate the best one on the test set. This can be done only once.")
    ] = False,
    storage: StorageOption = None,
    workers: WorkersOption = None,
    timeout: TimeoutOption = None,
    address: AddressOption = None,
    allow_unauthenticated: AllowUnauthenticatedOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train the best configurations again to see which is best.

    They and a baseline are trained with new seeds and folds, and compared.
    """
    from aifs_tune.analysis.test_part import find_evaluation
    from aifs_tune.config.cross_validation import CrossValidation
    from aifs_tune.execution.confirm import confirm as confirm_study
    from aifs_tune.execution.confirm import evaluate_test

    cv = CrossValidation(folds=folds, repeats=repeats, seed=seed)
    earlier = find_evaluation(open_local_study(study, storage).storage, study) if test else None
    if earlier is not None and earlier.is_final_model:
        raise ConflictError(
            f"the test set of study {study!r} was used for {earlier.candidate}; allowed: confirm without --test"
        )
    with progress_callback() as callback:
        options = _options(workers, timeout, address, allow_unauthenticated, callback)
        found = confirm_study(study, storage=storage, top=top, baseline=baseline, cv=cv, options=options)
    tested, refused = find_evaluation(found.study.storage, study), None
    if test:
        try:
            with progress_callback() as callback:
                options = _options(workers, timeout, address, allow_unauthenticated, callback)
                tested = evaluate_test(study, found.leader, storage=storage, options=options)
        except ConflictError as error:
            refused = error  # the confirmation is printed first
    _print(found, tested, as_json)
    if refused is not None:
        raise refused


def compare(
    study: StudyArgument,
    entries: Annotated[
        list[str],
        typer.Argument(
            metavar="TRIAL|STUDY[:TRIAL]...",
            help="Trials of STUDY, the first one is the baseline; or other studies, whose best trial is compared with "
            "the best of STUDY.",
        ),
    ],
    folds: FoldsOption = 5,
    repeats: RepeatsOption = 2,
    seed: FoldSeedOption = 0,
    storage: StorageOption = None,
    workers: WorkersOption = None,
    timeout: TimeoutOption = None,
    address: AddressOption = None,
    allow_unauthenticated: AllowUnauthenticatedOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train chosen trials again and compare them with the first.

    They are trained with new seeds and folds, and may belong to several studies.
    """
    from aifs_tune.analysis.candidates import chosen_candidates
    from aifs_tune.config.cross_validation import CrossValidation
    from aifs_tune.execution.confirm import confirm_candidates

    cv = CrossValidation(folds=folds, repeats=repeats, seed=seed)
    with progress_callback() as callback:
        options = _options(workers, timeout, address, allow_unauthenticated, callback)
        found = confirm_candidates(
            study, lambda found: chosen_candidates(found, entries), storage, "compare", cv, options
        )
    _print(found, None, as_json)


def noise(
    sweep: SweepArgument,
    data: DataOption = None,
    folds: FoldsOption = 5,
    repeats: RepeatsOption = 2,
    seed: SeedOption = None,
    overrides: SetOption = None,
    storage: StorageOption = None,
    workers: WorkersOption = None,
    timeout: TimeoutOption = None,
    address: AddressOption = None,
    allow_unauthenticated: AllowUnauthenticatedOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure the noise of the default configuration.

    Trains the default configuration of a sweep file with several seeds and folds. Do this before a search.
    """
    from aifs_tune.config.cross_validation import CrossValidation
    from aifs_tune.execution.confirm import measure_noise

    cv = CrossValidation(folds=folds, repeats=repeats, seed=seed or 0)
    with progress_callback() as callback:
        options = _options(workers, timeout, address, allow_unauthenticated, callback)
        found = measure_noise(sweep, data=data, overrides=overrides or (), cv=cv, storage=storage, options=options)
    if as_json:
        print_json(found.to_json())
    else:
        out().print(found.text)


def _options(
    workers: int | None, timeout_s: float | None, address: str | None, allow_unauthenticated: bool, callback: Any
) -> SweepOptions:
    from aifs_tune.execution.confirm import SweepOptions

    return SweepOptions(workers, timeout_s, address, allow_unauthenticated, callback)


def _print(found: Confirmation, tested: HeldOutEvaluation | None, as_json: bool) -> None:
    from aifs_tune.cli.tables import render_confirmation, render_test_results

    if as_json:
        print_json(found.to_json() | ({"test": tested.to_json()} if tested else {}))
        return
    out().print(render_confirmation(found))
    if tested is not None:
        out().print(render_test_results(tested))
    else:
        echo_stderr(
            "\nThe test set has not been used yet. "
            f"--test evaluates {found.leader.name} on it; this can be done only once."
        )
