"""Entry point of the command line: the commands in groups, each with an example, and errors as exit codes.

Results go to stdout, progress and remarks to stderr. The exit code is 0 if all is done, 1 if the work failed and 2 if
the request was wrong.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Annotated, NamedTuple

import typer

import aifs_tune
from aifs_tune._util.packages import missing_packages_named
from aifs_tune.cli import (
    analyse,
    bundle,
    cluster,
    columns,
    confirm,
    files,
    instrument,
    manage,
    model,
    report,
    service,
    studies,
    sweeps,
)
from aifs_tune.cli.help import CommandWithExample, TitledGroup, examples
from aifs_tune.cli.options import echo_stderr
from aifs_tune.errors import AifsTuneError, UntrustedCodeError


class Command(NamedTuple):
    """One command: its function, an example of its use, and its name where that is not the function's."""

    function: Callable[..., None]
    example: str
    name: str | None = None


COMMANDS: dict[str, tuple[Command, ...]] = {
    "Sweeps": (
        Command(sweeps.run, "run quick_sky --trials 8"),
        Command(files.space, "space celestial_cnn --set space.dropout=0.3"),
        Command(sweeps.status, "status quick-sky"),
        Command(sweeps.stop, "stop quick-sky"),
        Command(sweeps.resume, "resume quick-sky --workers 2"),
        Command(cluster.submit, "submit celestial_cnn --address http://head:8265 --data s3://lab/survey"),
        Command(cluster.logs, "logs quick-sky --trial 3"),
    ),
    "Studies": (
        Command(studies.studies, "studies --storage sqlite:///lab.db"),
        Command(studies.doctor, "doctor --storage sqlite:///lab.db"),
        Command(manage.note, 'note quick-sky "the lid was open" --trial 3'),
        Command(manage.copy, "copy quick-sky quick-sky-2"),
        Command(manage.rename, "rename quick-sky first-sky"),
        Command(manage.delete, "delete quick-sky --yes"),
    ),
    "Results": (
        Command(studies.best, "best quick-sky --top 5"),
        Command(studies.trials, "trials quick-sky --format csv --output trials.csv"),
        Command(model.predict, "predict quick-sky new_images/ -o answers.csv"),
        Command(model.explain, "explain quick-sky new_images/ -o explained"),
        Command(columns.select_columns, "select-columns gene-expression -o selected"),
        Command(model.design, 'design steel-strength --maximise "yield strength" -o next.csv'),
        Command(analyse.importance, "importance quick-sky"),
        Command(analyse.analyse, "analyse quick-sky --table contour --first dropout --second learning_rate"),
    ),
    "Instruments": (
        Command(instrument.ask, "ask crystals --sweep crystal_growth --owner furnace-2 --lease 3d"),
        Command(instrument.tell, "tell crystals 0 0.82"),
        Command(instrument.enqueue, "enqueue crystals temperature_K=900 time_h=24"),
        Command(instrument.attach, "attach crystals temperature_K=900 time_h=24 --value 0.7"),
        Command(instrument.cancel, 'cancel crystals 3 --reason "no sample left"'),
        Command(instrument.renew, "renew crystals 0 --lease 2d"),
        Command(instrument.recommend, "recommend crystals"),
    ),
    "Trust": (
        Command(confirm.noise, "noise quick_sky --folds 5 --repeats 2"),
        Command(confirm.confirm, "confirm quick-sky --top 3"),
        Command(confirm.compare, "compare quick-sky 12 7 --folds 5"),
        Command(model.finalize, "finalize quick-sky --ensemble 3"),
    ),
    "Publishing": (
        Command(report.report, "report quick-sky -o report.html"),
        Command(bundle.export, 'export quick-sky -o bundle --author "Ada Lovelace" --licence CC-BY-4.0'),
        Command(bundle.reproduce, "reproduce bundle --data survey"),
        Command(bundle.import_bundle, "import bundle --study earlier", name="import"),
    ),
    "Service": (
        Command(service.serve, "serve --storage sqlite:///lab.db --port 8000"),
        Command(service.audit, "audit --study crystals"),
    ),
    "Data": (
        Command(files.check_data, "check-data celestial_cnn --data survey"),
        Command(files.simulate_sky, "simulate-sky survey --images 2000"),
    ),
}
"""The commands by the title of their group, in the order of the help."""


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"aifs-tune {aifs_tune.__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; may stand anywhere in a command.")
    ] = False,
    trust_code: Annotated[
        list[str] | None,
        typer.Option(
            "--trust-code",
            metavar="NAME",
            help="Function or sampler, module:name, that somebody else's study or bundle may run; may stand anywhere "
            "in a command.",
        ),
    ] = None,
) -> None:
    """Take the options of the program itself; both are dealt with elsewhere."""


def _make_app() -> typer.Typer:
    app = typer.Typer(
        cls=TitledGroup,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        help="Automated experiment design for science: find the best configuration of a trainer or an instrument.",
        epilog=examples("simulate-sky survey", "run celestial_cnn --data survey", "best celestial-cnn"),
    )
    app.callback()(_options)
    for title, commands in COMMANDS.items():
        for command in commands:
            epilog = examples(command.example)
            app.command(command.name, cls=CommandWithExample, rich_help_panel=title, epilog=epilog)(command.function)
    app.add_typer(service.tokens, name="token", rich_help_panel="Service")
    return app


app = _make_app()


def main() -> None:
    """Run ``aifs-tune``: an error becomes one line and an exit code; ``--debug`` shows the traceback."""
    debug = "--debug" in sys.argv
    arguments, trusted = _without_trust([argument for argument in sys.argv[1:] if argument != "--debug"])
    signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    while True:
        try:
            with missing_packages_named():
                if trusted:
                    from aifs_tune.config.trusted_code import trust

                    trust(trusted)
                app(args=arguments, prog_name="aifs-tune")
        except UntrustedCodeError as error:
            if debug:
                raise
            echo_stderr(f"aifs-tune: {error}")
            if not (sys.stdin.isatty() and sys.stderr.isatty() and typer.confirm(f"Run {error.name}?", err=True)):
                sys.exit(error.exit_code)
            trusted.append(error.name)
        except AifsTuneError as error:
            if debug:
                raise
            echo_stderr(f"aifs-tune: {error}")
            sys.exit(error.exit_code)


def _without_trust(arguments: list[str]) -> tuple[list[str], list[str]]:
    """The arguments without ``--trust-code NAME``, and the names."""
    others, names = list[str](), list[str]()
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":
            return [*others, argument, *rest], names
        if argument.startswith("--trust-code="):
            names.append(argument.partition("=")[2])
        elif argument == "--trust-code" and (name := next(rest, None)) is not None:
            names.append(name)
        else:
            others.append(argument)
    return others, names


if __name__ == "__main__":
    main()
