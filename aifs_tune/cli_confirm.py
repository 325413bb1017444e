"""Commands that say how sure a result is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from aifs_tune.cli_doors import (
    Address,
    AsJson,
    Overrides,
    Seed,
    StorageUrl,
    StudyName,
    SweepFile,
    Timeout,
    Unauthenticated,
    Workers,
    print_json,
    say,
)
from aifs_tune.cli_files import heard
from aifs_tune.cli_result import out
from aifs_tune.errors import ConflictError

if TYPE_CHECKING:
    from aifs_tune.confirmation import Confirmation
    from aifs_tune.confirming import SweepOptions, Tested

Folds = Annotated[int, typer.Option(min=1, max=100, help="Parts of what is not the test part, each validates once.")]
Repeats = Annotated[int, typer.Option(min=1, max=100, help="Times that the folds are dealt anew.")]
DealSeed = Annotated[int, typer.Option("--seed", min=0, help="Of the folds.")]


def confirm(
    study: StudyName,
    top: Annotated[int, typer.Option(min=1, metavar="K", help="The K best configurations.")] = 3,
    baseline: Annotated[
        int | None, typer.Option(min=0, metavar="TRIAL", help="To compare with; default: the default configuration.")
    ] = None,
    folds: Folds = 5,
    repeats: Repeats = 2,
    seed: DealSeed = 0,
    test: Annotated[
        bool, typer.Option("--test", help="Let the best of them answer the test part, which can be done once.")
    ] = False,
    storage: StorageUrl = None,
    workers: Workers = None,
    timeout: Timeout = None,
    address: Address = None,
    allow_unauthenticated: Unauthenticated = False,
    as_json: AsJson = False,
) -> None:
    """Train the best configurations and the baseline again, on fresh seeds and folds, and say which is better."""
    from aifs_tune.confirming import answer_test, find_tested
    from aifs_tune.confirming import confirm as confirm_study
    from aifs_tune.cross_validation import CrossValidation

    divisions = CrossValidation(folds=folds, repeats=repeats, seed=seed)
    with heard() as listener:
        options = _options(workers, timeout, address, allow_unauthenticated, listener)
        found = confirm_study(study, storage=storage, top=top, baseline=baseline, divisions=divisions, options=options)
    tested, refused = find_tested(found.study.storage, study), None
    if test:
        try:
            with heard() as listener:
                options = _options(workers, timeout, address, allow_unauthenticated, listener)
                tested = answer_test(study, found.leader, storage=storage, options=options)
        except ConflictError as error:
            refused = error  # what was found is printed all the same
    _print(found, tested, as_json)
    if refused is not None:
        raise refused


def compare(
    study: StudyName,
    entries: Annotated[
        list[str],
        typer.Argument(
            metavar="TRIAL|STUDY[:TRIAL]...",
            help="Trials, the first as the baseline; or other studies, whose best is compared with the best here.",
        ),
    ],
    folds: Folds = 5,
    repeats: Repeats = 2,
    seed: DealSeed = 0,
    storage: StorageUrl = None,
    workers: Workers = None,
    timeout: Timeout = None,
    address: Address = None,
    allow_unauthenticated: Unauthenticated = False,
    as_json: AsJson = False,
) -> None:
    """Train trials of one study or several again, on fresh seeds and folds, and compare them with the first one."""
    from aifs_tune.confirming import confirmed
    from aifs_tune.contenders import chosen_contenders
    from aifs_tune.cross_validation import CrossValidation

    divisions = CrossValidation(folds=folds, repeats=repeats, seed=seed)
    with heard() as listener:
        options = _options(workers, timeout, address, allow_unauthenticated, listener)
        found = confirmed(
            study, lambda found: chosen_contenders(found, entries), storage, "compare", divisions, options
        )
    _print(found, None, as_json)


def noise(
    sweep: SweepFile,
    data: Annotated[str | None, typer.Option(metavar="PATH", help="As for run.")] = None,
    folds: Folds = 5,
    repeats: Repeats = 2,
    seed: Seed = None,
    overrides: Overrides = None,
    storage: StorageUrl = None,
    workers: Workers = None,
    timeout: Timeout = None,
    address: Address = None,
    allow_unauthenticated: Unauthenticated = False,
    as_json: AsJson = False,
) -> None:
    """Say how much the default configuration of a sweep file scatters over seeds and folds, before a search."""
    from aifs_tune.cross_validation import CrossValidation
    from aifs_tune.noise import measure_noise

    divisions = CrossValidation(folds=folds, repeats=repeats, seed=seed or 0)
    with heard() as listener:
        options = _options(workers, timeout, address, allow_unauthenticated, listener)
        found = measure_noise(
            sweep, data=data, overrides=overrides or (), divisions=divisions, storage=storage, options=options
        )
    if as_json:
        print_json(found.to_json())
    else:
        out().print(found.text)


def _options(
    workers: int | None, timeout_s: float | None, address: str | None, allow_unauthenticated: bool, listener: Any
) -> SweepOptions:
    from aifs_tune.confirming import SweepOptions

    return SweepOptions(workers, timeout_s, address, allow_unauthenticated, listener)


def _print(found: Confirmation, tested: Tested | None, as_json: bool) -> None:
    from aifs_tune.screens_confirm import confirmation_screen, tested_screen

    if as_json:
        print_json(found.to_json() | ({"test": tested.to_json()} if tested else {}))
        return
    out().print(confirmation_screen(found))
    if tested is not None:
        out().print(tested_screen(tested))
    else:
        say(f"\nThe test part is locked: with --test, {found.leader.name} answers it, once.")
