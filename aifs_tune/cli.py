"""The command line: arguments in, a table or JSON out.

Results go to stdout, talk to stderr. Exit 0 done, 1 the work failed, 2 the request was wrong.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from aifs_tune import cli_bundle, cli_cluster, cli_confirm, cli_files, cli_instrument, cli_service
from aifs_tune.cli_doors import (
    Address,
    AsJson,
    Epochs,
    NewStudy,
    OfJobs,
    Overrides,
    Seed,
    StorageUrl,
    Strict,
    StudyName,
    SweepFile,
    Timeout,
    Trials,
    Unauthenticated,
    WarmStart,
    Workers,
    json_text,
    open_study_named,
    print_json,
    say,
)
from aifs_tune.cli_elsewhere import find_service, open_study
from aifs_tune.cli_result import out, print_result
from aifs_tune.errors import AifsTuneError, RequestError, border_of
from aifs_tune.profile import process_age_s
from aifs_tune.trial import State, selected

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Automated experiment design for science: find the best configuration of a trainer or an instrument.",
)


@app.command()
def run(
    sweep: SweepFile,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="A folder of images per class, or the file it learns from; or the URL of one (s3, gs, az, file).",
        ),
    ] = None,
    study: NewStudy = None,
    storage: StorageUrl = None,
    trials: Trials = None,
    epochs: Epochs = None,
    workers: Workers = None,
    timeout: Timeout = None,
    seed: Seed = None,
    address: Address = None,
    allow_unauthenticated: Unauthenticated = False,
    overrides: Overrides = None,
    warm_start: WarmStart = None,
    strict: Strict = False,
    profile: Annotated[bool, typer.Option("--profile", help="Say where the time went.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run a sweep and print the best configuration."""
    from aifs_tune.sweep import load_sweep

    ready = load_sweep(sweep, data=data, overrides=overrides or ())
    began = process_age_s()
    with cli_files.heard() as listener:
        result = ready.run(
            trials=trials,
            epochs=epochs,
            workers=workers,
            timeout_s=timeout,
            seed=seed,
            storage=storage,
            study=study,
            address=address,
            allow_unauthenticated=allow_unauthenticated,
            strict=strict,
            warm_start=warm_start,
            listener=listener,
        )
    result.profile.stages = {"start": began, **result.profile.stages}
    print_result(result, as_json, with_profile=profile)


@app.command()
def resume(
    study: StudyName,
    storage: StorageUrl = None,
    workers: Workers = None,
    timeout: Timeout = None,
    address: Address = None,
    allow_unauthenticated: Unauthenticated = False,
    as_json: AsJson = False,
) -> None:
    """Finish exactly the trials that a stopped sweep was asked for; as a job if the address is http://HEAD:8265."""
    from aifs_tune import sweep

    if cli_cluster.resumes_as_job(study, storage, workers, timeout, address, allow_unauthenticated, as_json):
        return
    with cli_files.heard() as listener:
        result = sweep.resume(
            study,
            storage=storage,
            workers=workers,
            timeout_s=timeout,
            address=address,
            allow_unauthenticated=allow_unauthenticated,
            listener=listener,
        )
    print_result(result, as_json)


@app.command()
def best(
    study: StudyName,
    top: Annotated[int | None, typer.Option(min=1, metavar="K", help="The K best trials.")] = None,
    storage: StorageUrl = None,
    as_json: AsJson = False,
    as_yaml: Annotated[bool, typer.Option("--yaml", help="Print YAML.")] = False,
) -> None:
    """Print the best configuration of a study."""
    from aifs_tune.answers import best_answer
    from aifs_tune.screens import best_screen

    answer = best_answer(open_study(study, storage), top=top)
    if as_json:
        print_json(answer)
    elif as_yaml:
        import yaml

        typer.echo(yaml.safe_dump(answer, sort_keys=False, allow_unicode=True), nl=False)
    else:
        out().print(best_screen(answer))


@app.command()
def trials(
    study: StudyName,
    output_format: Annotated[
        Literal["table", "json", "csv", "parquet"], typer.Option("--format", help="Of what is printed.")
    ] = "table",
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a file instead of stdout.")] = None,
    state: Annotated[State | None, typer.Option(help="Those in this state alone.")] = None,
    overdue: Annotated[bool, typer.Option("--overdue", help="Those alone whose lease has run out.")] = False,
    owner: Annotated[str | None, typer.Option(metavar="NAME", help="Those alone that this one has.")] = None,
    label: Annotated[str | None, typer.Option(metavar="TEXT", help="Those of this sample alone.")] = None,
    storage: StorageUrl = None,
) -> None:
    """Print the trials of a study, all or some."""
    from aifs_tune.screens import trials_screen
    from aifs_tune.table import trials_table, write_table

    opened = open_study(study, storage)
    chosen = selected(opened.all_trials(), state=state, is_overdue=overdue, owner=owner, label=label)
    if output_format == "table":
        if output is not None:
            raise RequestError("--output: a table is for reading; allowed with it: --format json, csv or parquet")
        out().print(trials_screen(opened, chosen))
    elif output_format == "json":
        listed = [trial.to_json() for trial in chosen]
        if output is None:
            print_json(listed)
        else:
            output.write_text(json_text(listed) + "\n")
    elif output is None and output_format == "parquet":
        raise RequestError("--format parquet writes a file: give --output FILE")
    else:
        table = trials_table(chosen, list(opened.spec.space.root))
        if output is None:
            typer.echo(table.to_csv(index=False), nl=False)
        else:
            write_table(table, output, output_format)


@app.command()
def studies(storage: StorageUrl = None, as_json: AsJson = False) -> None:
    """List the studies of a storage."""
    from aifs_tune.answers import studies_answer
    from aifs_tune.screens import studies_screen
    from aifs_tune.storage import Storage

    answer = studies_answer(find_service(storage) or Storage(storage))
    if as_json:
        print_json(answer)
    else:
        out().print(studies_screen(answer))


@app.command()
def status(
    study: StudyName,
    storage: StorageUrl = None,
    address: OfJobs = None,
    allow_unauthenticated: Unauthenticated = False,
    as_json: AsJson = False,
) -> None:
    """Say how far a study is and which process works on it, and how its job is with --address."""
    from aifs_tune.answers import status_answer
    from aifs_tune.screens import status_screen

    answer = status_answer(open_study_named(study, storage))
    if address is not None:
        answer["job"] = cli_cluster.job_answer(cli_cluster.cluster(address, allow_unauthenticated).newest(study))
    if as_json:
        print_json(answer)
    else:
        out().print(status_screen(answer))


@app.command()
def stop(
    study: StudyName,
    storage: StorageUrl = None,
    address: OfJobs = None,
    allow_unauthenticated: Unauthenticated = False,
) -> None:
    """Stop the sweep that runs on this machine, or as a job at --address; it can be resumed."""
    import socket

    if address is not None:
        job = cli_cluster.cluster(address, allow_unauthenticated).stop(study)
        say(f"asked job {job.id} to stop; continue with: aifs-tune resume {study} --address {address}")
        return
    opened = open_study_named(study, storage)
    owner = opened.storage.lock(study).owner()
    if owner is None:
        raise RequestError(f"study {study!r}: no sweep is running")
    if owner.host != socket.gethostname():
        raise RequestError(f"study {study!r}: its sweep is {owner}; stop it there")
    os.kill(owner.pid, signal.SIGINT)
    say(f"asked {owner} to stop; continue with: aifs-tune resume {study}")


for command in (
    cli_instrument.ask,
    cli_instrument.report,
    cli_instrument.tell,
    cli_confirm.confirm,
    cli_confirm.compare,
    cli_confirm.noise,
    cli_instrument.renew,
    cli_instrument.advice,
    cli_cluster.submit,
    cli_cluster.logs,
    cli_files.space,
    cli_files.check_data,
    cli_files.simulate_sky,
    cli_service.serve,
    cli_bundle.export,
    cli_bundle.reproduce,
):
    app.command()(command)
app.command("import")(cli_bundle.import_bundle)
app.add_typer(cli_service.tokens, name="token")


def main() -> None:
    """Entry point of ``aifs-tune``: errors become one line and an exit code; ``--debug`` shows the traceback."""
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    sys.path.insert(0, os.getcwd())  # a lab's own trainer module lies where the command is typed
    signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    try:
        app(args=arguments, prog_name="aifs-tune")
    except AifsTuneError as error:
        if debug:
            raise
        say(f"aifs-tune: {error}")
        sys.exit(border_of(error).exit_code)


if __name__ == "__main__":
    main()
