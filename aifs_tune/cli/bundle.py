"""Commands that export a study for publication, reproduce it and import it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from aifs_tune.cli.files import progress_callback
from aifs_tune.cli.options import (
    AddressOption,
    AllowUnauthenticatedOption,
    JsonOption,
    StorageOption,
    StudyArgument,
    StudyOption,
    TimeoutOption,
    WorkersOption,
    echo_stderr,
    print_json,
)
from aifs_tune.cli.result import next_command, out, storage_option
from aifs_tune.errors import RequestError, WorkError

BundleArgument = Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder that export wrote.")]
ImportArgument = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="Folder that export wrote, the JSON document of a study, the folder of an experiment of Ray Tune, or with "
        "--optuna-study a storage of Optuna.",
    ),
]
BundleDataOption = Annotated[
    str | None, typer.Option("--data", metavar="PATH", help="Data of the study on this machine; see run --help.")
]


def export(
    study: StudyArgument,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="New folder to write.")],
    title: Annotated[str | None, typer.Option(metavar="TEXT", help="Title. Default: the study's name.")] = None,
    author: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[;ORCID]", help='An author as "Given Family" or "Family, Given". Can be repeated.'),
    ] = None,
    licence: Annotated[
        str | None, typer.Option("--licence", "--license", metavar="SPDX", help="Licence, such as CC-BY-4.0.")
    ] = None,
    zenodo: Annotated[bool, typer.Option("--zenodo", help="Also write .zenodo.json. Nothing is uploaded.")] = False,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Export a study as a folder to publish (RO-Crate).

    The folder contains the trials, the best configuration, its model and its scores.
    """
    from aifs_tune.publishing.bundle.export import export as export_study

    made = export_study(
        study, output, storage=storage, title=title, authors=author or (), licence=licence, zenodo=zenodo
    )
    if as_json:
        print_json(made.to_json())
        return
    for name in made.files:
        typer.echo(f"{output}/{name}")
    for what, why in made.missing.items():
        echo_stderr(f"no {what}: {why}")
    echo_stderr(f"SHA-256 of the metadata, which contain the SHA-256 of every file: {made.sha256}")
    data = " --data PATH" if made.needs_data else ""
    echo_stderr(f"\nNext: {next_command('reproduce', str(output))}{data}")


def reproduce(
    bundle: BundleArgument,
    data: BundleDataOption = None,
    seeds: Annotated[
        int, typer.Option(min=0, max=1000, metavar="K", help="New seeds to train with, besides the recorded one.")
    ] = 3,
    allow_changed_data: Annotated[
        bool, typer.Option("--allow-changed-data", help="Train even if the data have changed.")
    ] = False,
    storage: StorageOption = None,
    workers: WorkersOption = None,
    timeout: TimeoutOption = None,
    address: AddressOption = None,
    allow_unauthenticated: AllowUnauthenticatedOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train the best configuration of a bundle again and compare.

    Tells whether the recorded score is reached again within the noise.
    """
    from aifs_tune.execution.confirm import SweepOptions
    from aifs_tune.publishing.bundle.reproduce import reproduce as reproduce_bundle

    with progress_callback() as callback:
        options = SweepOptions(workers, timeout, address, allow_unauthenticated, callback)
        found = reproduce_bundle(
            bundle,
            data=data,
            seeds=seeds,
            allow_changed_data=allow_changed_data,
            storage=storage,
            options=options,
        )
    if as_json:
        print_json(found.to_json())
    else:
        out().print(found.verdict.text, markup=False, highlight=False)
        if found.changed_data is not None:
            echo_stderr(f"\nNote: {found.changed_data}")
    if not found.is_reproduced:
        raise WorkError(f"{bundle}: the recorded score was not reached again; see study {found.study.name}")


def import_bundle(
    source: ImportArgument,
    study: StudyOption = None,
    data: BundleDataOption = None,
    optuna_study: Annotated[
        str | None,
        typer.Option("--optuna-study", metavar="NAME", help="Study to copy from SOURCE, a storage URL or SQLite file."),
    ] = None,
    metric: Annotated[
        str | None, typer.Option(metavar="NAME", help="Objective among the results of Ray Tune. Default: its own.")
    ] = None,
    mode: Annotated[
        str | None, typer.Option(metavar="MODE", help="max or min: whether a large or a small objective is good.")
    ] = None,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Import the study of a bundle into a storage, a study that Optuna made, or results of Ray Tune.

    The study has the same trials, and its search can be continued.
    """
    from aifs_tune.cli.tables import render_status
    from aifs_tune.publishing.bundle.load import import_study
    from aifs_tune.publishing.summary import status_summary
    from aifs_tune.study.optuna_import import import_optuna
    from aifs_tune.study.ray_tune_import import import_ray_tune, is_ray_tune_folder
    from aifs_tune.study.record import record_of

    left_out: dict[str, str] = {}
    is_of_ray_tune = optuna_study is None and is_ray_tune_folder(Path(source))
    if data is not None and (is_of_ray_tune or optuna_study is not None):
        raise RequestError("--data: a study of Optuna or Ray Tune has no data; allowed: no --data")
    for option, value in (("--metric", metric), ("--mode", mode)):
        if value is not None and not is_of_ray_tune:
            raise RequestError(f"{option}: {value} is for the folder of an experiment of Ray Tune; {source} is none")
    if is_of_ray_tune:
        made, left_out = import_ray_tune(source, metric=metric, mode=_mode(mode), study=study, storage=storage)
    elif optuna_study is not None:
        made, left_out = import_optuna(optuna_study, source, study=study, storage=storage)
    else:
        made = import_study(source, storage=storage, study=study, data=data)
    answer = status_summary(record_of(made))
    if as_json:
        print_json(answer)
    else:
        out().print(render_status(answer))
    for what, reason in left_out.items():
        echo_stderr(f"{what}: {reason}")
    if not as_json:
        echo_stderr(f"\nNext: {next_command('best', made.name)}{storage_option(made.storage)}")


def _mode(given: str | None) -> Literal["max", "min"] | None:
    if given is None:
        return None
    if given == "max":
        return "max"
    if given == "min":
        return "min"
    raise RequestError(f"--mode: {given!r} is no mode; allowed: max, min")
