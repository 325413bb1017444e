"""Output of the commands: tables, files, the result of a sweep, and the next command to type."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from aifs_tune._util.formatting import printable
from aifs_tune.cli.options import echo_stderr, json_text, print_json
from aifs_tune.errors import RequestError, WorkError
from aifs_tune.study.failures import commonest_failure
from aifs_tune.study.trial import FINAL

if TYPE_CHECKING:
    import pandas
    from rich.console import Console, RenderableType

    from aifs_tune.storage.storage import Storage


FormatOption = Annotated[Literal["table", "json", "csv", "parquet"], typer.Option("--format", help="Output format.")]
OutputOption = Annotated[
    Path | None, typer.Option("--output", metavar="FILE", help="File to write, instead of stdout.")
]

_PIPE_WIDTH = 240
"""Width of a table that goes into a file or pipe, where no terminal wraps it."""


def out() -> Console:
    """Console for results: stdout."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=_PIPE_WIDTH)


def print_table(
    output_format: Literal["table", "json", "csv", "parquet"],
    output: Path | None,
    *,
    render: Callable[[], RenderableType],
    rows: Callable[[], list[dict[str, Any]]],
    table: Callable[[], pandas.DataFrame],
) -> None:
    """Print rows as a table, JSON or CSV, or write them to a file.

    Raises
    ------
    RequestError
        If the format does not fit the output.
    """
    if output_format == "table":
        if output is not None:
            raise RequestError(
                "--output: --format table is only printed; allowed with --output: --format json, csv or parquet"
            )
        out().print(render())
    elif output_format == "json":
        if output is None:
            print_json(rows())
        else:
            output.write_text(json_text(rows()) + "\n")
    elif output is None and output_format == "parquet":
        raise RequestError("--format parquet writes a file: give --output FILE")
    elif output is None:
        text = table().to_csv(index=False)
        typer.echo(printable(text) if sys.stdout.isatty() else text, nl=False)
    else:
        from aifs_tune.study.dataframe import write_table

        write_table(table(), output, output_format)


def print_result(result: Any, as_json: bool, *, with_profile: bool = False) -> None:
    """Print the best configuration of a finished sweep.

    Raises
    ------
    WorkError
        If no trial is complete.
    """
    from aifs_tune.cli.tables import render_best, render_profile
    from aifs_tune.publishing.remarks import remarks_on
    from aifs_tune.publishing.summary import best_summary
    from aifs_tune.study.record import record_of

    study = record_of(result.study)
    counts = study.counts()
    n_ended = sum(counts[state] for state in FINAL)
    if n_ended < study.n_requested:
        echo_stderr(
            f"{n_ended} of {study.n_requested} trials have ended. Continue with: {program_name()} resume {study.name}"
        )
    if not counts["complete"]:
        states = ", ".join(f"{n} {state}" for state, n in counts.items() if n)
        why = commonest_failure(study.all_trials())
        raise WorkError(
            f"study {study.name}: no trial is complete ({states}); "
            + (f"{why}; " if why else "")
            + f"see: {program_name()} trials {study.name}"
        )
    answer = best_summary(study)
    if as_json:
        told = {"profile": result.profile.to_json()} if with_profile else {}
        print_json(answer | {"wall_s": round(result.wall_s, 3)} | told)
        return
    out().print(render_best(answer))
    if with_profile:
        out().print(render_profile(result.profile.to_json()))
    remarks = remarks_on(study)
    for text in remarks.texts:
        echo_stderr(f"\n{text}.")
    echo_stderr(f"\nNext: {next_command(*remarks.next)}{storage_option(study.storage)}")


def program_name() -> str:
    """Name of this program as it is typed: ``aifs-tune`` if the shell finds it, else as it was started."""
    if shutil.which("aifs-tune"):
        return "aifs-tune"
    started = Path(sys.argv[0])
    return "python -m aifs_tune" if started.name == "__main__.py" else os.path.relpath(started)


def next_command(command: str, *words: str) -> str:
    """A command line of this program."""
    return " ".join([program_name(), command, *words])


def storage_option(storage: Storage) -> str:
    """``--storage`` and the URL of a storage, with a leading space; empty for the default storage."""
    from aifs_tune.storage.storage import given_url, is_at

    return "" if is_at(storage, given_url(None)) else f" --storage {storage.shown_url}"
