"""The command line: arguments in, a table or JSON out.

Results go to stdout, talk to stderr. Exit 0 done, 1 the work failed, 2 the request was wrong.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated

import typer

from aifs_tune.cli import analyse as cli_analyse
from aifs_tune.cli import bundle, cluster, files, instrument, service
from aifs_tune.cli import confirm as cli_confirm
from aifs_tune.cli import report as cli_report
from aifs_tune.cli.options import (
    AddressOption,
    AllowUnauthenticatedOption,
    EpochsOption,
    FindJobAddressOption,
    JsonOption,
    SeedOption,
    SetOption,
    StorageOption,
    StrictOption,
    StudyArgument,
    StudyOption,
    SweepArgument,
    TimeoutOption,
    TrialsOption,
    WarmStartOption,
    WorkersOption,
    echo_stderr,
    open_local_study,
    print_json,
)
from aifs_tune.cli.result import FormatOption, OutputOption, out, print_result, print_table
from aifs_tune.cli.target import find_service, find_target_study
from aifs_tune.errors import AifsTuneError, RequestError
from aifs_tune.execution.timing import process_age_s
from aifs_tune.study.trial import State, selected

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Automated experiment design for science: find the best configuration of a trainer or an instrument.",
)


@app.command()
def run(
    sweep: SweepArgument,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="A folder of images per class, or the file it learns from; or the URL of one (s3, gs, az, file).",
        ),
    ] = None,
    study: StudyOption = None,
    storage: StorageOption = None,
    trials: TrialsOption = None,
    epochs: EpochsOption = None,
    workers: WorkersOption = None,
    timeout: TimeoutOption = None,
    seed: SeedOption = None,
    address: AddressOption = None,
    allow_unauthenticated: AllowUnauthenticatedOption = False,
    overrides: SetOption = None,
    warm_start: WarmStartOption = None,
    warm_start_storage: Annotated[
        str | None, typer.Option(metavar="URL", help="Where the studies of --warm-start are; default: --storage.")
    ] = None,
    strict: StrictOption = False,
    profile: Annotated[bool, typer.Option("--profile", help="Say where the time went.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Run a sweep and print the best configuration."""
    from aifs_tune.execution.sweep import load_sweep

    ready = load_sweep(sweep, data=data, overrides=overrides or ())
    began = process_age_s()
    with files.progress_callback() as callback:
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
            warm_start=warm_start or None,
            warm_start_storage=warm_start_storage,
            callback=callback,
        )
    result.profile.stages = {"start": began, **result.profile.stages}
    print_result(result, as_json, with_profile=profile)


@app.command()
def resume(
    study: StudyArgument,
    storage: StorageOption = None,
    workers: WorkersOption = None,
    timeout: TimeoutOption = None,
    address: AddressOption = None,
    allow_unauthenticated: AllowUnauthenticatedOption = False,
    as_json: JsonOption = False,
) -> None:
    """Finish exactly the trials that a stopped sweep was asked for; as a job if the address is http://HEAD:8265."""
    from aifs_tune.execution import sweep

    if cluster.resume_as_job(study, storage, workers, timeout, address, allow_unauthenticated, as_json):
        return
    with files.progress_callback() as callback:
        result = sweep.resume(
            study,
            storage=storage,
            workers=workers,
            timeout_s=timeout,
            address=address,
            allow_unauthenticated=allow_unauthenticated,
            callback=callback,
        )
    print_result(result, as_json)


@app.command()
def best(
    study: StudyArgument,
    top: Annotated[int | None, typer.Option(min=1, metavar="K", help="The K best trials.")] = None,
    storage: StorageOption = None,
    as_json: JsonOption = False,
    as_yaml: Annotated[bool, typer.Option("--yaml", help="Print YAML.")] = False,
) -> None:
    """Print the best configuration of a study."""
    from aifs_tune.cli.tables import render_best
    from aifs_tune.publishing.summary import best_summary

    answer = best_summary(find_target_study(study, storage), top=top)
    if as_json:
        print_json(answer)
    elif as_yaml:
        import yaml

        typer.echo(yaml.safe_dump(answer, sort_keys=False, allow_unicode=True), nl=False)
    else:
        out().print(render_best(answer))


@app.command()
def trials(
    study: StudyArgument,
    output_format: FormatOption = "table",
    output: OutputOption = None,
    state: Annotated[State | None, typer.Option(help="Those in this state alone.")] = None,
    overdue: Annotated[bool, typer.Option("--overdue", help="Those alone whose lease has run out.")] = False,
    owner: Annotated[str | None, typer.Option(metavar="NAME", help="Those alone that this one has.")] = None,
    label: Annotated[str | None, typer.Option(metavar="TEXT", help="Those of this sample alone.")] = None,
    storage: StorageOption = None,
) -> None:
    """Print the trials of a study, all or some."""
    from aifs_tune.cli.tables import render_trials
    from aifs_tune.study.dataframe import trials_table

    opened = find_target_study(study, storage)
    chosen = selected(opened.all_trials(), state=state, is_overdue=overdue, owner=owner, label=label)
    print_table(
        output_format,
        output,
        render=lambda: render_trials(opened, chosen),
        rows=lambda: [trial.to_json() for trial in chosen],
        table=lambda: trials_table(chosen, list(opened.spec.space.root)),
    )


@app.command()
def studies(storage: StorageOption = None, as_json: JsonOption = False) -> None:
    """List the studies of a storage."""
    from aifs_tune.cli.tables import render_studies
    from aifs_tune.publishing.summary import studies_summary
    from aifs_tune.storage.storage import Storage

    answer = studies_summary(find_service(storage) or Storage(storage))
    if as_json:
        print_json(answer)
    else:
        out().print(render_studies(answer))


@app.command()
def status(
    study: StudyArgument,
    storage: StorageOption = None,
    address: FindJobAddressOption = None,
    allow_unauthenticated: AllowUnauthenticatedOption = False,
    as_json: JsonOption = False,
) -> None:
    """Say how far a study is and which process works on it, and how its job is with --address."""
    from aifs_tune.cli.tables import render_status
    from aifs_tune.publishing.summary import status_summary

    answer = status_summary(open_local_study(study, storage))
    if address is not None:
        answer["job"] = cluster.job_summary(cluster.cluster_jobs(address, allow_unauthenticated).newest(study))
    if as_json:
        print_json(answer)
    else:
        out().print(render_status(answer))


@app.command()
def stop(
    study: StudyArgument,
    storage: StorageOption = None,
    address: FindJobAddressOption = None,
    allow_unauthenticated: AllowUnauthenticatedOption = False,
) -> None:
    """Stop the sweep that runs on this machine, or as a job at --address; it can be resumed."""
    import socket

    if address is not None:
        job = cluster.cluster_jobs(address, allow_unauthenticated).stop(study)
        echo_stderr(f"asked job {job.id} to stop; continue with: aifs-tune resume {study} --address {address}")
        return
    opened = open_local_study(study, storage)
    owner = opened.storage.lock(study).holder()
    if owner is None:
        raise RequestError(f"study {study!r}: no sweep is running")
    if owner.host != socket.gethostname():
        raise RequestError(f"study {study!r}: its sweep is {owner}; stop it there")
    os.kill(owner.pid, signal.SIGINT)
    echo_stderr(f"asked {owner} to stop; continue with: aifs-tune resume {study}")


for command in (
    instrument.ask,
    cli_report.report,
    instrument.tell,
    cli_analyse.importance,
    cli_analyse.analyse,
    cli_confirm.confirm,
    cli_confirm.compare,
    cli_confirm.noise,
    instrument.renew,
    instrument.recommend,
    cluster.submit,
    cluster.logs,
    files.space,
    files.check_data,
    files.simulate_sky,
    service.serve,
    bundle.export,
    bundle.reproduce,
):
    app.command()(command)
app.command("import")(bundle.import_bundle)
app.add_typer(service.tokens, name="token")


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
        echo_stderr(f"aifs-tune: {error}")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
