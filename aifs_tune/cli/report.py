"""``report``: a study as something to read; with a trial, what an instrument measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from aifs_tune.cli.instrument import MetricOption, report_measurement
from aifs_tune.cli.options import StorageOption, StudyArgument, echo_stderr, open_local_study
from aifs_tune.errors import RequestError


def report(
    study: StudyArgument,
    trial: Annotated[
        int | None, typer.Argument(min=0, metavar="TRIAL", help="Of a measurement: the number that ask printed.")
    ] = None,
    epoch: Annotated[int | None, typer.Argument(min=1, metavar="EPOCH", help="Of a measurement.")] = None,
    value: Annotated[
        float | None, typer.Argument(metavar="VALUE", help="Of a measurement: the objective; or give --metric.")
    ] = None,
    metric: MetricOption = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Of the report.")] = None,
    report_format: Annotated[
        Literal["html", "pdf", "md", "latex", "csv"] | None,
        typer.Option("--format", help="Default: by the ending of FILE; latex and csv are one table, for a paper."),
    ] = None,
    table: Annotated[
        Literal["results", "test", "space", "trials"] | None,
        typer.Option(help="Of latex and csv; default: results."),
    ] = None,
    storage: StorageOption = None,
) -> None:
    """Write a report of a study: -o report.html, report.pdf or report.md. With TRIAL EPOCH VALUE, store what a running
    trial measured instead."""
    if trial is not None:
        if output is not None or report_format is not None or table is not None:
            raise RequestError(
                "report: TRIAL is of a measurement, -o and --format of a report; allowed: one of the two"
            )
        if epoch is None:
            raise RequestError("report: a measurement needs TRIAL and EPOCH")
        report_measurement(study, trial, epoch, value, metric, storage)
        return
    if metric:
        raise RequestError("report: --metric is of a measurement; allowed with it: TRIAL EPOCH")
    _write(study, output, report_format, table, storage)


def _write(
    study: str,
    output: Path | None,
    report_format: Literal["html", "pdf", "md", "latex", "csv"] | None,
    table: Literal["results", "test", "space", "trials"] | None,
    storage: str | None,
) -> None:
    from aifs_tune.publishing.report.write import format_of, table_text, write_report

    wanted = report_format if output is None else format_of(output, report_format)
    if table is not None and wanted not in ("latex", "csv"):
        raise RequestError("--table: a report has all tables; allowed with it: --format latex or csv")
    if output is None:
        if wanted not in ("latex", "csv"):
            raise RequestError(
                "report: give -o FILE.html, FILE.pdf or FILE.md for a report (or TRIAL EPOCH VALUE for a measurement)"
            )
        opened = open_local_study(study, storage)
        typer.echo(table_text(opened, wanted, table or "results"), nl=False)
        return
    opened = open_local_study(study, storage)
    written = write_report(opened, output, format=wanted, table=table or "results", tell=echo_stderr)
    more = f" and {len(written) - 1} pictures in {written[1].parent}" if len(written) > 1 else ""
    echo_stderr(f"wrote {written[0]}{more}")
